"""What our commands share: how texts come in, and what a terminal shows."""
