"""Jobs whose vectors go into a database: nothing lost, nothing doubled, whatever was cut short."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.bulk.test_shards import TEXTS, _full_disk, expected, request_of, write
from unitvec_bulk.errors import JobConflict, UsageError
from unitvec_bulk.flags import read_flags
from unitvec_bulk.job import Job, Request, prepare
from unitvec_bulk.options import Columns, EmbedOptions
from unitvec_bulk.writing.stores import LanceDB, Qdrant, Store

lancedb = pytest.importorskip("lancedb")
qdrant_client = pytest.importorskip("qdrant_client")

IDS = [n for n in range(len(TEXTS)) if n not in (7, 9)]
"""Row 7 has no text, row 9 no id."""


@pytest.fixture(params=["lancedb", "qdrant"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A database that is empty: LanceDB in a folder, or Qdrant's local mode."""
    return store_at(request.param, tmp_path)


def store_at(kind: str, folder: Path) -> Store:
    make = {"lancedb": LanceDB, "qdrant": Qdrant}[kind]
    return make(str(folder / kind), "texts")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Rows with whole numbers as ids; one has no text, one no id."""
    texts = [None if n == 7 else text for n, text in enumerate(TEXTS)]
    ids = pa.array([None if n == 9 else n for n in range(len(texts))], pa.int64())
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"text": texts, "id": ids}), path)
    return path


def job_of(corpus: Path, artifact: Path, store: Store, **changes: Any) -> Job:
    request = dataclasses.replace(request_of(corpus, artifact), store=store, **changes)
    return prepare(request)


def stored(store: Store) -> dict[Any, np.ndarray]:
    """Vectors of all rows by their ids; fails where two rows have the same."""
    rows = records_of(store)
    found = {row["id"]: np.array(row["vector"], np.float32) for row in rows}
    assert len(found) == len(rows)
    return found


def records_of(store: Store) -> list[dict[str, Any]]:
    if isinstance(store, LanceDB):
        return list(lancedb.connect(store.url).open_table("texts").to_arrow().to_pylist())
    client = qdrant_client.QdrantClient(path=store.facts()["url"])
    try:
        points, _ = client.scroll("texts", limit=1000, with_vectors=True)
        return [{**point.payload, "point": point.id, "vector": point.vector} for point in points]
    finally:
        client.close()


def put(job: Job, artifact: Path) -> list[dict[str, object]]:
    assert job.request.store is not None
    job.request.store.prepare(job.schema)
    return write(job, artifact)


def test_the_store_has_the_vectors_and_the_folder_the_rest(
    corpus: Path, artifact: Path, store: Store
) -> None:
    job = job_of(corpus, artifact, store)
    put(job, artifact)
    found = stored(store)
    assert sorted(found) == IDS
    vectors = expected(artifact, [f"id-{n}" for n in sorted(found)])
    np.testing.assert_allclose([found[n] for n in sorted(found)], vectors, atol=1e-6)
    out = corpus.parent / "out"
    rows = ds.dataset(out).to_table()
    assert rows.column_names == ["id", "tokens", "truncated"]
    assert sorted(rows["id"].to_pylist()) == IDS
    errors = ds.dataset(out / "_errors").to_table().to_pylist()
    assert {error["row"]: error["reason"] for error in errors} == {7: "NO_TEXT", 9: "MISSING_ID"}
    assert not list((out / "_unitvec" / "begun").iterdir())


def test_what_made_the_vectors_is_in_the_store(corpus: Path, artifact: Path, store: Store) -> None:
    job = job_of(corpus, artifact, store)
    put(job, artifact)
    if isinstance(store, LanceDB):
        schema = lancedb.connect(store.url).open_table("texts").schema
        about = json.loads(schema.metadata[b"unitvec"])
    else:
        client = qdrant_client.QdrantClient(path=store.facts()["url"])
        about = client.get_collection("texts").config.metadata["unitvec"]
        client.close()
    assert about["space"] == job.facts.space
    assert about["dtype"] == "float32"


def test_chunks_that_were_cut_short_are_not_doubled(
    corpus: Path, artifact: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has rows of a chunk whose shard never appeared, as after a kill."""
    job = job_of(corpus, artifact, store)
    synced = iter([None])  # the errors of the chunk, which come first

    def full_later(file: int) -> None:
        if next(synced, file) is not None:
            _full_disk(file)

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", full_later)
        with pytest.raises(OSError, match="No space left"):
            put(job, artifact)
    assert len(stored(store)) == 14  # the first chunk of 16 rows, two of which have none
    put(job, artifact)
    assert sorted(stored(store)) == IDS
    results = put(job, artifact)
    assert not any(result["is_new"] for result in results)
    assert sorted(stored(store)) == IDS


def test_vectors_of_another_kind_are_refused(corpus: Path, artifact: Path, store: Store) -> None:
    put(job_of(corpus, artifact, store), artifact)
    other = EmbedOptions(precision="fp32", normalize=False)
    with pytest.raises(JobConflict, match="'texts' holds other vectors: normalize is True there"):
        put(job_of(corpus, artifact, store, options=other), artifact)
    shorter = EmbedOptions(precision="fp32", dimensions=16)
    with pytest.raises(JobConflict, match=r"'texts' (holds other vectors|is not of one vector)"):
        put(job_of(corpus, artifact, store, options=shorter), artifact)
    assert sorted(stored(store)) == IDS


