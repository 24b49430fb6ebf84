"""The HTTP API of text-embeddings-inference, as far as it is about vectors and tokens."""

from __future__ import annotations

import functools
import time
from typing import Any

import msgspec

from unitvec_protos import __version__
from unitvec_server.config import ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import current_caller
from unitvec_server.doors.tokens import place_tokens
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Embedded, EncodeOptions, Model, TextList
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import InvalidRequest, RequestError
from unitvec_server.http.apis.tei_bodies import (
    DecodeRequest,
    EmbedRequest,
    RootRequest,
    SimilarityParameters,
    SimilarityRequest,
    TeiError,
    Token,
    TokenizeRequest,
)
from unitvec_server.http.exchange import Reply, Request, Route, from_json, to_json
from unitvec_server.http.inputs import (
    read_input,
    vector_headers,
    write_list,
    write_vectors,
)
from unitvec_server.model.tokenizer import TokenizedText, Truncation
from unitvec_server.vectors.scores import Metric, cross_scores, prepare

API = "tei"

_SIDES = {"Right": Truncation.END, "Left": Truncation.START}

_EMBED = msgspec.json.Decoder(EmbedRequest)
_SIMILARITY = msgspec.json.Decoder(SimilarityRequest)
_TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
_DECODE = msgspec.json.Decoder(DecodeRequest)
_ROOT = msgspec.json.Decoder(RootRequest)

_SOME_IDS = {"ids": [[2, 3, 4]]}

_TYPES = {400: "empty", 424: "backend", 429: "overloaded"}


def write_error(error: RequestError, status: int, request_id: str) -> TeiError:  # noqa: ARG001
    """An error as TEI writes it."""
    kind = _TYPES.get(status) or ("validation" if status < 500 else "unhealthy")
    return {"error": str(error), "error_type": kind}


class Tei:
    """Answers clients of text-embeddings-inference, with the default model.

    Args:
        backend: The engine, once it is there.
        config: The configuration, whose limits it tells.
    """

    def __init__(self, backend: Backend, config: ServerConfig) -> None:
        self._backend, self._config = backend, config

    def routes(self) -> list[Route]:
        """The routes."""
        texts = {"inputs": ["a cat", "a mat"]}
        pairs = {"inputs": {"source_sentence": "a cat", "sentences": ["a dog", "a mat"]}}
        vectors = list[list[float]]
        embed = "Vectors of texts or token ids"
        both = "As /embed, or as /similarity if the inputs are an object"
        similar = "Cosine similarity of a sentence with others"
        tokens = list[list[Token]]
        table: list[tuple[Any, ...]] = [
            ("/embed", self.embed, embed, EmbedRequest, vectors, texts),
            ("/", self.root, both, (EmbedRequest, SimilarityRequest), list[Any], texts),
            ("/similarity", self.similarity, similar, SimilarityRequest, list[float], pairs),
            ("/tokenize", self.tokenize, "Tokens of texts", TokenizeRequest, tokens, texts),
            ("/decode", self.decode, "Texts of token ids", DecodeRequest, list[str], _SOME_IDS),
        ]
        routes = [
            Route("POST", path, handler, API, write_error, *rest) for path, handler, *rest in table
        ]
        info = "The default model and the limits"
        routes.append(Route("GET", "/info", self.info, API, write_error, info, None, dict))
        return routes

    async def root(self, request: Request) -> Reply:
        """Embeds or compares, as Hugging Face's own client asks without a path."""
        asked: RootRequest = from_json(_ROOT, request.body)
        if isinstance(asked.inputs, dict):
            return await self.similarity(request)
        return await self.embed(request)

    async def embed(self, request: Request) -> Reply:
        """Embeds."""
        started_ns = time.monotonic_ns()
        asked: EmbedRequest = from_json(_EMBED, request.body)
        _refuse_empty(asked.inputs)
        options = _options(asked, request, normalize=asked.normalize, dimensions=asked.dimensions)
        engine, model = self._default()
        wanted = read_input(asked.inputs, options, field="inputs")
        [embedded] = await engine.embed(model, [wanted], caller=current_caller())
        body = await write_vectors(engine, embedded.vectors)
        timings = _timings([embedded], _count_chars(asked.inputs), started_ns)
        return Reply(body, headers=timings | vector_headers(model, embedded))

    async def similarity(self, request: Request) -> Reply:
        """Compares."""
        started_ns = time.monotonic_ns()
        asked: SimilarityRequest = from_json(_SIMILARITY, request.body)
        source, sentences = asked.inputs.source_sentence, asked.inputs.sentences
        _refuse_empty([source, *sentences])
        options = _options(asked.parameters or SimilarityParameters(), request)
        lists = [
            TextList([source], options, "inputs.source_sentence"),
            TextList(sentences, options, "inputs.sentences"),
        ]
        engine, model = self._default()
        embedded = await engine.embed(model, lists, caller=current_caller())
        left, right = (prepare(one.vectors, Metric.COSINE) for one in embedded)
        body = to_json(cross_scores(left, right, Metric.COSINE)[0])
        timings = _timings(embedded, _count_chars([source, *sentences]), started_ns)
        return Reply(body, headers=timings | vector_headers(model, *embedded))

    async def tokenize(self, request: Request) -> Reply:
        """Splits texts without cutting them."""
        asked: TokenizeRequest = from_json(_TOKENIZE, request.body)
        _refuse_empty(asked.inputs)
        texts = _listed(asked.inputs)
        engine, model = self._default()
        prompt = engine.prompt(model, asked.prompt_name)
        found = await engine.tokenize(model, texts, prompt_name=asked.prompt_name, side=None)
        with_special = asked.add_special_tokens is not False
        write = functools.partial(_write_tokens, found, prompt, texts, with_special=with_special)
        return Reply(await run_off_loop(engine.executor, write))

    async def decode(self, request: Request) -> Reply:
        """Joins token ids."""
        asked: DecodeRequest = from_json(_DECODE, request.body)
        wanted = read_input(asked.ids, EncodeOptions(), field="ids")  # type: ignore[arg-type]
        engine, model = self._default()
        rows: Any = [] if isinstance(wanted, TextList) else wanted.ids
        skips = asked.skip_special_tokens is not False
        return Reply(to_json(await engine.decode(model, rows, skip_special_tokens=skips)))

    async def info(self, _: Request) -> Reply:
        """Describes the default model."""
        model = self._backend.engine.model("")
        return Reply(to_json(_describe(model, self._config)))

    def _default(self) -> tuple[Engine, Model]:
        engine = self._backend.engine
        return engine, engine.model("")


