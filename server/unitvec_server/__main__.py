"""`unitvec-serve`, from its first moment: signals are handled before anything heavy is imported.

Until then the kernel would ignore SIGTERM for the first process of a container, which would go on
to serve; SIGINT would show a stack trace, and SIGHUP end the server.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main() -> int:
    """Runs the server; `unitvec_server.signals` tells the exit statuses."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    signal.signal(signal.SIGHUP, _go_on)
    # Else gRPC writes a line for each failed handshake, with which strangers could fill the log.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

    from unitvec_server import server

    return server.main()


def _end(*_: object) -> NoReturn:
    os._exit(0)  # nothing has begun that could be left undone


def _go_on(*_: object) -> None:
    """Nothing has been read that could be read again."""


if __name__ == "__main__":
    sys.exit(main())