def test_further_rows_of_the_same_kind_join(corpus: Path, artifact: Path, store: Store) -> None:
    """As a day's new texts do."""
    put(job_of(corpus, artifact, store), artifact)
    table = pa.table({"text": ["new"], "id": [1000]})
    pq.write_table(table, corpus.parent / "new.parquet")
    job = job_of(
        corpus,
        artifact,
        store,
        inputs=(str(corpus.parent / "new.parquet"),),
        output=str(corpus.parent / "out-2"),
    )
    put(job, artifact)
    assert sorted(stored(store)) == [*IDS, 1000]


def test_windows_have_rows_of_their_own(artifact: Path, tmp_path: Path, store: Store) -> None:
    """Without an id column, too."""
    (tmp_path / "long.txt").write_text("short\n" + "a cat on a mat " * 20)
    request = Request(
        (str(tmp_path / "long.txt"),),
        str(tmp_path / "out"),
        str(artifact),
        options=EmbedOptions(precision="fp32", window_tokens=16),
        store=store,
    )
    put(prepare(request), artifact)
    keys = [(row["row"], row["start"]) for row in records_of(store)]
    assert len(set(keys)) == len(keys) > 3
    assert {row for row, _ in keys} == {0, 1}


def test_qdrant_has_ids_of_its_own_where_ours_do_not_fit(artifact: Path, tmp_path: Path) -> None:
    store = Qdrant(str(tmp_path / "qdrant"), "texts")
    given = [str(uuid.UUID(int=5)), "7", "a name", "another"]
    pq.write_table(pa.table({"text": given, "id": given}), tmp_path / "corpus.parquet")
    put(job_of(tmp_path / "corpus.parquet", artifact, store), artifact)
    points = {row["id"]: row["point"] for row in records_of(store)}
    assert sorted(points) == sorted(given)
    assert points[given[0]] == given[0]
    assert len({uuid.UUID(point) for point in points.values()}) == 4


@pytest.mark.parametrize(
    ("kind", "dtype"), [("lancedb", "int8"), ("qdrant", "int8"), ("qdrant", "binary")]
)
def test_numbers_that_are_not_searched_are_refused(
    corpus: Path, artifact: Path, tmp_path: Path, kind: str, dtype: Any
) -> None:
    options = EmbedOptions(precision="fp32", dtype=dtype)
    with pytest.raises(UsageError, match=f"searches no {dtype}"):
        job_of(corpus, artifact, store_at(kind, tmp_path), options=options)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("lancedb", "float16"), ("lancedb", "binary"), ("qdrant", "float16")]
)
def test_smaller_numbers_are_stored(
    corpus: Path, artifact: Path, tmp_path: Path, kind: str, dtype: Any
) -> None:
    store = store_at(kind, tmp_path)
    put(
        job_of(corpus, artifact, store, options=EmbedOptions(precision="fp32", dtype=dtype)),
        artifact,
    )
    assert sorted(stored(store)) == IDS


def test_columns_that_are_no_payload_are_refused(artifact: Path, tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "id": [1], "raw": [b"\xff"]})
    pq.write_table(table, tmp_path / "corpus.parquet")
    with pytest.raises(UsageError, match="no binary, the type of column raw"):
        job_of(
            tmp_path / "corpus.parquet",
            artifact,
            Qdrant(str(tmp_path / "qdrant"), "texts"),
            columns=Columns(id="id", keep=("raw",)),
        )


def test_a_server_that_is_not_there_is_named(corpus: Path, artifact: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot use Qdrant at http://127\.0\.0\.1:1:"):
        put(job_of(corpus, artifact, Qdrant("http://127.0.0.1:1", "texts")), artifact)


def test_flags_that_do_not_go_together_are_refused() -> None:
    usual = ["in", "-o", "out"]
    for flags, message in (
        (["--lancedb", "db"], "name the table with --table"),
        (["--table", "texts"], "name one of them"),
        (["--lancedb", "db", "--qdrant", "http://h", "--table", "t"], "exclude each other"),
        (["--qdrant", "db", "--table", "t"], "--workers 1"),
    ):
        with pytest.raises(UsageError, match=message):
            read_flags([*usual, *flags])
    store = read_flags([*usual, "--lancedb", "db", "--table", "t"]).request.store
    assert store == LanceDB(str(Path("db").absolute()), "t")


@pytest.mark.deep
def test_a_killed_job_goes_on_in_lancedb(
    corpus: Path, fused_artifact: Path, tmp_path: Path
) -> None:
    """The driver is killed once rows are in the table; two workers wrote to it."""
    ids = list(range(200))
    texts = [f"{n} {TEXTS[n % 40]}" for n in ids]
    pq.write_table(pa.table({"text": texts, "id": ids}), corpus)
    command = [sys.executable, "-m", "unitvec_bulk", str(corpus), "-o", str(tmp_path / "out")]
    command += ["--id-column", "id", "--model", str(fused_artifact), "--cpus", "2"]
    command += ["--shard-rows", "5", "--lancedb", str(tmp_path / "lancedb"), "--table", "texts"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while first.poll() is None and len(list((tmp_path / "out").glob("*.parquet"))) < 5:
            time.sleep(0.05)
    finally:
        first.kill()
        first.wait()
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert second.returncode == 0, second.stderr
    store = LanceDB(str(tmp_path / "lancedb"), "texts")
    assert sorted(stored(store)) == ids
    assert len(pl.read_parquet(f"{tmp_path}/out/*.parquet")) == len(ids)
