"""The table of routes: what answers at a path."""

from __future__ import annotations

from collections.abc import Iterable

from unitvec_server.errors import InvalidRequest
from unitvec_server.http.exchange import ErrorWriter, Reply, Request, Route


class Routes:
    """Finds routes.

    Args:
        table: The routes.
        write_error: Makes the bodies of errors where there is no route.

    Attributes:
        table: The routes.
        fallbacks: What answers where there is none.
    """

    def __init__(self, table: Iterable[Route], write_error: ErrorWriter) -> None:
        self.table = tuple(table)
        self._paths: dict[str, dict[str, Route]] = {}
        self._prefixes: dict[str, dict[str, Route]] = {}
        for route in self.table:
            takes_more = route.path.endswith("/") and route.path != "/"
            paths = self._prefixes if takes_more else self._paths
            paths.setdefault(route.path, {})[route.method] = route
        self._nowhere = Route("", "", self._refuse_path, "other", write_error, "")
        self._otherwise = Route("", "", _refuse_method, "other", write_error, "")
        self._options = Route("", "", _tell_methods, "other", write_error, "", is_probe=True)
        self.fallbacks = (self._nowhere, self._otherwise, self._options)

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """The route of a request, and its argument."""
        by_method = self._paths.get(path)
        argument = ""
        if by_method is None:
            by_method, argument = self._find_longer(path)
        if by_method is None:
            return self._nowhere, path
        route = by_method.get("GET" if method == "HEAD" else method)
        if route is not None:
            return route, argument
        allowed = ", ".join([*by_method, *(["HEAD"] if "GET" in by_method else ()), "OPTIONS"])
        return (self._options if method == "OPTIONS" else self._otherwise), allowed

    def _find_longer(self, path: str) -> tuple[dict[str, Route] | None, str]:
        """The routes of a path with a slash too many, or of one that takes more."""
        if (by_method := self._paths.get(path.rstrip("/"))) is not None:
            return by_method, ""
        for prefix, by_method in self._prefixes.items():
            if path.startswith(prefix):
                return by_method, path[len(prefix) :]
        return None, ""

    async def _refuse_path(self, request: Request) -> Reply:
        """Names paths that end alike: an address of OpenAI's API lacks its `/v1` easily."""
        last = request.argument.rstrip("/").rpartition("/")[2]
        near = [path for path in self._paths if last and path.rpartition("/")[2] == last]
        what = f"there is nothing at {request.argument[:200]!r}"
        if near:
            what += f"; did you mean {' or '.join(near)}?"
        elif "/docs" in self._paths:
            what += "; /docs lists the paths"
        raise InvalidRequest(what, reason="NO_SUCH_PATH")


async def _refuse_method(request: Request) -> Reply:
    raise InvalidRequest(f"here only: {request.argument}", reason="NO_SUCH_METHOD")


async def _tell_methods(request: Request) -> Reply:
    return Reply(b"", status=204, headers={"allow": request.argument})
