"""`unitvec-serve`, from its first moment: signals are handled before anything heavy is imported.

Until then the kernel would ignore SIGTERM for the first process of a container, which would go on
to serve; SIGINT would show a stack trace, and SIGHUP end the server.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

_MISSING_STATUS = 2
"""That of a configuration that cannot be served."""


def main() -> NoReturn:
    """Runs the server, and ends the process; `unitvec_server.signals` tells the exit statuses."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    signal.signal(signal.SIGHUP, _go_on)
    # Else gRPC's core writes lines of its own, with which strangers could fill the log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    try:
        from unitvec_server import server, signals
    except ModuleNotFoundError as exc:
        if (exc.name or "unitvec").startswith("unitvec"):
            raise  # that one comes with the server itself
        from unitvec_protos.installation import explain_missing

        sys.stderr.write(explain_missing("unitvec-serve", exc.name, extra="server"))
        sys.exit(_MISSING_STATUS)
    signals.leave(server.main())


def _end(*_: object) -> None:
    os._exit(0)  # nothing has begun that could be left undone


def _go_on(*_: object) -> None:
    """Nothing has been read that could be read again."""


if __name__ == "__main__":
    main()
