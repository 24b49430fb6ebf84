"""`tei.v1`: what clients of text-embeddings-inference call over gRPC.

`docs/migrating/tei.md` lists what differs from TEI, each on purpose.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from unitvec_protos import __version__
from unitvec_protos.tei import tei_pb2 as pb
from unitvec_server.config import ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import current_caller
from unitvec_server.engine.choices import worker_count
from unitvec_server.engine.requests import Caller, TextList
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import InvalidRequest
from unitvec_server.peers.tei_messages import (
    read_inputs,
    read_options,
    write_metadata,
    write_tokens,
    write_vector,
)
from unitvec_server.rpc.intake import Context
from unitvec_server.rpc.peer_api import PeerApi, rename_options
from unitvec_server.rpc.streams import Streams

_Request = TypeVar("_Request", pb.EmbedRequest, pb.EncodeRequest, pb.DecodeRequest)
_Reply = TypeVar("_Reply")

_REFUSED = {
    "Embed": ("EmbedSparse", "EmbedSparseStream", "EmbedAll", "EmbedAllStream"),
    "Predict": ("Predict", "PredictPair", "PredictStream", "PredictPairStream"),
    "Rerank": ("Rerank", "RerankStream"),
}
_ADVICE = "this server makes one vector of each text, and nothing else"

_DTYPES = {"fp32": "float32", "fp16": "float16"}
"""TEI's names of number types, where ours differ."""

_TOKEN_BYTES = 64
"""Bytes of memory of a token in a reply. Each byte of a request may stand for a token."""


def open_tei(config: ServerConfig, backend: Backend, streams: Streams) -> PeerApi:
    """Makes the API; its calls are answered once the models are loaded."""
    tei = _Tei(config, backend, streams)
    answers: Mapping[str, Callable[..., Any]] = {
        "Info": tei.info,
        "Embed": tei.embed,
        "EmbedStream": tei.embed_stream,
        "Tokenize": tei.tokenize,
        "TokenizeStream": tei.tokenize_stream,
        "Decode": tei.decode,
        "DecodeStream": tei.decode_stream,
    }
    refused = [f"/tei.v1.{each}/{name}" for each, names in _REFUSED.items() for name in names]
    return PeerApi(pb.DESCRIPTOR, answers, refused=refused, advice=_ADVICE)


class _Tei:
    """Answers the methods of all services of `tei.v1`, with the default model."""

    def __init__(self, config: ServerConfig, backend: Backend, streams: Streams) -> None:
        self._config, self._backend, self._streams = config, backend, streams
        self._threads = worker_count(config)

    async def info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:
        model = self._backend.engine.model("")
        return pb.InfoResponse(
            version=__version__,
            model_id=model.manifest.model_id,
            model_sha=model.manifest.revision or None,
            model_dtype=_DTYPES.get(model.precision, model.precision),
            model_type=pb.MODEL_TYPE_EMBEDDING,
            max_concurrent_requests=self._config.max_calls,
            max_input_length=model.manifest.max_seq_length,
            max_batch_tokens=model.max_batch_tokens,
            max_client_batch_size=self._config.max_texts_per_request,
            tokenization_workers=self._threads,
        )

    async def embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        return await self._embed(request, current_caller())

    def embed_stream(
        self, requests: AsyncIterator[pb.EmbedRequest], context: Context
    ) -> AsyncGenerator[pb.EmbedResponse]:
        caller = current_caller(waits=True)
        vector_bytes = 4 * self._backend.engine.model("").manifest.dim
        return self._answer_each(
            requests,
            lambda request: self._embed(request, caller),
            weigh=lambda request: request.ByteSize() + vector_bytes,
        )

    async def tokenize(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        engine = self._backend.engine
        model, inputs = engine.model(""), read_inputs(request)
        prompt_name = request.prompt_name if request.HasField("prompt_name") else None
        with rename_options("{}"):
            [split] = await engine.tokenize(model, [inputs], prompt_name=prompt_name, side=None)
        prompted = engine.prompt(model, prompt_name) + inputs
        with_special = request.add_special_tokens
        write = functools.partial(write_tokens, split, prompted, with_special=with_special)
        return await run_off_loop(engine.executor, write)

    def tokenize_stream(
        self, requests: AsyncIterator[pb.EncodeRequest], context: Context
    ) -> AsyncGenerator[pb.EncodeResponse]:
        return self._answer_each(
            requests, lambda request: self.tokenize(request, context), weigh=_weigh_tokens
        )

    async def decode(self, request: pb.DecodeRequest, context: Context) -> pb.DecodeResponse:
        if not request.ids:
            raise InvalidRequest("ids cannot be empty", reason="NO_TEXTS", field="ids")
        engine = self._backend.engine
        [text] = await engine.decode(
            engine.model(""), [request.ids], skip_special_tokens=request.skip_special_tokens
        )
        return pb.DecodeResponse(text=text)

    def decode_stream(
        self, requests: AsyncIterator[pb.DecodeRequest], context: Context
    ) -> AsyncGenerator[pb.DecodeResponse]:
        return self._answer_each(
            requests, lambda request: self.decode(request, context), weigh=_weigh_tokens
        )

    async def _embed(self, request: pb.EmbedRequest, caller: Caller) -> pb.EmbedResponse:
        started_ns = time.monotonic_ns()
        engine = self._backend.engine
        texts = TextList([read_inputs(request)], read_options(request), "inputs")
        with rename_options("{}"):
            [embedded] = await engine.embed(engine.model(""), [texts], caller=caller)
        response = write_vector(embedded.vectors)
        write_metadata(response.metadata, request.inputs, embedded, started_ns)
        return response

    async def _answer_each(
        self,
        requests: AsyncIterator[_Request],
        answer: Callable[[_Request], Awaitable[_Reply]],
        *,
        weigh: Callable[[_Request], int],
    ) -> AsyncGenerator[_Reply]:
        """Yields the replies in order. The first error ends the stream, as in TEI."""

        async def work(request: _Request) -> _Reply | Exception:
            try:
                return await answer(request)
            except Exception as exc:
                return exc

        outcomes = self._streams.answer(requests, work, weigh=weigh, in_order=True)
        async with contextlib.aclosing(outcomes):
            async for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome


def _weigh_tokens(request: pb.EncodeRequest | pb.DecodeRequest) -> int:
    return _TOKEN_BYTES * request.ByteSize()
