"""Cohere's embeddings, version 2."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import msgspec
import numpy as np

from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import current_caller
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Embedded, EncodeOptions, Model, TextList
from unitvec_server.errors import InvalidRequest, RequestError
from unitvec_server.http.exchange import Reply, Request, Route, from_json, to_json
from unitvec_server.http.inputs import (
    Dimensions,
    find_model,
    find_prompt,
    to_base64,
    vector_headers,
    write_vectors,
)
from unitvec_server.model.fingerprints import Fingerprints
from unitvec_server.model.tokenizer import Truncation
from unitvec_server.vectors.packing import Dtype, Floats, pack

API = "cohere"

InputType = Literal["search_document", "search_query", "classification", "clustering"]
Kind = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]

_PROMPTS = {
    "search_query": ("query", "search_query"),
    "search_document": ("document", "search_document"),
    "classification": ("classification", "Classification"),
    "clustering": ("clustering", "Clustering"),
}
"""Role of the texts of an input type, and other names that models have for its prompt."""

_SIDES = {"START": Truncation.START, "END": Truncation.END, "NONE": None}


class Content(msgspec.Struct):
    """A part of an input: only text is embedded here."""

    type: str
    text: str | None = None


class Input(msgspec.Struct):
    """An input in parts."""

    content: list[Content]


class EmbedByTypeRequest(msgspec.Struct):
    """The body of ``/v2/embed``: `texts`, or `inputs` that are texts."""

    model: str | None = None
    texts: list[str] | None = None
    inputs: list[Input] | None = None
    images: list[str] | None = None
    input_type: (
        Literal["search_document", "search_query", "classification", "clustering"] | None
    ) = None
    embedding_types: list[Kind] | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    output_dimension: Dimensions | None = None


class Embeddings(msgspec.Struct, rename={"float_": "float"}):
    """The vectors in each form that was asked for."""

    float_: list[list[float]] | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class EmbedByTypeReply(msgspec.Struct):
    """The reply of ``/v2/embed``."""

    id: str
    embeddings: Embeddings
    texts: list[str]
    meta: dict[str, Any]
    response_type: Literal["embeddings_by_type"]


_EMBED = msgspec.json.Decoder(EmbedByTypeRequest, strict=False)  # numbers as pydantic takes them


class CohereError(TypedDict):
    """An error as Cohere writes it."""

    id: str
    message: str


def write_error(error: RequestError, status: int, request_id: str) -> CohereError:  # noqa: ARG001
    """An error as Cohere writes it."""
    return {"id": request_id, "message": str(error)}


class Cohere:
    """Answers Cohere's clients.

    Args:
        backend: The engine, once it is there.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """The routes."""
        example = {"texts": ["a cat"], "input_type": "search_query"}
        types = (
            "Vectors of texts, in several forms",
            EmbedByTypeRequest,
            EmbedByTypeReply,
            example,
        )
        return [Route("POST", "/v2/embed", self.embed, API, write_error, *types)]

    async def embed(self, request: Request) -> Reply:
        """Embeds."""
        engine = self._backend.engine
        asked: EmbedByTypeRequest = from_json(_EMBED, request.body)
        texts = _read_texts(asked)
        model, expected = find_model(engine, asked.model or "", request.expected)
        wanted = TextList(texts, _options(asked, model, expected))
        [embedded] = await engine.embed(model, [wanted], caller=current_caller())
        kinds: list[Kind] = asked.embedding_types or ["float"]
        forms = [
            b'"%b":%b' % (kind.encode(), await _write(engine, embedded.vectors, kind))
            for kind in dict.fromkeys(kinds)
        ]
        rest = {
            "id": request.request_id,
            "texts": texts,
            "meta": _describe(embedded),
            "response_type": "embeddings_by_type",
        }
        body = b'{"embeddings":{%b},%b' % (b",".join(forms), to_json(rest)[1:])
        return Reply(body, headers=vector_headers(model, embedded))


def _describe(embedded: Embedded) -> dict[str, Any]:
    """What the vectors cost, and a warning for each text that was cut."""
    meta: dict[str, Any] = {
        "api_version": {"version": "2"},
        "billed_units": {"input_tokens": sum(embedded.tokens)},
    }
    if embedded.truncated:
        meta["warnings"] = [
            f"texts[{index}] is too long for the model: {tokens} tokens were left out"
            for index, tokens in embedded.truncated.items()
        ]
    return meta


def _read_texts(asked: EmbedByTypeRequest) -> list[str]:
    if asked.images:
        raise InvalidRequest("images are not embedded here; send texts", field="images")
    if asked.inputs and asked.texts:
        raise InvalidRequest("send texts or inputs, not both", field="texts")
    return [_join(one, index) for index, one in enumerate(asked.inputs or ())] or asked.texts or []


def _join(given: Input, index: int) -> str:
    """The text of an input, whose parts are joined by blanks."""
    parts = [part.text for part in given.content]
    if None in parts:
        raise InvalidRequest("only parts of text are embedded here", field=f"inputs[{index}]")
    return " ".join(filter(None, parts))


def _options(asked: EmbedByTypeRequest, model: Model, expected: Fingerprints) -> EncodeOptions:
    names = _PROMPTS.get(asked.input_type or "")
    truncate = asked.truncate or "END"
    return EncodeOptions(
        dimensions=asked.output_dimension or 0,
        prompt_name=None if names is None else find_prompt(model, *names),
        side=_SIDES[truncate],
        refuses_long=truncate == "NONE",
        expected=expected,
    )


async def _write(engine: Engine, vectors: Floats, kind: Kind) -> bytes:
    """Writes vectors in one form."""
    if kind == "float":
        return await write_vectors(engine, vectors)
    if kind == "base64":
        return to_json(to_base64(vectors))
    return await write_vectors(engine, _pack(vectors, kind))


def _pack(vectors: Floats, kind: Kind) -> np.ndarray[Any, Any]:
    """Packs vectors as small integers: each row on a scale of its own, or the signs of 8 numbers.

    The unsigned form of a byte is 128 more than the signed one, as in sentence-transformers.
    """
    rows = len(vectors)
    if kind in ("int8", "uint8"):
        codes = np.frombuffer(pack(vectors, Dtype.INT8).data, np.int8).reshape(rows, -1)
        return codes if kind == "int8" else (codes.astype(np.int16) + 128).astype(np.uint8)
    bits = np.frombuffer(pack(vectors, Dtype.BINARY).data, np.uint8).reshape(rows, -1)
    return bits if kind == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
