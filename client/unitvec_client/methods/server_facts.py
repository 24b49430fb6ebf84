"""What a client knows of its server: asked once, and anew where the server has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from unitvec_client.core.calls import CallContext, exchange
from unitvec_client.core.decoding import decode_server_info
from unitvec_client.core.rpcs import LIST_MODELS
from unitvec_client.core.steps import Drop, Script
from unitvec_client.errors import (
    MODEL_CHANGED,
    ErrorFacts,
    ModelNotFoundError,
    UnitvecError,
    tells_of_change,
)
from unitvec_client.results import ModelInfo, ServerInfo
from unitvec_protos.v1 import embedding_pb2 as pb

T = TypeVar("T")


@dataclass(slots=True)
class Knowledge:
    """The models and limits of a server. Threads may share it, and at worst ask twice.

    Attributes:
        info: Facts that the server stated; None before the first call.
    """

    info: ServerInfo | None = None

    def ask(self, context: CallContext) -> Script[ServerInfo]:
        """Ask the server, and remember the answer."""
        response = yield from exchange(context, LIST_MODELS, pb.ListModelsRequest())
        info = decode_server_info(response)
        self.info = info
        return info

    def find(self, context: CallContext, name: str) -> Script[tuple[ServerInfo, ModelInfo]]:
        """Return what the server said of itself and of a model; ask where that is not known.

        Raises:
            ModelNotFoundError: If the server has no model of this name.
            IdentityMismatchError: If its vectors are not the expected ones.
        """
        info = self.info
        model = None if info is None else _find_model(info, name)
        if info is None or model is None or not context.expect.fits(model.space, model.bits):
            info = yield from self.ask(context)
            model = _find_model(info, name)
        if model is None:
            names = ", ".join(known.name for known in info.models)
            facts = ErrorFacts(reason="MODEL_NOT_FOUND", field="model")
            raise ModelNotFoundError(f"no model {name!r}; the server has {names}", facts)
        context.expect.check(model.space, model.bits, model.name)
        return info, model

    def keep_right(self, context: CallContext, attempt: Callable[[], Script[T]]) -> Script[T]:
        """Make a call, and make it once more where the server turns out to have changed.

        Raises:
            UnitvecError: If it fails on what the server says of itself now.
        """
        known = self.info
        try:
            return (yield from attempt())
        except UnitvecError as error:
            changed = error.reason == MODEL_CHANGED
            if not (changed or (known is not None and tells_of_change(error))):
                raise
            info = self.info
            if info is None or info is known or known is None:
                info = yield from self.ask(context)
            if info == known and not changed:
                raise
        yield Drop()  # The first attempt may have left calls in flight.
        return (yield from attempt())

    def forget_on_error(self, script: Script[T]) -> Script[T]:
        """Make a call that cannot be repeated. After a failure, the next one asks the server."""
        try:
            return (yield from script)
        except UnitvecError as error:
            self.note(error)
            raise

    def note(self, error: UnitvecError) -> None:
        """Forget what the server said if this error tells of a change."""
        if tells_of_change(error):
            self.info = None


def _find_model(info: ServerInfo, name: str) -> ModelInfo | None:
    """Return the model of this name, or the default for an empty name; None if there is none."""
    for model in info.models:
        if model.name == name or (not name and model.is_default):
            return model
    return None if name else info.models[0]
