"""`unitvec-serve` with limits that have no flag, for tests that start it as a process."""

from __future__ import annotations

import json
import os
from typing import Any, NoReturn

from unitvec_server import server
from unitvec_server.config import FixedLimits
from unitvec_server.signals import leave

VARIABLE = "FIXED_LIMITS"


def with_limits(module: str = __name__, **limits: float) -> dict[str, Any]:
    """How to start a server with these, by `tests.serving.ServerProcess`."""
    return {"variables": {VARIABLE: json.dumps(limits)}, "module": module}


def main() -> NoReturn:
    """Runs the server, and ends the process."""
    limits = FixedLimits(**json.loads(os.environ.get(VARIABLE, "{}")))
    leave(server.main(limits=limits))


if __name__ == "__main__":
    main()
