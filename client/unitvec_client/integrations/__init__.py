"""unitvec as the embedding provider of frameworks: one module each, imported where it is wanted.

This package imports none of them; each module names the extra that brings its framework.
"""
