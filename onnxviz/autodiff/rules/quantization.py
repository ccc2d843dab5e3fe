"""Quantisers and quantised operators."""
