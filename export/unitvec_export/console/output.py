"""What becomes of standard output when its reader goes away."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def drop_standard_output() -> None:
    """Sends what is left to nowhere: Python flushes it at exit, and would complain again."""
    with suppress(OSError, ValueError):  # It has no number where something else stands in for it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
