"""The methods for operators: they ask for what SIGHUP asks for, and wait for what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from unitvec_protos.v1 import admin_pb2 as pb
from unitvec_protos.v1 import admin_pb2_grpc as pb_grpc
from unitvec_server.doors.backend import Backend
from unitvec_server.engine.replacement import Reloaded
from unitvec_server.errors import Unavailable
from unitvec_server.rpc.intake import Context

Reload = Callable[[Sequence[str]], Awaitable[Sequence[Reloaded]]]
"""Reloads models by their names, all without."""


class AdminServicer(pb_grpc.AdminServiceServicer):
    """Serves `unitvec.v1.AdminService`.

    Args:
        backend: The engine, once the models are loaded.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._reload: Reload | None = None

    def open(self, reload: Reload) -> None:
        """Lets models be reloaded from now on."""
        self._reload = reload

    async def ReloadModels(
        self, request: pb.ReloadModelsRequest, context: Context
    ) -> pb.ReloadModelsResponse:
        """Reloads models, to the end whether or not the caller waits for it."""
        if self._reload is None:
            raise Unavailable("the server is starting; try again soon", reason="STARTING")
        engine = self._backend.engine
        names = [engine.model(name).name for name in request.models]
        outcomes = await asyncio.shield(asyncio.ensure_future(self._reload(names)))
        return pb.ReloadModelsResponse(models=[self._write(outcome) for outcome in outcomes])

    def _write(self, reloaded: Reloaded) -> pb.ReloadedModel:
        identity = self._backend.engine.model(reloaded.name).identity
        return pb.ReloadedModel(
            model=reloaded.name,
            outcome=f"RELOAD_OUTCOME_{reloaded.outcome.upper()}",
            reason=reloaded.reason,
            space=identity.space,
            bits=identity.bits,
        )
