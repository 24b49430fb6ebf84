"""Sends one request and says what came of it. Nothing is retried: failures are to be seen."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grpc

from unitvec_loadtest.answers import (
    References,
    failed_call,
    float32_matrix,
    judge_embed,
    judge_similarity,
)
from unitvec_loadtest.corpus import Corpus
from unitvec_loadtest.results import Answer
from unitvec_loadtest.settings import WireDtype
from unitvec_protos.v1 import embedding_pb2 as pb

if TYPE_CHECKING:
    from unitvec_protos.v1.embedding_pb2_grpc import EmbeddingServiceAsyncStub

_DTYPES = {
    WireDtype.FLOAT32: pb.DTYPE_FLOAT32,
    WireDtype.FLOAT16: pb.DTYPE_FLOAT16,
    WireDtype.INT8: pb.DTYPE_INT8,
    WireDtype.BINARY: pb.DTYPE_BINARY,
}


@dataclass(frozen=True)
class RequestForm:
    """What all requests of a run have in common."""

    model: str = ""
    dtype: WireDtype = WireDtype.FLOAT32
    timeout_s: float = 30.0
    """Deadline of each request, counted from its sending."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Sent with every call, such as the token."""
    references: References | None = None
    """Right answers; None: answers are only checked for their form."""

    def embed_request(self, texts: Sequence[str]) -> pb.EmbedRequest:
        """Builds the request that embeds some texts."""
        return pb.EmbedRequest(model=self.model, texts=texts, dtype=_DTYPES[self.dtype])

    def similarity_request(self, texts: Sequence[str]) -> pb.SimilarityRequest:
        """Builds the request that compares the first text with the others."""
        query, *documents = texts
        return pb.SimilarityRequest(
            model=self.model,
            cross=pb.CrossComparison(
                queries=pb.Operand(texts=pb.TextList(texts=[query])),
                documents=pb.Operand(texts=pb.TextList(texts=documents)),
            ),
        )


class Sender(Protocol):
    """Sends requests of one kind. Many may be in flight at a time, on one event loop."""

    async def send(self, texts: Sequence[str]) -> Answer:
        """Sends one request and waits for what comes of it; a failure is an answer as well."""

    async def close(self) -> None:
        """Ends what is held open between requests."""


class EmbedSender:
    """Unary Embed, over the stubs in turn."""

    def __init__(self, stubs: "Sequence[EmbeddingServiceAsyncStub]", *, form: RequestForm) -> None:
        self._stubs = itertools.cycle(stubs)
        self._form = form

    async def send(self, texts: Sequence[str]) -> Answer:
        """Embeds some texts."""
        request = self._form.embed_request(texts)
        try:
            response = await next(self._stubs).Embed(
                request, timeout=self._form.timeout_s, metadata=self._form.metadata
            )
        except grpc.aio.AioRpcError as exc:
            return failed_call(exc)
        return judge_embed(texts, response, references=self._form.references)

    async def close(self) -> None:
        """Does nothing: a unary call leaves nothing open."""


class SimilaritySender:
    """Unary Similarity of the first text with the others, over the stubs in turn."""

    def __init__(self, stubs: "Sequence[EmbeddingServiceAsyncStub]", *, form: RequestForm) -> None:
        self._stubs = itertools.cycle(stubs)
        self._form = form

    async def send(self, texts: Sequence[str]) -> Answer:
        """Compares the first text with the others."""
        request = self._form.similarity_request(texts)
        try:
            response = await next(self._stubs).Similarity(
                request, timeout=self._form.timeout_s, metadata=self._form.metadata
            )
        except grpc.aio.AioRpcError as exc:
            return failed_call(exc)
        return judge_similarity(texts, response, references=self._form.references)

    async def close(self) -> None:
        """Does nothing: a unary call leaves nothing open."""


async def fetch_references(
    stub: "EmbeddingServiceAsyncStub", corpus: Corpus, *, form: RequestForm
) -> References:
    """Embeds each distinct text alone, one after the other: what every answer must agree with.

    Raises:
        grpc.aio.AioRpcError: A text cannot be embedded.
        MalformedMatrixError: An answer is not one FLOAT32 row.
    """
    references = {}
    for text in dict.fromkeys(corpus.texts):
        response = await stub.Embed(
            form.embed_request([text]), timeout=form.timeout_s, metadata=form.metadata
        )
        references[text] = float32_matrix(response.embeddings)[0]
    return references
