"""What each method of a client does, as scripts without I/O."""
