"""The command `unitvec`."""
