"""What an artifact is and how its graph runs."""
