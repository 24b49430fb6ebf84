"""What the process does when it is told to stop or to reload, and how it leaves.

| signal                      | effect                                                          |
| --------------------------- | --------------------------------------------------------------- |
| first SIGTERM or SIGINT     | drain, then exit 0; exit 1 if the grace ran out and calls were cut |
| any further one             | exit at once with 128 + its number; calls in flight are lost      |
| SIGHUP                      | certificates and tokens are read again, and models that changed   |
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import NoReturn

logger = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGINT)

CUT_STATUS = 1
"""Exit status if calls had to be cut."""

FAULT_STATUS = 3
"""Exit status if a worker died or hung: the supervisor must start a new process."""


class Signals:
    """Signals as events.

    Attributes:
        stop: The event that the first SIGTERM or SIGINT sets.
        reload_secrets: The event that SIGHUP sets. The code that reads them again clears it.
        reload_models: Another that SIGHUP sets. The code that loads them clears it.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload_secrets = asyncio.Event()
        self.reload_models = asyncio.Event()

    def listen(self) -> None:
        """Handles the signals on the running event loop. Only the main thread may call it."""
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, self._begin_stop)
        loop.add_signal_handler(signal.SIGHUP, self._ask_reload)

    def _ask_reload(self) -> None:
        self.reload_secrets.set()
        self.reload_models.set()

    def _begin_stop(self) -> None:
        self.stop.set()
        for number in _STOPS:
            asyncio.get_running_loop().remove_signal_handler(number)
            # The loop may be what hangs, so the next signal does not go through it. SIG_DFL would
            # not do: the kernel ignores it for the first process of a container.
            signal.signal(number, _end_at_once)


def _end_at_once(number: int, _: object) -> NoReturn:
    logger.warning("%s while stopping: ends at once", signal.Signals(number).name)
    leave(128 + number)


def leave(status: int) -> NoReturn:
    """Ends the process now. Threads are not waited for, since a run cannot be interrupted.

    Nor does Python end them: before 3.14 a thread that comes back from C++ after the end of Python
    aborts the process (SIGABRT).
    """
    logging.shutdown()
    os._exit(status)
