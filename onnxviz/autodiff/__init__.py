"""Reverse-mode differentiation, graph in and graph out. Builds graphs; runs nothing."""
