"""Every RPC and option of the contract, and a typed answer to every bad input."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from scipy.spatial.distance import cdist

from tests.e2e.limited_server import with_limits
from unitvec_protos.v1 import embedding_pb2 as pb

if TYPE_CHECKING:
    from tests.serving import Server

Code = grpc.StatusCode


def array(matrix: pb.Matrix) -> np.ndarray:
    return np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.dim)


def matrix(values: Any, **extra: Any) -> pb.Matrix:
    values = np.asarray(values, "<f4")
    return pb.Matrix(rows=values.shape[0], dim=values.shape[1], data=values.tobytes(), **extra)


def texts_operand(*texts: str, **options: Any) -> pb.Operand:
    return pb.Operand(texts=pb.TextList(texts=texts), options=pb.EncodeOptions(**options))


def vectors_operand(values: Any, **extra: Any) -> pb.Operand:
    return pb.Operand(vectors=matrix(values, **extra))


def trailers(error: grpc.RpcError) -> dict[str, Any]:
    return dict(error.trailing_metadata())


@pytest.fixture
def embedded(minilm_server: Server) -> np.ndarray:
    """Vectors of three texts, (3, 384)."""
    request = pb.EmbedRequest(texts=["a cat", "a kitten", "a bank loan"])
    return array(minilm_server.stub.Embed(request).embeddings)


class TestEmbed:
    def test_vectors_have_unit_norm(self, embedded: np.ndarray) -> None:
        assert embedded.shape == (3, 384)
        assert np.allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-6)

    def test_dimensions_are_sliced_then_normalized(
        self, minilm_server: Server, embedded: np.ndarray
    ) -> None:
        options = pb.EncodeOptions(dimensions=64)
        reply = minilm_server.stub.Embed(pb.EmbedRequest(texts=["a cat"], options=options))
        expected = embedded[0, :64] / np.linalg.norm(embedded[0, :64])
        assert np.allclose(array(reply.embeddings)[0], expected, atol=1e-6)

    def test_without_normalize_the_slice_keeps_its_length(
        self, minilm_server: Server, embedded: np.ndarray
    ) -> None:
        options = pb.EncodeOptions(dimensions=64, normalize=False)
        reply = minilm_server.stub.Embed(pb.EmbedRequest(texts=["a cat"], options=options))
        assert np.allclose(array(reply.embeddings)[0], embedded[0, :64], atol=1e-6)

    def test_as_list_has_the_same_values(self, minilm_server: Server, embedded: np.ndarray) -> None:
        reply = minilm_server.stub.Embed(pb.EmbedRequest(texts=["a cat"], as_list=True))
        assert not reply.embeddings.data
        assert np.allclose(reply.embeddings.values, embedded[0], atol=1e-6)

    def test_float16(self, minilm_server: Server, embedded: np.ndarray) -> None:
        request = pb.EmbedRequest(texts=["a cat"], dtype=pb.DTYPE_FLOAT16)
        reply = minilm_server.stub.Embed(request).embeddings
        assert np.allclose(np.frombuffer(reply.data, "<f2"), embedded[0], atol=1e-3)

    def test_int8(self, minilm_server: Server, embedded: np.ndarray) -> None:
        request = pb.EmbedRequest(texts=["a cat"], dtype=pb.DTYPE_INT8)
        reply = minilm_server.stub.Embed(request).embeddings
        values = np.frombuffer(reply.data, "i1") * reply.scales[0]
        assert np.abs(values - embedded[0]).max() <= reply.scales[0] / 2 + 1e-6

    def test_binary(self, minilm_server: Server, embedded: np.ndarray) -> None:
        request = pb.EmbedRequest(texts=["a cat"], dtype=pb.DTYPE_BINARY)
        reply = minilm_server.stub.Embed(request).embeddings
        bits = np.unpackbits(np.frombuffer(reply.data, "u1"))
        assert (bits[:384] == (embedded[0] > 0)).mean() > 0.99

    def test_truncation_is_reported_and_each_side_cut(self, minilm_server: Server) -> None:
        words = [f"{n} apples" for n in range(400)]
        long, head, tail = " ".join(words), " ".join(words[:200]), " ".join(words[200:])

        def vector(text: str, truncate: int) -> np.ndarray:
            options = pb.EncodeOptions(truncate=truncate)
            reply = minilm_server.stub.Embed(pb.EmbedRequest(texts=["x", text], options=options))
            assert list(reply.usage.truncated) == [1]
            assert reply.usage.tokens[1] == 256
            assert reply.usage.total_tokens == sum(reply.usage.tokens)
            return array(reply.embeddings)[1]

        assert np.allclose(
            vector(long, pb.TRUNCATE_END), vector(head, pb.TRUNCATE_UNSPECIFIED), atol=1e-5
        )
        assert np.allclose(
            vector(long, pb.TRUNCATE_START), vector(tail, pb.TRUNCATE_START), atol=1e-5
        )

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "\n\t ",
            "\0",
            "a\0b",
            "🙂🙃",
            "[CLS]",
            "[SEP] [MASK]",
            "[PAD]",
            "\u202e",
            "日本語",
            "x" * 200_000,
        ],
        ids=ascii,
    )
    def test_odd_texts_have_the_vectors_of_sentence_transformers(
        self, minilm_server: Server, reference_model: Any, text: str
    ) -> None:
        reply = minilm_server.stub.Embed(pb.EmbedRequest(texts=[text]))
        expected = reference_model.encode([text])
        assert np.abs(array(reply.embeddings) - expected).max() < 1e-5

    def test_timings_add_up(self, minilm_server: Server) -> None:
        timings = minilm_server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).timings
        parts = (timings.tokenize_ns, timings.queue_ns, timings.infer_ns)
        assert all(part > 0 for part in parts)
        assert sum(parts) <= timings.total_ns


BAD_EMBEDS: dict[str, tuple[pb.EmbedRequest, grpc.StatusCode, str, str]] = {
    "no texts": (pb.EmbedRequest(), Code.INVALID_ARGUMENT, "NO_TEXTS", "texts"),
    "too many texts": (
        pb.EmbedRequest(texts=["x"] * 2049),
        Code.INVALID_ARGUMENT,
        "TOO_MANY_TEXTS",
        "texts",
    ),
    "10 MB text": (
        pb.EmbedRequest(texts=["ok", "x" * 10_000_000]),
        Code.INVALID_ARGUMENT,
        "TEXT_TOO_LARGE",
        "texts[1]",
    ),
    "unknown model": (
        pb.EmbedRequest(model="nope", texts=["x"]),
        Code.NOT_FOUND,
        "MODEL_NOT_FOUND",
        "model",
    ),
    "unknown prompt": (
        pb.EmbedRequest(texts=["x"], options=pb.EncodeOptions(prompt_name="nope")),
        Code.INVALID_ARGUMENT,
        "UNKNOWN_PROMPT",
        "options.prompt_name",
    ),
    "too many dimensions": (
        pb.EmbedRequest(texts=["x"], options=pb.EncodeOptions(dimensions=385)),
        Code.INVALID_ARGUMENT,
        "DIMENSIONS_TOO_LARGE",
        "options.dimensions",
    ),
    "unknown truncate": (
        pb.EmbedRequest(texts=["x"], options=pb.EncodeOptions(truncate=99)),
        Code.INVALID_ARGUMENT,
        "UNKNOWN_ENUM_VALUE",
        "options.truncate",
    ),
    "unknown dtype": (
        pb.EmbedRequest(texts=["x"], dtype=99),
        Code.INVALID_ARGUMENT,
        "UNKNOWN_ENUM_VALUE",
        "dtype",
    ),
    "list of int8": (
        pb.EmbedRequest(texts=["x"], dtype=pb.DTYPE_INT8, as_list=True),
        Code.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        "as_list",
    ),
    "truncate error": (
        pb.EmbedRequest(
            texts=["x", "word " * 300], options=pb.EncodeOptions(truncate=pb.TRUNCATE_ERROR)
        ),
        Code.INVALID_ARGUMENT,
        "TEXT_TOO_LONG",
        "texts[1]",
    ),
}


@pytest.mark.parametrize("case", BAD_EMBEDS)
def test_bad_embeds_get_typed_errors(minilm_server: Server, case: str) -> None:
    """Code, reason, field, details and request id; unary and in a stream alike."""
    request, code, reason, field = BAD_EMBEDS[case]
    with pytest.raises(grpc.RpcError) as caught:
        minilm_server.stub.Embed(request, metadata=(("x-request-id", "id-1"),))
    error = caught.value
    assert error.code() == code
    assert trailers(error)["x-request-id"] == "id-1"
    own = pb.Error.FromString(trailers(error)["unitvec-error-bin"])
    assert (own.code, own.reason, own.field, own.request_id) == (
        code.value[0],
        reason,
        field,
        "id-1",
    )
    rich = status_pb2.Status.FromString(trailers(error)["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    assert (info.reason, info.domain) == (reason, "unitvec")
    replies = list(
        minilm_server.stub.StreamEmbed(iter([pb.StreamEmbedRequest(id="a", request=request)]))
    )
    assert [(reply.id, reply.error.reason, reply.error.field) for reply in replies] == [
        ("a", reason, field)
    ]


def test_a_stream_with_bad_items_answers_every_id(minilm_server: Server) -> None:
    """Bad items in the middle harm no other."""
    good, bad = pb.EmbedRequest(texts=["fine"]), [case[0] for case in BAD_EMBEDS.values()]
    requests = [good, *bad, good, pb.EmbedRequest(texts=["also fine"]), *bad, good]
    replies = {
        reply.id: reply
        for reply in minilm_server.stub.StreamEmbed(
            iter([pb.StreamEmbedRequest(id=str(i), request=r) for i, r in enumerate(requests)])
        )
    }
    assert len(replies) == len(requests)
    for index, request in enumerate(requests):
        outcome = replies[str(index)].WhichOneof("outcome")
        assert outcome == ("error" if request in bad else "response")


def test_an_undecodable_message_is_invalid_argument(minilm_server: Server) -> None:
    call = minilm_server.channel.unary_unary("/unitvec.v1.EmbeddingService/Embed")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff")
    assert caught.value.code() == Code.INVALID_ARGUMENT
    assert pb.Error.FromString(trailers(caught.value)["unitvec-error-bin"]).reason == (
        "UNDECODABLE_MESSAGE"
    )


def test_a_message_over_the_limit_is_refused_by_name(minilm_server: Server) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        minilm_server.stub.Embed(pb.EmbedRequest(texts=["x" * 17 * 2**20]))
    assert caught.value.code() == Code.RESOURCE_EXHAUSTED
    assert "16777216" in caught.value.details()


def test_a_generated_request_id_is_echoed(minilm_server: Server) -> None:
    reply, call = minilm_server.stub.Embed.with_call(pb.EmbedRequest(texts=["x"]))
    assert reply.embeddings.rows == 1
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 32


METRICS = {
    pb.METRIC_UNSPECIFIED: lambda a, b: 1 - cdist(a, b, "cosine"),
    pb.METRIC_COSINE: lambda a, b: 1 - cdist(a, b, "cosine"),
    pb.METRIC_DOT: lambda a, b: a @ b.T,
    pb.METRIC_EUCLIDEAN: lambda a, b: cdist(a, b, "euclidean"),
    pb.METRIC_MANHATTAN: lambda a, b: cdist(a, b, "cityblock"),
}


class TestSimilarity:
    A = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    B = np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)

    @pytest.mark.parametrize("metric", METRICS)
    def test_all_with_all(self, minilm_server: Server, metric: int) -> None:
        cross = pb.CrossComparison(
            queries=vectors_operand(self.A), documents=vectors_operand(self.B)
        )
        reply = minilm_server.stub.Similarity(pb.SimilarityRequest(metric=metric, cross=cross))
        expected = METRICS[metric](self.A.astype(float), self.B.astype(float))
        assert np.allclose(array(reply.scores), expected, atol=1e-5)

    @pytest.mark.parametrize("metric", METRICS)
    def test_pairs_are_the_diagonal(self, minilm_server: Server, metric: int) -> None:
        pairs = pb.PairComparison(a=vectors_operand(self.A), b=vectors_operand(self.B[:3]))
        reply = minilm_server.stub.Similarity(pb.SimilarityRequest(metric=metric, pairs=pairs))
        expected = METRICS[metric](self.A.astype(float), self.B[:3].astype(float)).diagonal()
        assert np.allclose(array(reply.scores)[:, 0], expected, atol=1e-5)

    @pytest.mark.parametrize("metric", METRICS)
    def test_top_k_ranks_the_right_way_round(self, minilm_server: Server, metric: int) -> None:
        cross = pb.CrossComparison(
            queries=vectors_operand(self.A), documents=vectors_operand(self.B), top_k=2
        )
        reply = minilm_server.stub.Similarity(pb.SimilarityRequest(metric=metric, cross=cross))
        scores = METRICS[metric](self.A.astype(float), self.B.astype(float))
        distance = metric in (pb.METRIC_EUCLIDEAN, pb.METRIC_MANHATTAN)
        order = np.argsort(scores if distance else -scores, axis=1)[:, :2]
        assert [list(ranking.indices) for ranking in reply.rankings] == order.tolist()

    def test_top_k_over_several_blocks_of_queries(self, minilm_server: Server) -> None:
        """More comparisons than are done in one go: rankings come whole and in query order."""
        random = np.random.default_rng(3)
        queries = random.normal(size=(2500, 4)).astype(np.float32)
        documents = random.normal(size=(1000, 4)).astype(np.float32)
        cross = pb.CrossComparison(
            queries=vectors_operand(queries), documents=vectors_operand(documents), top_k=1
        )
        reply = minilm_server.stub.Similarity(
            pb.SimilarityRequest(metric=pb.METRIC_DOT, cross=cross)
        )
        best = (queries.astype(float) @ documents.T.astype(float)).argmax(axis=1)
        assert [ranking.indices[0] for ranking in reply.rankings] == best.tolist()

    def test_texts_with_texts(self, minilm_server: Server, embedded: np.ndarray) -> None:
        cross = pb.CrossComparison(
            queries=texts_operand("a cat"), documents=texts_operand("a kitten", "a bank loan")
        )
        reply = minilm_server.stub.Similarity(pb.SimilarityRequest(cross=cross, as_list=True))
        assert np.allclose(reply.scores.values, embedded[:1] @ embedded[1:].T, atol=1e-5)
        assert list(reply.usage.tokens) == [4, 4, 5]

    BAD = {
        "nothing to compare": (pb.SimilarityRequest(), "MISSING_FIELD"),
        "one side missing": (
            pb.SimilarityRequest(pairs=pb.PairComparison(a=texts_operand("x"))),
            "MISSING_FIELD",
        ),
        "mismatched pairs": (
            pb.SimilarityRequest(
                pairs=pb.PairComparison(a=texts_operand("x"), b=texts_operand("y", "z"))
            ),
            "PAIR_COUNT_MISMATCH",
        ),
        "wrong dims": (
            pb.SimilarityRequest(
                cross=pb.CrossComparison(
                    queries=texts_operand("x"), documents=vectors_operand([[1, 2]])
                )
            ),
            "DIMENSION_MISMATCH",
        ),
        "NaN": (
            pb.SimilarityRequest(
                cross=pb.CrossComparison(
                    queries=vectors_operand([[1, float("nan")]]),
                    documents=vectors_operand([[1, 2]]),
                )
            ),
            "VALUE_NOT_FINITE",
        ),
        "infinity": (
            pb.SimilarityRequest(
                pairs=pb.PairComparison(
                    a=vectors_operand([[1, 2]]), b=vectors_operand([[1, float("inf")]])
                )
            ),
            "VALUE_NOT_FINITE",
        ),
        "too few bytes": (
            pb.SimilarityRequest(
                pairs=pb.PairComparison(
                    a=pb.Operand(vectors=pb.Matrix(rows=2, dim=2, data=b"1234")),
                    b=texts_operand("x", "y"),
                )
            ),
            "WRONG_MATRIX_SIZE",
        ),
        "int8 vectors": (
            pb.SimilarityRequest(
                pairs=pb.PairComparison(
                    a=vectors_operand([[1]], dtype=pb.DTYPE_INT8), b=texts_operand("x")
                )
            ),
            "UNSUPPORTED_DTYPE",
        ),
        "unknown metric": (
            pb.SimilarityRequest(
                metric=99,
                pairs=pb.PairComparison(a=vectors_operand([[1]]), b=vectors_operand([[1]])),
            ),
            "UNKNOWN_ENUM_VALUE",
        ),
        "too many comparisons": (
            pb.SimilarityRequest(
                cross=pb.CrossComparison(
                    queries=vectors_operand(np.ones((10_001, 1))),
                    documents=vectors_operand(np.ones((10_001, 1))),
                    top_k=1,
                )
            ),
            "TOO_MANY_SCORES",
        ),
        "too many scores": (
            pb.SimilarityRequest(
                cross=pb.CrossComparison(
                    queries=vectors_operand(np.ones((1001, 1))),
                    documents=vectors_operand(np.ones((1000, 1))),
                )
            ),
            "TOO_MANY_SCORES",
        ),
    }

    @pytest.mark.parametrize("case", BAD)
    def test_bad_requests_get_typed_errors(self, minilm_server: Server, case: str) -> None:
        request, reason = self.BAD[case]
        with pytest.raises(grpc.RpcError) as caught:
            minilm_server.stub.Similarity(request)
        assert caught.value.code() == Code.INVALID_ARGUMENT
        own = pb.Error.FromString(trailers(caught.value)["unitvec-error-bin"])
        assert own.reason == reason
        assert own.field


class TestStreamSimilarity:
    @staticmethod
    def run(server: Server, *requests: pb.StreamSimilarityRequest) -> list[Any]:
        return list(server.stub.StreamSimilarity(iter(requests)))

    def test_ranks_documents_of_many_messages(
        self, minilm_server: Server, embedded: np.ndarray
    ) -> None:
        request = pb.StreamSimilarityRequest
        query = pb.SimilarityQuery(queries=texts_operand("a cat"), top_k=3)
        replies = self.run(
            minilm_server,
            request(id="d1", documents=texts_operand("a bank loan", "a kitten")),
            request(id="bad", documents=texts_operand()),
            request(id="d2", documents=vectors_operand(embedded[:1])),
            request(id="q", query=query),
        )
        assert [reply.id for reply in replies] == ["d1", "bad", "d2", "q"]
        assert [reply.WhichOneof("outcome") for reply in replies] == [
            "documents",
            "error",
            "documents",
            "result",
        ]
        assert (replies[2].documents.first_index, replies[2].documents.count) == (2, 1)
        ranking = replies[3].result.rankings[0]
        assert list(ranking.indices) == [2, 1, 0]
        assert ranking.scores[0] == pytest.approx(1, abs=1e-5)

    def test_all_scores_by_another_metric(self, minilm_server: Server) -> None:
        request = pb.StreamSimilarityRequest
        documents = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
        query = pb.SimilarityQuery(queries=vectors_operand(documents[:2]))
        replies = self.run(
            minilm_server,
            request(setup=pb.SimilaritySetup(metric=pb.METRIC_MANHATTAN)),
            *(request(documents=vectors_operand(documents[i : i + 7])) for i in range(0, 300, 7)),
            request(query=query),
        )
        expected = cdist(documents[:2], documents, "cityblock")
        assert np.allclose(array(replies[-1].result.scores), expected, atol=1e-4)

    BAD: dict[str, tuple[list[pb.StreamSimilarityRequest], str]] = {
        "no action": ([pb.StreamSimilarityRequest()], "MISSING_FIELD"),
        "query first": (
            [pb.StreamSimilarityRequest(query=pb.SimilarityQuery(queries=vectors_operand([[1]])))],
            "NO_DOCUMENTS",
        ),
        "late setup": (
            [
                pb.StreamSimilarityRequest(documents=vectors_operand([[1]])),
                pb.StreamSimilarityRequest(setup=pb.SimilaritySetup()),
            ],
            "INVALID_REQUEST",
        ),
        "unknown model": (
            [pb.StreamSimilarityRequest(setup=pb.SimilaritySetup(model="nope"))],
            "MODEL_NOT_FOUND",
        ),
        "documents of other dims": (
            [
                pb.StreamSimilarityRequest(documents=vectors_operand([[1, 2]])),
                pb.StreamSimilarityRequest(documents=vectors_operand([[1]])),
            ],
            "DIMENSION_MISMATCH",
        ),
        "too many documents": (
            [pb.StreamSimilarityRequest(documents=vectors_operand(np.ones((100_001, 1))))],
            "TOO_MANY_DOCUMENTS",
        ),
    }

    @pytest.mark.parametrize("case", BAD)
    def test_bad_messages_get_typed_errors_and_the_stream_goes_on(
        self, minilm_server: Server, case: str
    ) -> None:
        requests, reason = self.BAD[case]
        dims = 2 if case == "documents of other dims" else 1
        goes_on = case != "unknown model"  # a refused setup refuses all that follows
        replies = self.run(
            minilm_server,
            *requests,
            pb.StreamSimilarityRequest(id="end", documents=vectors_operand(np.ones((1, dims)))),
        )
        assert replies[len(requests) - 1].error.reason == reason
        assert replies[-1].documents.count == (1 if goes_on else 0)
        assert replies[-1].error.reason == ("" if goes_on else reason)


def test_tokenize_refuses_what_no_reply_could_hold(minilm_server: Server) -> None:
    """16 bytes of reply for each byte of text, in a message of 16 MiB."""
    with pytest.raises(grpc.RpcError) as caught:
        minilm_server.stub.Tokenize(pb.TokenizeRequest(texts=["," * 250_000] * 5))
    own = pb.Error.FromString(trailers(caught.value)["unitvec-error-bin"])
    assert own.reason == "TEXT_TOO_LARGE"
    assert "max_message_bytes" in own.message
    largest = minilm_server.stub.Tokenize(pb.TokenizeRequest(texts=["," * 250_000] * 4))
    assert [len(text.ids) for text in largest.texts] == [250_002] * 4


def test_calls_are_bounded_and_health_does_not_count(
    start: Callable[..., Server], artifact: Path
) -> None:
    """A held stream takes the only place; when it ends the next call gets it."""
    server = start("--model", str(artifact), "--max-calls", "1")
    done = threading.Event()

    def hold():  # type: ignore[no-untyped-def]
        yield pb.StreamEmbedRequest(id="a", request=pb.EmbedRequest(texts=["x"]))
        done.wait()

    stream = server.stub.StreamEmbed(hold())
    assert next(stream).id == "a"
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.Embed(pb.EmbedRequest(texts=["x"]))
    assert caught.value.code() == Code.RESOURCE_EXHAUSTED
    assert "max_calls" in caught.value.details()
    health = health_pb2_grpc.HealthStub(server.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == 1
    done.set()
    assert list(stream) == []
    assert server.stub.Embed(pb.EmbedRequest(texts=["x"])).embeddings.rows == 1


def test_silent_streams_give_back_their_place(start: Callable[..., Server], artifact: Path) -> None:
    """Whether they never said anything or were answered before."""
    fixed = with_limits(max_stream_idle_s=1)
    server = start("--model", str(artifact), "--max-calls", "2", **fixed)
    over = threading.Event()

    def silent(*requests: pb.StreamEmbedRequest):  # type: ignore[no-untyped-def]
        yield from requests
        over.wait()

    request = pb.StreamEmbedRequest(id="a", request=pb.EmbedRequest(texts=["x"]))
    streams = [
        server.stub.StreamEmbed(silent(request)),
        server.stub.StreamSimilarity(silent()),
    ]
    assert next(streams[0]).id == "a"
    for stream in streams:
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() == Code.UNAVAILABLE
        assert "for 1 s" in caught.value.details()
    assert server.stub.Embed(pb.EmbedRequest(texts=["x"])).embeddings.rows == 1
    over.set()


def test_tokens_are_counted_not_estimated(start: Callable[..., Server], artifact: Path) -> None:
    """Bytes only estimate tokens: what fits once split is not refused for its bytes."""
    server = start("--model", str(artifact), "--max-queued-tokens", "1000")
    texts = ["x" * 100] * 20  # by bytes up to 64 tokens each
    reply = server.stub.Embed(pb.EmbedRequest(texts=texts))
    assert reply.usage.total_tokens <= 1000 < 20 * 64
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.Embed(pb.EmbedRequest(texts=["a b c d e f g h " * 20] * 20))
    own = pb.Error.FromString(trailers(caught.value)["unitvec-error-bin"])
    assert (own.reason, own.field) == ("TOO_MANY_TOKENS", "texts")


def test_a_stream_holds_only_so_many_bytes(start: Callable[..., Server], artifact: Path) -> None:
    """What does not fit is refused; what fits afterwards is added."""
    server = start("--model", str(artifact), **with_limits(max_stream_bytes=64))
    assert server.stub.ListModels(pb.ListModelsRequest()).limits.max_stream_bytes == 64
    request = pb.StreamSimilarityRequest
    replies = list(
        server.stub.StreamSimilarity(
            iter(
                [
                    request(documents=vectors_operand(np.ones((2, 4)))),
                    request(documents=vectors_operand(np.ones((3, 4)))),
                    request(documents=vectors_operand(np.ones((2, 4)))),
                ]
            )
        )
    )
    assert [reply.error.reason for reply in replies] == ["", "TOO_MANY_DOCUMENTS", ""]
    assert "max_stream_bytes" in replies[1].error.message
    assert replies[2].documents.first_index == 2


def test_tokenize_shows_what_embed_keeps(minilm_server: Server) -> None:
    """Counts agree with Embed, offsets point into the text, each side is cut."""
    text = " ".join(f"{n} apples" for n in range(200))
    tokenize: Callable[..., Any] = minilm_server.stub.Tokenize
    reply = tokenize(pb.TokenizeRequest(texts=["Hello wörld", text]))
    short, long = reply.texts
    assert list(short.tokens) == ["[CLS]", "hello", "world", "[SEP]"]
    assert [(s, e) for s, e in zip(short.starts, short.ends, strict=True)] == [
        (0, 0),
        (0, 5),
        (6, 11),
        (0, 0),
    ]
    assert (short.kept_tokens, short.kept_start, short.kept_end) == (4, 0, 11)
    assert reply.max_seq_length == long.kept_tokens == 256 < len(long.ids)
    used = minilm_server.stub.Embed(pb.EmbedRequest(texts=[text, text[: long.kept_end]]))
    assert list(used.usage.tokens) == [256, 256]
    assert list(used.usage.truncated) == [0]
    start = tokenize(pb.TokenizeRequest(texts=[text], truncate=pb.TRUNCATE_START)).texts[0]
    assert start.kept_end == len(text)
    assert text[start.kept_start :].startswith(start.tokens[-255])


def test_list_models_tells_what_is_served(minilm_server: Server) -> None:
    reply = minilm_server.stub.ListModels(pb.ListModelsRequest())
    (model,) = reply.models
    assert (model.name, model.model_id) == (
        "all-MiniLM-L6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
    )
    assert (model.dim, model.max_seq_length, model.pooling) == (384, 256, pb.POOLING_MEAN)
    assert (model.precision, model.provider, model.is_default) == ("fp32", "cpu", True)
    assert model.parity_cosine_min >= 0.99999
    assert reply.limits.max_texts_per_request == 2048
    assert all(value for _, value in reply.limits.ListFields())
    assert len(reply.limits.ListFields()) == len(pb.Limits.DESCRIPTOR.fields)
