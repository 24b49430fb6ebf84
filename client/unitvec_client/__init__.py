"""Typed Python client of unitvec."""
