"""Windows of long texts, from a client or the command to the model and back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest

import unitvec_client as uv
from tests.artifacts import keep_fused_artifact
from tests.e2e.limited_server import with_limits
from tests.models import FUSED_BERT
from tests.serving import Server, serving
from unitvec_client import AsyncClient, Client, PooledWindows, Windows
from unitvec_client.cli.main import main
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.model.kernels import find_kernels

SENTENCES = [
    f"The {n}th sentence of this text is about naïve cats, and 猫 too. " for n in range(40)
]
LONG, SHORT = "".join(SENTENCES), "a cat on a mat"
TEXTS = [SHORT, LONG, "", "x " * 300]


@pytest.fixture(scope="module")
def fused_server() -> Iterator[Server]:
    """A tiny model whose vectors do not depend on what they are batched with, to the last bit."""
    if find_kernels().library is None:
        pytest.skip("unitvec-kernels is not installed or cannot run here")
    with serving("--model", str(keep_fused_artifact(FUSED_BERT)), "--precision", "int16") as server:
        yield server


@pytest.fixture(scope="module")
def fused(fused_server: Server) -> Iterator[Client]:
    with Client(fused_server.target) as client:
        yield client


def texts_of(result: uv.WindowedResult, texts: list[str]) -> list[str]:
    """The text of each window, by code points and by bytes alike."""
    found = [texts[each.text_index][each.start : each.end] for each in result.windows]
    for window, text in zip(result.windows, found, strict=True):
        encoded = texts[window.text_index].encode()[window.byte_start : window.byte_end]
        assert encoded.decode() == text
    return found


@pytest.mark.parametrize("overlap", [0, 8])
@pytest.mark.parametrize(
    "options",
    [{}, {"dimensions": 7}, {"normalize": False}, {"dtype": "float16"}, {"dtype": "int8"},
     {"dtype": "binary"}, {"truncate": "error"}],
)  # fmt: skip
def test_rows_are_those_of_their_spans_alone(
    fused: Client, overlap: int, options: dict[str, Any]
) -> None:
    """To the last bit, as this server promises it of texts."""
    result = fused.embed(TEXTS, windows=Windows(24, overlap), **options)
    spans = texts_of(result, TEXTS)
    np.testing.assert_array_equal(result.vectors, fused.embed(spans, **options))
    tokens = fused.embed_result(spans).tokens
    assert [window.tokens for window in result.windows] == tokens.tolist()
    assert tokens.max() <= 24
    assert [result.rows_of(i).stop - result.rows_of(i).start for i in (0, 2)] == [1, 1]
    sums = [int(tokens[result.rows_of(i)].sum()) for i in range(len(TEXTS))]
    assert result.tokens.tolist() == sums
    for index, text in enumerate(TEXTS):
        own = result.windows[result.rows_of(index)]
        assert (own[0].start, own[-1].end) == (0, len(text))
        assert all(a.start < b.start <= a.end < b.end for a, b in pairwise(own))
        assert any(b.start < a.end for a, b in pairwise(own)) == bool(overlap and len(own) > 1)


def test_spans_end_with_sentences(fused: Client) -> None:
    result = fused.embed(LONG, windows=Windows(64))
    assert all(text.endswith(". ") for text in texts_of(result, [LONG]))


def test_pooled_is_the_mean_of_the_windows_weighted_by_tokens(fused: Client) -> None:
    apart = fused.embed(TEXTS, windows=Windows(24, 4), normalize=False)
    pooled = fused.embed(TEXTS, windows=PooledWindows(24, 4))
    for index in range(len(TEXTS)):
        rows = apart.rows_of(index)
        weights = [window.tokens for window in apart.windows[rows]]
        mean = np.average(apart.vectors[rows].astype(float), axis=0, weights=weights)
        np.testing.assert_allclose(pooled[index], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(pooled[[0, 2]], fused.embed([TEXTS[0], TEXTS[2]]))
    smaller = fused.embed(TEXTS, windows=PooledWindows(24, 4), dimensions=5)
    expected = pooled[:, :5] / np.linalg.norm(pooled[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(smaller, expected, atol=1e-6)


def test_the_default_window_is_as_long_as_the_model_takes(fused: Client) -> None:
    longest = fused.models().models[0].max_seq_length
    result = fused.embed_result(["a " * 3 * longest], windows=Windows())
    assert max(window.tokens for window in result.windows) == longest
    assert len(result) == 4  # special tokens take room in each
    assert result.truncated == ()


async def test_streams_and_the_asyncio_client_agree(fused: Client, fused_server: Server) -> None:
    texts = [f"{n}: {LONG[: n * 40]}" for n in range(60)]
    windows = Windows(32, 4)
    expected = fused.embed(texts, windows=windows)
    items = list(fused.embed_stream(texts, windows=windows, chunk_texts=7))
    assert tuple(window for item in items for window in item.windows) == expected.windows
    np.testing.assert_array_equal(
        np.concatenate([item.vectors for item in items]), expected.vectors
    )
    assert {item.vector is None for item in items} == {True}
    assert [item.tokens for item in items] == expected.tokens.tolist()
    async with AsyncClient(fused_server.target) as client:
        found = await client.embed(texts, windows=windows)
        pooled = await client.embed(texts, windows=PooledWindows(32, 4))
    assert found.windows == expected.windows
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    np.testing.assert_array_equal(pooled, fused.embed(texts, windows=PooledWindows(32, 4)))
    items = list(fused.embed_stream(texts, windows=PooledWindows(32, 4)))
    np.testing.assert_array_equal(pooled, [item.vector for item in items])


def test_texts_fail_one_by_one(start: Callable[..., Server], artifact: Path) -> None:
    """Too large, or with more windows than a request may have; those have no rows."""
    flags = ("--model", str(artifact), "--provider", "cpu", "--max-text-bytes", "3000")
    server = start(*flags, **with_limits("tests.e2e.limited_server", max_windows_per_request=50))
    texts = ["a cat", "x" * 3001, "cat " * 700, "mat " * 60, "a dog"]
    with Client(server.target) as client:
        result = client.embed(texts, windows=Windows(16), errors="return")
        reasons = [(failed.index, failed.error.reason) for failed in result.errors]
        assert reasons == [(1, "TEXT_TOO_LARGE"), (2, "TOO_MANY_WINDOWS")]
        assert {window.text_index for window in result.windows} == {0, 3, 4}
        assert result.tokens[[1, 2]].tolist() == [0, 0]
        pooled, errors = client.embed(texts, windows=PooledWindows(16), errors="return")
        assert np.isnan(pooled).any(axis=1).tolist() == [False, True, True, False, False]
        assert [failed.index for failed in errors] == [1, 2]
        with pytest.raises(uv.InvalidArgumentError, match=r"texts\[0\].*50 windows") as caught:
            client.embed([texts[2]], windows=Windows(16))
        assert caught.value.reason == "TOO_MANY_WINDOWS"
        items = list(client.embed_stream(texts, windows=Windows(16)))
        assert [item.index for item in items if item.error] == [1, 2]


def test_all_tokens_are_admitted(start: Callable[..., Server], artifact: Path) -> None:
    """A text of many windows counts them all against the bound of the queue."""
    server = start("--model", str(artifact), "--provider", "cpu", "--max-queued-tokens", "1000")
    with Client(server.target) as client:
        assert len(client.embed("a " * 900, windows=Windows(32))) == 30
        assert client.embed("a " * 1100).shape
        for text in ("a " * 1100, "猫" * 1100):
            with pytest.raises(uv.InvalidArgumentError, match="max_queued_tokens") as caught:
                client.embed(text, windows=Windows(32))
            assert caught.value.reason == "TOO_MANY_TOKENS"
        assert len(client.embed("cat", windows=Windows(32))) == 1


def test_prompts_are_put_before_each_window(
    start: Callable[..., Server], prompted_artifact: Path
) -> None:
    server = start("--model", str(prompted_artifact), "--provider", "cpu", "--precision", "fp32")
    with Client(server.target) as client:
        text = "the cat sat on a mat. " * 12
        result = client.embed(text, windows=Windows(24), prompt_name="query")
        spans = texts_of(result, [text])
        assert len(spans) > 1
        alone = client.embed(spans, prompt_name="query")
        np.testing.assert_allclose(result.vectors, alone, atol=1e-5)
        tokens = client.embed_result(spans, prompt_name="query").tokens
        assert [window.tokens for window in result.windows] == tokens.tolist()


@pytest.mark.parametrize(
    ("windows", "reason", "field"),
    [
        ({"tokens": 100_000}, "WINDOW_TOO_LONG", "options.windows.tokens"),
        ({"tokens": 9}, "WINDOW_TOO_SHORT", "options.windows.tokens"),
        (
            {"tokens": 18, "overlap_tokens": 9},
            "OVERLAP_TOO_LARGE",
            "options.windows.overlap_tokens",
        ),
    ],
)
def test_windows_that_do_not_fit_are_refused(
    tiny_server: Server, windows: dict[str, int], reason: str, field: str
) -> None:
    options = pb.EncodeOptions(windows=pb.Windows(**windows))
    with pytest.raises(grpc.RpcError) as caught:
        tiny_server.stub.Embed(pb.EmbedRequest(texts=["a"], options=options))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = pb.Error.FromString(dict(caught.value.trailing_metadata())["unitvec-error-bin"])
    assert (error.reason, error.field) == (reason, field)


def test_the_client_compares_means_of_windows(fused: Client, tmp_path: Path) -> None:
    """In one call, in many, over a stream, and of queries over stored vectors."""
    pooled = PooledWindows(24, 8)
    vectors = fused.embed(TEXTS, windows=pooled)
    wanted = vectors @ vectors.T
    found = fused.similarity(TEXTS, TEXTS, windows=pooled)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(found - fused.similarity(TEXTS, TEXTS)).max() > 1e-3
    paired = fused.similarity(TEXTS * 300, TEXTS[::-1] * 300, pairs=True, windows=pooled)
    np.testing.assert_allclose(paired, np.tile(np.diag(wanted[:, ::-1]), 300), atol=1e-6)
    np.save(tmp_path / "stored.npy", vectors)
    for documents in ({"documents": iter(TEXTS)}, {"vectors": tmp_path / "stored.npy"}):
        for row, hits in enumerate(fused.search(TEXTS, windows=pooled, top_k=4, **documents)):
            for hit in hits:
                assert abs(hit.score - wanted[row, hit.index]) < 1e-5


def test_windows_that_are_apart_are_not_compared(fused: Client) -> None:
    apart: Any = Windows(24)
    for documents in ({"documents": TEXTS}, {"vectors": np.ones((2, 32), np.float32)}):
        with pytest.raises(uv.InputTypeError, match="windows must be PooledWindows"):
            fused.search(TEXTS, windows=apart, **documents)
    with pytest.raises(uv.InputTypeError, match="windows must be PooledWindows"):
        fused.similarity(TEXTS, TEXTS, windows=apart)


def test_texts_are_compared_as_a_whole(tiny_server: Server) -> None:
    def compare(*, pooled: bool) -> pb.SimilarityResponse:
        options = pb.EncodeOptions(windows=pb.Windows(tokens=16, pooled=pooled))
        side = pb.Operand(texts=pb.TextList(texts=["cat " * 90, "a"]), options=options)
        cross = pb.CrossComparison(queries=side, documents=side)
        reply: pb.SimilarityResponse = tiny_server.stub.Similarity(
            pb.SimilarityRequest(cross=cross)
        )
        return reply

    assert (compare(pooled=True).scores.rows, compare(pooled=True).scores.dim) == (2, 2)
    with pytest.raises(grpc.RpcError, match="pooled"):
        compare(pooled=False)


@pytest.fixture
def command(fused_server: Server, tmp_path: Path, monkeypatch: Any) -> Callable[..., int]:
    """`unitvec embed` over two texts and a line that is none, in a folder of its own."""
    lines = [json.dumps({"id": "l", "text": LONG}), "{}", json.dumps({"id": "s", "text": SHORT})]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNITVEC_TARGET", fused_server.target)
    Path("in.jsonl").write_text("\n".join(lines))
    return lambda *flags: main(["embed", "-i", "in.jsonl", *flags])


def test_the_command_writes_spans_in_each_format(fused: Client, command: Any, capsys: Any) -> None:
    flags = ("--window", "32", "--overlap", "4")
    expected = fused.embed([LONG, SHORT], windows=Windows(32, 4))
    count = len(expected.windows) - 1
    spans = [(w.start, w.end, w.byte_start, w.byte_end) for w in expected.windows]
    texts = texts_of(expected, [LONG, SHORT])
    assert command(*flags, "--with-text", "--id-field", "id", "-o", "out.jsonl") == 1
    *rows, failed, last = map(json.loads, Path("out.jsonl").read_text().splitlines())
    assert [row["index"] for row in (*rows, failed, last)] == list(range(count + 2))
    assert [row["line"] for row in (*rows, failed, last)] == [1] * count + [2, 3]
    assert "error" in failed
    good = [*rows, last]
    assert [row["text"] for row in good] == texts
    assert [tuple(r[k] for k in ("start", "end", "byte_start", "byte_end")) for r in good] == spans
    np.testing.assert_array_equal(np.float32([row["vector"] for row in good]), expected.vectors)

    assert command(*flags, "-o", "out.npy") == 1
    array = np.load("out.npy")
    assert np.isnan(array["vector"]).any(axis=1).tolist() == [False] * count + [True, False]
    kept = np.delete(array, count)
    np.testing.assert_array_equal(kept["vector"], expected.vectors)
    found = kept[["start", "end", "byte_start", "byte_end"]].tolist()
    assert (found, kept["tokens"].tolist()) == (spans, [w.tokens for w in expected.windows])
    assert array["line"].tolist() == [1] * count + [2, 3]

    assert command(*flags, "--with-text", "-o", "out.parquet") == 1
    table = pq.read_table("out.parquet").to_pydict()
    assert [text for text in table["text"] if text is not None] == texts
    columns = [table[name] for name in ("start", "end", "byte_start", "byte_end")]
    assert [row for row in zip(*columns, strict=True) if row[0] is not None] == spans

    assert command(*flags, "-o", "out.csv") == 1
    with Path("out.csv").open(newline="") as file:
        records = [row for row in csv.DictReader(file) if not row["error"]]
    assert [(int(row["start"]), int(row["end"])) for row in records] == [s[:2] for s in spans]

    capsys.readouterr()
    assert command(*flags, "-f", "table") == 1
    assert len(capsys.readouterr().out.splitlines()) == 1 + count + 1


def test_the_command_pools(fused: Client, command: Any) -> None:
    assert command("--window", "32", "--pooled", "-o", "out.npy") == 1
    pooled = fused.embed([LONG, SHORT], windows=PooledWindows(32))
    np.testing.assert_array_equal(np.load("out.npy")[[0, 2]], pooled)
    assert command("--overlap", "4", "-o", "other.npy") == 2


@pytest.mark.parametrize("pooled", [(), ("--pooled",)])
def test_each_window_of_int8_has_its_scale(command: Any, pooled: Any) -> None:
    """In Parquet, as 8-bit numbers: times the scale they are what `.npy` holds."""
    flags = ("--window", "32", "--dtype", "int8", *pooled)
    for name in ("out.parquet", "out.npy"):
        assert command(*flags, "-o", name) == 1
    table = pq.read_table("out.parquet")
    kept = table.filter(table["vector"].is_valid())
    numbers = np.array(kept["vector"].to_pylist(), np.int8)
    rows = np.load("out.npy")
    rows = (rows["vector"] if rows.dtype.names else rows)[np.asarray(table["vector"].is_valid())]
    np.testing.assert_array_equal(numbers * kept["scale"].to_numpy()[:, None], rows)


def test_windows_go_on_where_a_run_was_cut(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the lines that are done stay, whatever their number; another cut begins anew."""
    lines = [json.dumps({"text": f"{n} {LONG[: n * 90]}"}) for n in range(30)]
    for name in ("in.jsonl", "whole.jsonl"):
        Path(name).write_text("\n".join(lines))
    flags = ("--window", "32", "--overlap", "4", "-o", "out.parquet")
    stream = Client.embed_stream

    def cut_short(self: Client, texts: Any, **options: Any) -> Iterator[Any]:
        for item in stream(self, texts, **options):
            if item.index == 17:
                raise uv.UnavailableError("gone")
            yield item

    with monkeypatch.context() as patched:
        patched.setattr(Client, "embed_stream", cut_short)
        assert command(*flags) == 3
    journal = json.loads(Path("out.parquet.part/journal.json").read_text())
    assert journal["texts"] == 17
    assert journal["rows"] > 17
    assert command("--window", "48", "-o", "out.parquet") == 2
    assert command(*flags) == 0
    assert main(["embed", "-i", "whole.jsonl", *flags[:-1], "whole.parquet"]) == 0
    assert pq.read_table("out.parquet").equals(pq.read_table("whole.parquet"))
