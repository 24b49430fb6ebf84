"""A model's folder as it lies on disk, before any library reads it."""
