"""What is told of the server."""
