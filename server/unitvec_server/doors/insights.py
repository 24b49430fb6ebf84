"""What a door may tell of the server as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Insights(NamedTuple):
    """Functions that look at the server.

    Attributes:
        is_serving: Tells whether health says SERVING and the event loop is alive.
        scrape: Returns the metrics as Prometheus reads them. It may be called from any thread.
        grpc_port: Returns the port of gRPC, once it is listened on.
    """

    is_serving: Callable[[], bool]
    scrape: Callable[[], bytes]
    grpc_port: Callable[[], int]
