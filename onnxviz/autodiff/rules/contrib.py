"""Operators of the domain com.microsoft that deployed files hold."""
