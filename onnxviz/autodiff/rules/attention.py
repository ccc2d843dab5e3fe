"""Attention and what stands around it in transformers."""