def _write_tokens(
    found: list[TokenizedText], prompt: str, texts: list[str], *, with_special: bool
) -> bytes:
    """The tokens of each text with their places in it and its prompt."""
    lists = []
    for one, text in zip(found, texts, strict=True):
        tokens = place_tokens(one, prompt + text, with_special=with_special)
        lists.append(write_list({**t._asdict(), "special": t.start is None} for t in tokens))
    return b"[" + b",".join(lists) + b"]"


def _options(
    asked: EmbedRequest | SimilarityParameters,
    request: Request,
    *,
    normalize: bool | None = None,
    dimensions: int | None = None,
) -> EncodeOptions:
    return EncodeOptions(
        normalize=normalize is not False,
        dimensions=dimensions or 0,
        prompt_name=asked.prompt_name,
        side=_SIDES[(asked.truncation_direction or "Right").capitalize()],
        refuses_long=asked.truncate is False,
        expected=request.expected,
    )


def _listed(inputs: Any) -> Any:
    return [inputs] if isinstance(inputs, str) else inputs


def _refuse_empty(inputs: Any) -> None:
    if not all(one != "" and one != [] for one in _listed(inputs)):
        raise InvalidRequest("inputs cannot be empty", reason="NO_TEXTS", field="inputs")


def _count_chars(inputs: Any) -> int:
    return sum(len(one) for one in _listed(inputs) if isinstance(one, str))


def _timings(parts: list[Embedded], chars: int, started_ns: int) -> dict[str, str]:
    """What a request cost, in ms."""
    total_ns = time.monotonic_ns() - started_ns
    found = {
        "x-compute-characters": chars,
        "x-compute-tokens": sum(sum(part.tokens) for part in parts),
        "x-compute-time": total_ns // 1_000_000,
        "x-total-time": total_ns // 1_000_000,
        "x-tokenization-time": max(part.tokenize_ns for part in parts) // 1_000_000,
        "x-queue-time": max(part.queue_ns for part in parts) // 1_000_000,
        "x-inference-time": max(part.infer_ns for part in parts) // 1_000_000,
    }
    return {"x-compute-type": "unitvec"} | {name: str(value) for name, value in found.items()}


def _describe(model: Model, config: ServerConfig) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "model_id": manifest.model_id,
        "model_sha": manifest.revision or None,
        "model_dtype": model.precision,
        "model_type": {"embedding": {"pooling": manifest.pooling}},
        "max_concurrent_requests": config.max_calls,
        "max_input_length": manifest.max_seq_length,
        "max_batch_tokens": model.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": config.max_texts_per_request,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        **model.identity._asdict(),
    }
