"""Serves the page of maps on this machine, and finds its texts by meaning."""

from __future__ import annotations

import contextlib
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client import Client, UnitvecError

NEAREST = 20
"""Texts that a search finds."""
MAX_BODY_BYTES = 100_000


class MapServer(ThreadingHTTPServer):
    """Answers GET / with the page and POST /search with the texts nearest to a query.

    Args:
        port: Port on this machine; 0 takes a free one.
        page: The page.
        vectors: (n, D), of its texts, of unit length.
        client: Embeds the queries.
    """

    daemon_threads = True

    def __init__(
        self, port: int, page: str, vectors: NDArray[np.floating[Any]], client: Client
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.page = page.encode()
        self._vectors, self._client = vectors, client

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://localhost:{self.server_port}/"

    def serve_until_interrupted(self) -> None:
        """Serves until Ctrl+C."""
        with contextlib.suppress(KeyboardInterrupt):
            self.serve_forever()

    def search(self, query: str) -> dict[str, list[Any]]:
        """Returns the indices of the texts nearest to the query, and their cosines."""
        cosines = self._vectors @ self._client.embed(query)
        indices = np.argsort(-cosines, kind="stable")[:NEAREST]
        return {
            "indices": indices.tolist(),
            "cosines": cosines[indices].astype(float).round(4).tolist(),
        }


class _Handler(BaseHTTPRequestHandler):
    server: MapServer

    def do_GET(self) -> None:
        if self._is_of_another_site():
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._answer(self.server.page, "text/html; charset=utf-8")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if self._is_of_another_site():
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        size_bytes = int(self.headers.get("content-length", 0))
        # Pages of other sites can send other types unasked, but not JSON.
        if self.headers.get("content-type") != "application/json" or size_bytes > MAX_BODY_BYTES:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        try:
            query = str(json.loads(self.rfile.read(size_bytes))["query"])
            found = self.server.search(query)
        except (ValueError, KeyError, TypeError):
            self.send_error(HTTPStatus.BAD_REQUEST)
        except UnitvecError as exc:
            self.log_error("%s", exc)
            self.send_error(HTTPStatus.BAD_GATEWAY)
        else:
            self._answer(json.dumps(found).encode(), "application/json")

    def _is_of_another_site(self) -> bool:
        """Whether a page came by a name of its own that leads here, too (DNS rebinding)."""
        name, _, _ = self.headers.get("host", "").partition(":")
        return name not in ("localhost", "127.0.0.1")

    def _answer(self, body: bytes, content_type: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Says nothing of each request."""
