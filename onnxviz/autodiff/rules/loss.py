"""Losses, as training graphs hold them."""
