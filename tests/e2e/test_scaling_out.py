"""A replica that joins is seen by clients that are there: by a name server whose answer grows."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving import Server
from unitvec_client.connection import ConnectionOptions, open_channel
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc

ADDRESS_RECORD = 1
MOST_CALLS = 2000
CALL_S = 30


class NameServer(socketserver.ThreadingUDPServer):
    """Answers each question for addresses (RFC 1035) with all that it has."""

    def __init__(self) -> None:
        self.addresses = ["127.0.0.1"]
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, sock = self.request
        end = query.index(b"\0", 12) + 5  # the name, its type and class
        [kind] = struct.unpack("!H", query[end - 4 : end - 2])
        found = self.server.addresses if kind == ADDRESS_RECORD else []
        head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, len(found), 0, 0)
        records = [
            struct.pack("!HHHIH", 0xC00C, ADDRESS_RECORD, 1, 0, 4) + socket.inet_aton(address)
            for address in found
        ]
        sock.sendto(head + query[12:end] + b"".join(records), self.client_address)


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_replica_that_joins_gets_calls(
    start: Callable[..., Server], artifact: Path, names: NameServer
) -> None:
    renewing = ("--max-connection-age-s", "0.5")
    first = start("--model", f"first={artifact}", *renewing)
    port = first.target.rpartition(":")[2]
    options = ConnectionOptions(
        load_balancing="round_robin",
        extra_options={"grpc.dns_min_time_between_resolutions_ms": 100},
    )
    target = f"dns://127.0.0.1:{names.server_address[1]}/unitvec.test:{port}"
    with open_channel(target, options) as channel:
        stub = pb_grpc.EmbeddingServiceStub(channel)

        def ask() -> str:
            request = pb.EmbedRequest(texts=["a cat"])
            return str(stub.Embed(request, wait_for_ready=True, timeout=CALL_S).model)

        assert {ask() for _ in range(20)} == {"first"}
        start("--model", f"second={artifact}", "--host", "127.0.0.2", "--port", port)
        names.addresses.append("127.0.0.2")
        calls = (ask() for _ in range(MOST_CALLS))
        assert "second" in calls
        assert {ask() for _ in range(20)} == {"first", "second"}
