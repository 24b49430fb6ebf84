"""Calls as no client of gRPC makes them: messages as bytes, of which any part is sent."""

from __future__ import annotations

import socket
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived

from tests.serving import Server

_READ_BYTES = 2**20


class RawCalls:
    """A connection of HTTP/2 with any number of calls.

    Attributes:
        outcomes: `grpc-status` and `grpc-message` of the calls that ended, by stream.
    """

    def __init__(self, server: Server) -> None:
        host, _, port = server.target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http.initiate_connection()
        self._unsent: dict[int, memoryview] = {}  # of the calls that have not ended
        self.outcomes: dict[int, tuple[str, str]] = {}

    def begin(self, path: str, *, encoding: str | None = None) -> int:
        """Opens a call and returns its stream."""
        stream = self._http.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
        fields |= {"content-type": "application/grpc", "te": "trailers"}
        fields |= {"grpc-encoding": encoding} if encoding else {}
        self._http.send_headers(stream, list(fields.items()))
        self._unsent[stream] = memoryview(b"")
        return stream

    def send(self, stream: int, data: bytes) -> None:
        """What `push_until` is to send next, after all before it was sent."""
        assert not self._unsent[stream]
        self._unsent[stream] = memoryview(data)

    def push_until(self, is_done: Callable[[], bool]) -> None:
        """Sends what the server takes."""
        while not is_done():
            for stream in self._unsent:
                self._send_part(stream)
            self._socket.sendall(self._http.data_to_send())
            if is_done():
                return
            for event in self._http.receive_data(self._socket.recv(_READ_BYTES)):
                if isinstance(event, (ResponseReceived, TrailersReceived)):
                    self._note(event.stream_id, dict(event.headers))

    def is_all_sent(self) -> bool:
        """Whether there is nothing left to send in calls that have not ended."""
        return not any(self._unsent.values())

    def _send_part(self, stream: int) -> None:
        while count := min(
            len(self._unsent[stream]),
            self._http.local_flow_control_window(stream),
            self._http.max_outbound_frame_size,
        ):
            self._http.send_data(stream, bytes(self._unsent[stream][:count]))
            self._unsent[stream] = self._unsent[stream][count:]

    def _note(self, stream: int, headers: dict[str, str]) -> None:
        if status := headers.get("grpc-status"):
            self.outcomes[stream] = status, headers.get("grpc-message", "")
            self._unsent.pop(stream, None)

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()
