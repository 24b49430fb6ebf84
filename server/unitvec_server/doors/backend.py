"""The engine as the doors see it: not there until the models are loaded."""

from __future__ import annotations

from unitvec_server.engine.engine import Engine
from unitvec_server.errors import Unavailable


class Backend:
    """Holds the engine for all doors."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def open(self, engine: Engine) -> None:
        """Lets requests in."""
        self._engine = engine

    @property
    def is_open(self) -> bool:
        """Whether requests are answered."""
        return self._engine is not None

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            Unavailable: The models are not loaded yet.
        """
        if self._engine is None:
            raise Unavailable("the server is starting; try again soon", reason="STARTING")
        return self._engine
