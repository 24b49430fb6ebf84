"""OpenAI's embeddings and models."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import numpy as np

from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import current_caller
from unitvec_server.doors.statuses import status_of
from unitvec_server.engine.identity import check_expected
from unitvec_server.engine.requests import Embedded, EncodeOptions, IdsList, Model, WindowOptions
from unitvec_server.errors import InvalidRequest, RequestError
from unitvec_server.http.exchange import Reply, Request, Route, from_json, to_json
from unitvec_server.http.inputs import (
    Dimensions,
    Input,
    Switch,
    find_model,
    read_input,
    to_base64,
    vector_headers,
    write_rows,
)
from unitvec_server.model.fingerprints import Fingerprints

API = "openai"


class Windows(msgspec.Struct):
    """How long texts are cut into windows; no tokens stand for the longest text of the model."""

    tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    overlap_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    pooled: Switch = False


class EmbeddingsRequest(msgspec.Struct):
    """The body of ``/v1/embeddings``. All after `user` is ours.

    `prompt_name` is the name of a prompt of the model, as sentence-transformers has it. With
    `windows`, long texts become several vectors. With `partial`, texts fail one by one.
    """

    input: Input
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Dimensions | None = None
    user: str | None = None
    prompt_name: str | None = None
    windows: Windows | None = None
    partial: Switch | None = None


class Embedding(msgspec.Struct, omit_defaults=True):
    """One vector: numbers, or its float32 bytes in base64; null for a text that failed.

    The rest is there with windows: the part of a text that the vector is of, ends exclusive.
    """

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str | None
    text_index: int | None = None
    byte_start: int | None = None
    byte_end: int | None = None
    char_start: int | None = None
    char_end: int | None = None
    tokens: int | None = None


class TextError(msgspec.Struct):
    """Why a text of a partial request failed."""

    index: int
    message: str
    type: str
    param: str | None
    code: str


class CutText(msgspec.Struct):
    """A text that was cut, and how many of its tokens were left out."""

    index: int
    left_out_tokens: int


class Usage(msgspec.Struct):
    """Tokens that were encoded."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(msgspec.Struct):
    """The reply of ``/v1/embeddings``. What follows `usage` is ours, where there is some."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    truncated: list[CutText] | None = None
    errors: list[TextError] | None = None


class ModelReply(msgspec.Struct):
    """A model that is served. All but the first four fields are ours."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dimensions: int
    max_input_tokens: int
    space: str
    bits: str


class ModelsReply(msgspec.Struct):
    """The reply of ``/v1/models``."""

    object: Literal["list"]
    data: list[ModelReply]


