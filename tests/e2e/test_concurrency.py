"""Many callers at a time: everyone gets exactly their own vectors."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import grpc
import numpy as np

from tests.e2e.test_parity import stdlib_docstrings
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from tests.serving import Server

CLIENTS = 200


async def _unary(stub: pb_grpc.EmbeddingServiceAsyncStub, texts: list[str]) -> np.ndarray:
    reply = await stub.Embed(pb.EmbedRequest(texts=texts))
    return np.frombuffer(reply.embeddings.data, "<f4").reshape(len(texts), -1)


async def _stream(stub: pb_grpc.EmbeddingServiceAsyncStub, texts: list[str]) -> np.ndarray:
    requests = (
        pb.StreamEmbedRequest(id=str(index), request=pb.EmbedRequest(texts=[text]))
        for index, text in enumerate(texts)
    )
    rows = {
        int(reply.id): np.frombuffer(reply.response.embeddings.data, "<f4")
        async for reply in stub.StreamEmbed(requests)
    }
    return np.stack([rows[index] for index in range(len(texts))])


async def _search(stub: pb_grpc.EmbeddingServiceAsyncStub, texts: list[str]) -> np.ndarray:
    """Scores of every text with every other."""
    side = pb.Operand(texts=pb.TextList(texts=texts))
    request = pb.SimilarityRequest(cross=pb.CrossComparison(queries=side, documents=side))
    reply = await stub.Similarity(request)
    return np.frombuffer(reply.scores.data, "<f4").reshape(len(texts), -1)


async def test_200_clients_get_their_own_vectors(tiny_server: Server) -> None:
    """Mixed requests of mixed sizes over many connections, all compared."""
    texts = [text[:300] for _, text in zip(range(200), stdlib_docstrings(), strict=False)]
    choice = random.Random(7)
    async with grpc.aio.insecure_channel(tiny_server.target) as channel:
        vectors = await _unary(pb_grpc.EmbeddingServiceStub(channel), texts)

    async def client(number: int) -> float:
        picked = [choice.randrange(len(texts)) for _ in range(choice.randint(1, 6))]
        mine, expected = [texts[index] for index in picked], vectors[picked]
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(tiny_server.target, options=options) as channel:
            stub = pb_grpc.EmbeddingServiceStub(channel)
            if number % 3 == 2:
                return np.abs(await _search(stub, mine) - expected @ expected.T).max()
            call = _stream if number % 3 else _unary
            return np.abs(await call(stub, mine) - expected).max()

    differences = await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    assert len(differences) == CLIENTS
    assert max(differences) < 1e-5
