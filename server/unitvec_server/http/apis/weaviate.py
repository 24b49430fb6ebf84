"""What Weaviate's module text2vec-transformers asks of its inference container."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

import msgspec

from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import current_caller
from unitvec_server.engine.requests import EncodeOptions, TextList
from unitvec_server.errors import RequestError
from unitvec_server.http.exchange import Reply, Request, Route, from_json, to_json
from unitvec_server.http.inputs import find_prompt, vector_headers

API = "weaviate"

_ROLES = {"query": "query", "passage": "document"}
"""Role of the texts of a task."""


class VectorsConfig(msgspec.Struct):
    """How the text becomes a vector. The pooling is the model's own, whatever is asked for."""

    pooling_strategy: str | None = None
    task_type: Literal["query", "passage", ""] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=0)] | None = None


class VectorsRequest(msgspec.Struct):
    """The body of ``/vectors``."""

    text: str
    config: VectorsConfig | None = None


class VectorsReply(msgspec.Struct):
    """The reply of ``/vectors``."""

    text: str
    vector: list[float]
    dim: int


_VECTORS = msgspec.json.Decoder(VectorsRequest, strict=False)  # numbers as pydantic takes them


class WeaviateError(TypedDict):
    """An error as the container writes it."""

    error: str


def write_error(error: RequestError, status: int, request_id: str) -> WeaviateError:  # noqa: ARG001
    """An error as the container writes it."""
    return {"error": str(error)}


class Weaviate:
    """Answers Weaviate, with the default model.

    Args:
        backend: The engine, once it is there.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """The routes."""
        types = ("The vector of a text", VectorsRequest, VectorsReply, {"text": "a cat"})
        meta = ("The default model", None, dict)
        return [
            Route("POST", "/vectors", self.vectors, API, write_error, *types),
            Route("GET", "/meta", self.meta, API, write_error, *meta),
        ]

    async def vectors(self, request: Request) -> Reply:
        """Embeds a text."""
        engine = self._backend.engine
        asked: VectorsRequest = from_json(_VECTORS, request.body)
        config, model = asked.config or VectorsConfig(), engine.model("")
        role = _ROLES.get(config.task_type or "")
        options = EncodeOptions(
            dimensions=config.dimensions or 0,
            expected=request.expected,
            prompt_name=None if role is None else find_prompt(model, role),
        )
        wanted = TextList([asked.text], options, "text")
        [embedded] = await engine.embed(model, [wanted], caller=current_caller())
        vector = embedded.vectors[0]
        body = to_json({"text": asked.text, "vector": vector, "dim": len(vector)})
        return Reply(body, headers=vector_headers(model, embedded))

    async def meta(self, _: Request) -> Reply:
        """Describes the default model."""
        model = self._backend.engine.model("")
        manifest = model.manifest
        facts = {"model_name": manifest.model_id, "dim": manifest.dim, **model.identity._asdict()}
        return Reply(to_json({**facts, "max_seq_length": manifest.max_seq_length}))
