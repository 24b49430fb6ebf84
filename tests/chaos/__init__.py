"""Chaos: real servers under load, faults and hostile input, every answer compared.

`python -m tests.chaos run` injects faults, `soak` mixes them for minutes, `fuzz` sends what no
honest client sends. Each prints its figures and ends with status 1 if an answer was lost or wrong.
"""
