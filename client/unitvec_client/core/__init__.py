"""Calls, retries, failures and inputs, without I/O: what all methods of a client are made of."""
