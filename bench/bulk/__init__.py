"""What a job on Ray is worth: `python -m bench bulk`."""
