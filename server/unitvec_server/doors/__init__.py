"""What all doors share: the record of a call, the limits of all calls together, statuses."""
