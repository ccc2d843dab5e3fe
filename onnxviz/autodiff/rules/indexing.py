"""Gathers and scatters: what was taken from a place goes back to it."""
