"""The parts of the server that metrics read from the start, before models are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

from unitvec_server.doors.calls import MethodTally
from unitvec_server.doors.rules import HouseRules
from unitvec_server.rpc.interceptor import Edge
from unitvec_server.rpc.servicer import EmbeddingServicer
from unitvec_server.rpc.streams import Streams
from unitvec_server.security.secrets import Secrets


@dataclasses.dataclass(frozen=True)
class Frontend:
    """The parts that are there from the start.

    Attributes:
        rules: What holds at every door, which counts what is in work.
        edge: The edge, which counts calls.
        servicer: The servicer, which holds documents of streams.
        streams: The streams, which hold messages.
        is_serving: Tells whether health says SERVING and the event loop is alive.
        secrets: The secrets, which know when the certificate expires.
        http: Counts of the requests of each route over HTTP.
    """

    rules: HouseRules
    edge: Edge
    servicer: EmbeddingServicer
    streams: Streams
    is_serving: Callable[[], bool]
    secrets: Secrets
    http: Collection[MethodTally] = ()
