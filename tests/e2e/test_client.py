"""Our client, command and load tester against a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.e2e.test_parity import stdlib_docstrings
from unitvec_client import AsyncClient, Client, InvalidArgumentError

if TYPE_CHECKING:
    from tests.serving import Server

BIN = Path(sys.executable).parent


def run(name: str, *args: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """One of our commands."""
    return subprocess.run(
        [str(BIN / name), *args],
        input=text,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """1,100 real texts: more than one request holds."""
    return [text[:80] for _, text in zip(range(1100), stdlib_docstrings(), strict=False)]


def test_the_five_lines_of_the_readme(minilm_server: Server) -> None:
    with Client(minilm_server.target) as client:
        vectors = client.embed(["a cat on a mat", "a feline on a rug"])
        scores = client.similarity(["cat"], ["feline", "bank loan"])
        items = list(client.embed_stream(iter(["a cat on a mat", "a feline on a rug"])))
    assert (vectors.shape, vectors.dtype) == ((2, 384), np.float32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert scores.shape == (1, 2)
    assert scores[0, 0] > scores[0, 1]
    assert np.allclose(np.stack([item.vector for item in items]), vectors, atol=1e-5)


async def test_any_number_of_texts_however_sent(tiny_server: Server, texts: list[str]) -> None:
    """Split, pipelined, streamed, sync or async: the same vectors in the same order."""
    with Client(tiny_server.target) as client:
        expected = client.embed(texts)
        items = list(client.embed_stream(iter(texts)))
    assert [item.index for item in items] == list(range(len(texts)))
    assert np.abs(np.stack([item.vector for item in items]) - expected).max() < 1e-5
    async with AsyncClient(tiny_server.target) as client:
        assert np.abs(await client.embed(texts) - expected).max() < 1e-5


def test_a_stream_gives_each_bad_text_its_own_error(minilm_server: Server) -> None:
    texts = ["fine", "word " * 400, "fine too", "x" * 2_000_000, "and this"]
    with Client(minilm_server.target) as client:
        items = list(client.embed_stream(iter(texts), truncate="error"))
    assert [item.error is None for item in items] == [True, False, True, False, True]
    assert isinstance(items[1].error, InvalidArgumentError)
    assert items[1].error.reason == "TEXT_TOO_LONG"
    assert items[3].error is not None


def test_search_ranks_as_numpy_does(tiny_server: Server, texts: list[str]) -> None:
    queries = ["parse command line arguments", "open a compressed file"]
    with Client(tiny_server.target) as client:
        hits = client.search(queries, iter(texts), top_k=5)
        vectors = client.embed(queries + texts)
    scores = vectors[:2] @ vectors[2:].T
    for row, found in enumerate(hits):
        expected = np.sort(scores[row])[::-1][:5]
        assert np.allclose([hit.score for hit in found], expected, atol=1e-5)
        assert all(hit.text == texts[hit.index] for hit in found)


def test_the_command_embeds_a_file(minilm_server: Server, tmp_path: Path) -> None:
    lines = ["a cat on a mat", "a feline on a rug", "überraschung 🙂"]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "vectors.npy"
    target = ("--target", minilm_server.target)
    ended = run("unitvec", "embed", *target, "-i", str(tmp_path / "texts.txt"), "-o", str(out))
    assert ended.returncode == 0, ended.stderr
    with Client(minilm_server.target) as client:
        assert np.abs(np.load(out) - client.embed(lines)).max() < 1e-5
    assert run("unitvec", "health", *target).returncode == 0
    assert run("unitvec", "embed", *target, "--model", "nope", "x").returncode == 4
    assert run("unitvec", "health", "--target", "127.0.0.1:1").returncode == 3


@pytest.mark.parametrize("rpc", ["embed", "stream", "similarity"])
def test_a_verified_load_test_finds_no_wrong_answer(
    tiny_server: Server, tmp_path: Path, rpc: str
) -> None:
    report = tmp_path / "report.json"
    load = ("--rpc", rpc, "--concurrency", "8", "--count", "60", "--warmup-s", "0", "--verify")
    target = ("--target", tiny_server.target)
    ended = run("unitvec-loadtest", *target, *load, "--output-json", str(report))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(report.read_text())["summary"]["succeeded"] == 60


def test_a_stream_outlives_the_server_that_began_it(
    start: Callable[..., Server], artifact: Path, texts: list[str]
) -> None:
    """SIGTERM amid a stream: the client goes on at the other server, nothing lost or doubled."""
    first = start("--model", str(artifact))
    second = start("--model", str(artifact))
    both = ",".join((first.target, second.target))
    with Client(f"ipv4:{both}") as client:
        expected = client.embed(texts)
        stream = client.embed_stream(iter(texts), chunk_texts=16)
        items = [next(stream)]
        # The client takes the first address that answers, so this one serves the stream.
        first.process.send(signal.SIGTERM)
        items.extend(stream)
    assert first.process.wait() == 0
    assert [item.error for item in items] == [None] * len(texts)
    assert np.abs(np.stack([item.vector for item in items]) - expected).max() < 1e-5
