"""Operators that sample pictures at computed places."""
