"""Recurrent layers, through their definition as a Scan."""
