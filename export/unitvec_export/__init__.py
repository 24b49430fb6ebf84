"""Exports sentence-transformers models to unitvec artifacts."""
