"""One module for each way to turn texts into vectors; each runs in a worker of its own."""