class OpenAiErrorFields(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAiError(TypedDict):
    """An error as OpenAI writes it."""

    error: OpenAiErrorFields


_REQUEST = msgspec.json.Decoder(EmbeddingsRequest, strict=False)  # numbers as pydantic takes them

_TYPES = {401: "authentication_error", 404: "invalid_request_error", 429: "rate_limit_error"}


def write_error(error: RequestError, status: int, request_id: str) -> OpenAiError:  # noqa: ARG001
    """An error as OpenAI writes it: `type` by the status, `code` by the cause."""
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    field = error.field.removeprefix("options.") or None
    code = error.reason.lower()
    return {"error": {"message": str(error), "type": kind, "param": field, "code": code}}


class OpenAi:
    """Answers OpenAI's clients.

    Args:
        backend: The engine, once it is there.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """The routes."""
        types = (EmbeddingsRequest, EmbeddingsReply, {"input": ["a cat", "a mat"]})
        embed, models = "Vectors of texts or token ids", "The models that are served"
        return [
            Route("POST", "/v1/embeddings", self.embeddings, API, write_error, embed, *types),
            Route("GET", "/v1/models", self.models, API, write_error, models, None, ModelsReply),
            Route(
                *("GET", "/v1/models/", self.model, API, write_error, "One of them, by its id"),
                reply_type=ModelReply,
            ),
        ]

    async def embeddings(self, request: Request) -> Reply:
        """Embeds."""
        engine = self._backend.engine
        asked: EmbeddingsRequest = from_json(_REQUEST, request.body)
        model, expected = find_model(engine, asked.model or "", request.expected)
        wanted = read_input(asked.input, _options(asked, expected), field="input")
        wanted = dataclasses.replace(wanted, is_partial=bool(asked.partial))
        if isinstance(wanted, IdsList):
            _refuse_bare(wanted, model)
        [embedded] = await engine.embed(model, [wanted], caller=current_caller())
        as_text = asked.encoding_format == "base64"
        data = _entries(embedded, as_text=as_text)
        width = 1 if as_text else embedded.vectors.shape[1]
        written = await write_rows(engine, data, width=width)
        body = b'{"object":"list","data":[%b],%b' % (written, _tail(model, embedded))
        return Reply(body, headers=vector_headers(model, embedded))

    async def models(self, _: Request) -> Reply:
        """Lists the models."""
        data = [_describe(model) for model in self._backend.engine.models.values()]
        return Reply(to_json({"object": "list", "data": data}))

    async def model(self, request: Request) -> Reply:
        """Describes one model."""
        engine = self._backend.engine
        model, expected = find_model(engine, request.argument, request.expected)
        check_expected(model, expected, field="options")
        return Reply(to_json(_describe(model)))


def _options(asked: EmbeddingsRequest, expected: Fingerprints) -> EncodeOptions:
    windows = asked.windows
    return EncodeOptions(
        dimensions=asked.dimensions or 0,
        prompt_name=asked.prompt_name,
        expected=expected,
        windows=WindowOptions(*msgspec.structs.astuple(windows)) if windows else None,
    )


def _entries(embedded: Embedded, *, as_text: bool) -> list[dict[str, Any]]:
    """The vectors, each with what it is of."""
    vectors = np.ascontiguousarray(embedded.vectors)
    data: list[dict[str, Any]] = [
        {"object": "embedding", "index": index, "embedding": row}
        for index, row in enumerate(to_base64(vectors) if as_text else vectors)
    ]
    if embedded.windows:
        for entry, window in zip(data, embedded.windows, strict=True):
            entry.update(window._asdict())
    elif data:  # with windows there may be none, if all texts failed
        for index in embedded.failures:
            data[index]["embedding"] = None
    return data


def _refuse_bare(wanted: IdsList, model: Model) -> None:
    """Refuses token ids that look like those of OpenAI's tokenizer.

    Clients of OpenAI may split texts with it whatever the model is, and most words have ids there
    that a model here has for other words. They have no special tokens around them.
    """
    for index, ids in enumerate(wanted.ids):
        if not model.tokenizer.has_special_tokens(ids):
            field = "input" if len(wanted.ids) == 1 else f"input[{index}]"
            raise InvalidRequest(
                f"{field} has token ids without the special tokens of this model around them, as "
                "clients of OpenAI send those of its tokenizer (LangChain does unless "
                "check_embedding_ctx_length=False); send texts, or all ids of the model's own "
                "tokenizer",
                reason="FOREIGN_TOKEN_IDS",
                field=field,
            )


def _tail(model: Model, embedded: Embedded) -> bytes:
    """What follows the vectors, without the brace before it."""
    tokens = sum(embedded.tokens)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    tail: dict[str, Any] = {"model": model.name, "usage": usage}
    if embedded.truncated:
        tail["truncated"] = [
            {"index": index, "left_out_tokens": tokens}
            for index, tokens in embedded.truncated.items()
        ]
    if embedded.failures:
        tail["errors"] = [
            {"index": index, **write_error(error, int(status_of(error).http), "")["error"]}
            for index, error in embedded.failures.items()
        ]
    return to_json(tail)[1:]


def _describe(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": model.manifest.model_id.partition("/")[0],
        "dimensions": model.manifest.dim,
        "max_input_tokens": model.manifest.max_seq_length,
        **model.identity._asdict(),
    }
