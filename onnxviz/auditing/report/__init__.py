"""The report for people and for CI systems."""
