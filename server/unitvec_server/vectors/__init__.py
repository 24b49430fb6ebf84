"""Arithmetic on matrices of vectors."""
