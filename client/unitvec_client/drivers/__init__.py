"""Scripts carried out over a channel."""
