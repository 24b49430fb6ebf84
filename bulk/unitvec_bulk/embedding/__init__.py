"""From texts to vectors: in this process, or by a running fleet."""
