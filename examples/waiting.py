"""A line on the terminal while many texts are embedded, so that a long wait is seen to go on."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

from unitvec_client.console.terminal import StatusLine, waiting_for, working


def waiting(what: str) -> AbstractContextManager[StatusLine]:
    """Shows on a terminal what is waited for, and for how long, until the block is left."""
    return working(waiting_for(what), sys.stderr)
