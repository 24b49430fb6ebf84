"""The HTTP door: the APIs of other systems, as JSON, in front of the same engine."""
