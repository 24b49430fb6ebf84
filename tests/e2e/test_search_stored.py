"""What `unitvec embed` wrote is searched by `unitvec search`, and only in its own space."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import unitvec_client as uv
from tests.serving import Server, serving
from unitvec_client.cli.main import main

TEXTS = ["a cat on a mat", "how to cook rice", "the rain in spain", "a dog", "rice with beans"]


def run(server: Server, *args: str) -> int:
    return main([args[0], "--target", server.target, *args[1:]])


@pytest.fixture(scope="module")
def prompted_server(prompted_artifact: Path) -> Iterator[Server]:
    """A model of another space."""
    with serving("--model", str(prompted_artifact)) as server:
        yield server


@pytest.fixture(params=["v.npy", "v.parquet", "v.jsonl"])
def written(request: pytest.FixtureRequest, tmp_path: Path, tiny_server: Server) -> Path:
    """Vectors of the texts, with the texts where the format has room for them."""
    path = tmp_path / str(request.param)
    more = [] if path.suffix == ".npy" else ["--with-text"]
    assert run(tiny_server, "embed", *TEXTS, "-o", str(path), *more) == 0
    return path


def test_a_text_finds_itself(written: Path, tiny_server: Server, tmp_path: Path) -> None:
    """The command and both clients have the hits that the server has over the texts."""
    out = tmp_path / "hits.jsonl"
    asked = ("search", TEXTS[1], TEXTS[3], "--vectors", str(written), "--top-k", "3")
    assert run(tiny_server, *asked, "-o", str(out)) == 0
    shown = [json.loads(line) for line in out.read_text().splitlines()]
    with uv.Client(tiny_server.target) as client:
        hits = client.search([TEXTS[1], TEXTS[3]], vectors=written, top_k=3)
        wanted = client.search([TEXTS[1], TEXTS[3]], TEXTS, top_k=3)
    for line, found, right in zip(shown, hits, wanted, strict=True):
        assert [hit.index for hit in found] == [hit.index for hit in right]
        assert [hit["index"] for hit in line["hits"]] == [hit.index for hit in right]
        scores = [hit.score for hit in right]
        np.testing.assert_allclose([hit.score for hit in found], scores, atol=1e-5)
        texts = [TEXTS[hit.index] for hit in found]
        assert [hit.text for hit in found] == ([None] * 3 if written.suffix == ".npy" else texts)


@pytest.mark.parametrize("name", ["v.npy", "v.parquet", "v.jsonl"])
@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_every_number_type_is_searched_as_it_was_written(
    tiny_server: Server, tmp_path: Path, dtype: str, name: str
) -> None:
    path = tmp_path / name
    assert run(tiny_server, "embed", *TEXTS, "-o", str(path), "--dtype", dtype) == 0
    with uv.Client(tiny_server.target) as client:
        for index, hits in enumerate(client.search(TEXTS, vectors=path, top_k=1)):
            assert hits[0].index == index


@pytest.mark.parametrize("name", ["gone.npy", "gone.parquet", "gone.jsonl", "folder.npy"])
def test_a_file_that_cannot_be_read_is_named(
    tiny_server: Server, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.npy").mkdir()
    path = tmp_path / name
    assert run(tiny_server, "search", "a", "--vectors", str(path)) == 2
    assert f"unitvec: cannot read {path}: " in capsys.readouterr().err


def test_another_space_is_refused(
    written: Path, prompted_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = pytest.raises(uv.IdentityMismatchError, match="are expected")
    with uv.Client(prompted_server.target) as client, expected:
        client.search("a cat", vectors=written)
    assert run(prompted_server, "search", "a cat", "--vectors", str(written)) == 4
    assert "are expected" in capsys.readouterr().err


def test_queries_are_checked_as_those_of_documents_are(written: Path, tiny_server: Server) -> None:
    """A column of Arrow is taken, and errors name the query, before anything is sent."""
    with uv.Client(tiny_server.target) as client:
        wanted = client.search(TEXTS[1:3], vectors=written)
        assert client.search(pa.array(TEXTS[1:3]), vectors=written) == wanted
        for given, field in ((["a", 1], "queries[1]"), (iter("ab"), "queries")):
            with pytest.raises(uv.InputTypeError) as caught:
                client.search(given, vectors=written)
            assert caught.value.field == field
    with pytest.raises(uv.ClientClosedError):
        client.search(np.ones((1, 32), np.float32), vectors=written)


async def test_from_asyncio(written: Path, tiny_server: Server) -> None:
    async with uv.AsyncClient(tiny_server.target) as client:
        [hits] = await client.search(TEXTS[2], vectors=written)
        vectors = await client.embed(TEXTS)
        [same] = await client.search(vectors[2:3], vectors=vectors)
    assert hits[0].index == 2
    assert [hit.index for hit in same] == [hit.index for hit in hits]


def test_windows(tiny_server: Server, tmp_path: Path) -> None:
    """Windows of one text are one hit, with the span of the best."""
    path = tmp_path / "v.npy"
    texts = [" ".join(TEXTS * 4), TEXTS[3]]
    assert run(tiny_server, "embed", *texts, "-o", str(path), "--window", "12") == 0
    with uv.Client(tiny_server.target) as client:
        [rows] = client.search(TEXTS[3], vectors=path, top_k=50)
        [hits] = client.search(TEXTS[3], vectors=path, group_by="line")
    assert len(rows) > len(hits) == 2
    assert hits[0].fields["line"] == 2
    assert hits[1].fields["end"] > hits[1].fields["start"]


def test_what_does_not_go_together(tiny_server: Server, written: Path) -> None:
    vectors = ("--vectors", str(written))
    for args in (
        (),
        ("--documents", str(written), *vectors),
        ("--documents", str(written), "--group-by", "line"),
        ("--document-prompt-name", "p", *vectors),
    ):
        assert run(tiny_server, "search", "a", *args) == 2
    with uv.Client(tiny_server.target) as client, pytest.raises(uv.InputError):
        client.search("a")
