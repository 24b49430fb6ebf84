"""Shards without an engine: what workers write, and that everyone reads it as it is."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.artifacts import keep_pipeline_artifact, needs_kernels
from unitvec_bulk.embedding.local import LocalEmbedder
from unitvec_bulk.errors import JobConflict
from unitvec_bulk.job import Job, Request, prepare
from unitvec_bulk.options import DTYPES, Columns, DtypeName, EmbedOptions
from unitvec_bulk.reading.chunks import ChunkLimits
from unitvec_bulk.reading.pieces import make_pieces
from unitvec_bulk.run import RunOptions, run
from unitvec_bulk.workers import ShardWorker, Work, pickled, read_artifact, read_chunks
from unitvec_bulk.writing.folder import OutputFolder

TEXTS = [f"text {n}: {'a cat on a mat ' * (n % 5)}" for n in range(40)]


@dataclasses.dataclass(frozen=True)
class Local:
    """Opens an artifact where it is, as nodes do with the files that they fetched."""

    folder: Path

    def open(self, options: EmbedOptions) -> LocalEmbedder:
        return LocalEmbedder(self.folder, options)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int16"])
def test_what_travels_to_a_node_is_the_same_model(
    tmp_path: Path, precision: str, fused_artifact: Path
) -> None:
    """Precision int8 is one of two graphs, as the machine allows."""
    files = read_artifact(fused_artifact, precision)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    options = EmbedOptions(precision=precision)
    found = [LocalEmbedder(folder, options) for folder in (fused_artifact, tmp_path)]
    try:
        assert found[0].facts == found[1].facts
        mine, theirs = (embedder.embed(TEXTS).vectors for embedder in found)
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
        assert np.array_equal(mine, theirs) or not found[0].facts.is_reproducible
    finally:
        for embedder in found:
            embedder.close()
    assert sum(name.endswith(".onnx") for name in files) <= 2


@needs_kernels
def test_a_route_without_the_precision_travels_in_fp32(tmp_path: Path) -> None:
    folder = keep_pipeline_artifact("Router, static queries", ("fp32", "int8", "int16"))
    for name, content in read_artifact(folder, "int8").items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.onnx")}
    assert found == {"model.int8.onnx", "model.int8-fused.onnx", "route-query/model.fp32.onnx"}
    for prompt in ("query", "document"):
        embedder = LocalEmbedder(tmp_path, EmbedOptions(precision="int8", prompt_name=prompt))
        assert embedder.embed(TEXTS[:2]).vectors.shape == (2, embedder.facts.dim)
        embedder.close()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


def write_corpus(folder: Path) -> Path:
    """A file of Parquet whose row 7 has no text."""
    texts = [None if n == 7 else text for n, text in enumerate(TEXTS)]
    path = folder / "corpus.parquet"
    pq.write_table(pa.table({"text": texts, "id": [f"id-{n}" for n in range(len(texts))]}), path)
    return path


@pytest.fixture(scope="module")
def outputs(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[DtypeName, Path]:
    """The same job done in each type of numbers; not to be written to."""
    folders = {dtype: tmp_path_factory.mktemp(dtype) for dtype in DTYPES}
    for dtype, folder in folders.items():
        write(prepare(request_of(write_corpus(folder), artifact, dtype)), artifact)
    return {dtype: folder / "out" for dtype, folder in folders.items()}


def write(job: Job, folder: Path, *, chunks: int | None = None) -> list[dict[str, object]]:
    """Does a job, or some chunks of it, in this process: what the worker says of each chunk."""
    limits = ChunkLimits(16, 2**20)
    output = OutputFolder(job.output)
    with output.held():
        output.take_up(job.record(limits))
        source, store = Local(folder), job.request.store
        work = Work(source, job.options, job.facts, job.layout, job.output, store)  # type: ignore[arg-type]
        worker = ShardWorker(work)
        batch = pa.Table.from_pylist(pickled(make_pieces(job.files)))
        blocks = read_chunks(batch, layout=job.layout, limits=limits)
        try:
            some = itertools.islice(blocks, chunks)
            return [result for block in some for result in worker(block).to_pylist()]
        finally:
            worker.close()


def request_of(corpus: Path, artifact: Path, dtype: DtypeName = "float32") -> Request:
    return Request(
        (str(corpus),),
        str(corpus.parent / "out"),
        str(artifact),
        columns=Columns(id="id"),
        options=EmbedOptions(dtype=dtype, precision="fp32"),
    )


def expected(artifact: Path, ids: list[str]) -> npt.NDArray[np.float32]:
    embedder = LocalEmbedder(artifact, EmbedOptions(precision="fp32"))
    try:
        return embedder.embed([TEXTS[int(name.removeprefix("id-"))] for name in ids]).vectors
    finally:
        embedder.close()


def by_duckdb(folder: Path) -> tuple[list[str], list[object]]:
    import duckdb

    query = f"SELECT id, vector FROM '{folder}/*.parquet'"
    rows = duckdb.connect().execute(query).fetchall()
    return [row[0] for row in rows], [row[1] for row in rows]


def by_polars(folder: Path) -> tuple[list[str], list[object]]:
    import polars as pl

    rows = pl.read_parquet(f"{folder}/*.parquet")
    return rows["id"].to_list(), rows["vector"].to_list()


def by_pandas(folder: Path) -> tuple[list[str], list[object]]:
    import pandas as pd

    rows = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])
    return rows["id"].tolist(), rows["vector"].tolist()


def by_pyarrow(folder: Path) -> tuple[list[str], list[object]]:
    rows = ds.dataset(folder).to_table()
    return rows["id"].to_pylist(), rows["vector"].to_pylist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("read", [by_duckdb, by_polars, by_pandas])
def test_readers_see_the_same_numbers(
    outputs: dict[DtypeName, Path],
    dtype: DtypeName,
    read: Callable[[Path], tuple[list[str], list[object]]],
) -> None:
    ids, vectors = read(outputs[dtype])
    table = ds.dataset(outputs[dtype]).to_table().sort_by("id")
    assert sorted(ids) == sorted(f"id-{n}" for n in range(len(TEXTS)) if n != 7)
    wanted = np.stack(table["vector"].to_pylist())
    assert np.array_equal(np.stack(vectors)[np.argsort(ids)], wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_8_bits_take_8_bits(outputs: dict[DtypeName, Path], dtype: DtypeName) -> None:
    """Parquet has no integers under 32 bits, but dictionaries."""
    for path in outputs[dtype].glob("*.parquet"):
        group = pq.read_metadata(path).row_group(0)
        columns = [group.column(place) for place in range(group.num_columns)]
        [values] = [each for each in columns if each.path_in_schema.startswith("vector.")]
        assert ("RLE_DICTIONARY" in values.encodings) == (dtype in ("int8", "binary"))


def test_vectors_are_those_of_the_model(outputs: dict[DtypeName, Path], artifact: Path) -> None:
    for dtype, tolerance in (("float32", 1e-6), ("float16", 1e-3), ("int8", 4e-3)):
        table = ds.dataset(outputs[dtype]).to_table()
        vectors = np.stack(table["vector"].to_pylist()).astype(np.float32)
        if dtype == "int8":
            vectors *= table["scale"].to_numpy()[:, np.newaxis]
        wanted = expected(artifact, table["id"].to_pylist())
        np.testing.assert_allclose(vectors, wanted, atol=tolerance)


def test_a_shard_that_is_there_is_counted_and_not_written(corpus: Path, artifact: Path) -> None:
    job = prepare(request_of(corpus, artifact))
    first = write(job, artifact)
    times = {path: path.stat().st_mtime_ns for path in (corpus.parent / "out").glob("*.parquet")}
    second = write(job, artifact)
    kept = ("piece", "number", "rows", "failed", "vectors", "tokens")
    assert [[r[k] for k in kept] for r in first] == [[r[k] for k in kept] for r in second]
    assert not any(result["is_new"] for result in second)
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [None, "x" * 2**20], ids=["no text", "too large"])
def test_chunks_without_any_vector_are_errors_alone(
    artifact: Path, tmp_path: Path, dtype: DtypeName, bad: str | None
) -> None:
    """A large text is a slice by itself."""
    texts = ["good", *[bad] * 40, "good"]
    ids = [f"id-{n}" for n in range(len(texts))]
    pq.write_table(pa.table({"text": texts, "id": ids}), tmp_path / "corpus.parquet")
    results = write(prepare(request_of(tmp_path / "corpus.parquet", artifact, dtype)), artifact)
    assert sum(int(str(result["failed"])) for result in results) == 40
    assert ds.dataset(tmp_path / "out").to_table()["id"].to_pylist() == ["id-0", "id-41"]
    reasons = ds.dataset(tmp_path / "out" / "_errors").to_table()["reason"].to_pylist()
    assert set(reasons) == {"NO_TEXT" if bad is None else "TEXT_TOO_LARGE"}
    assert len(reasons) == 40


def test_a_worker_that_fails_leaves_nothing(
    corpus: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare(request_of(corpus, artifact))
    monkeypatch.setattr("os.fsync", _full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(job, artifact)
    assert not list((corpus.parent / "out").glob("*.parquet"))
    assert not list((corpus.parent / "out" / "_unitvec" / "tmp").iterdir())


def test_a_second_run_beside_the_first_is_refused_before_ray_starts(
    corpus: Path, artifact: Path
) -> None:
    job = prepare(request_of(corpus, artifact))
    with (
        OutputFolder(job.output).held(),
        pytest.raises(
            JobConflict, match=f"another run writes to this folder .process {os.getpid()} "
        ),
    ):
        run(job, RunOptions())


def test_another_job_is_refused_before_ray_starts(corpus: Path, artifact: Path) -> None:
    write(prepare(request_of(corpus, artifact)), artifact)
    with pytest.raises(JobConflict, match=r"options was .*float32.* and is .*float16"):
        run(prepare(request_of(corpus, artifact, "float16")), RunOptions())


def _full_disk(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_faiss_takes_float32_and_binary(outputs: dict[DtypeName, Path]) -> None:
    import faiss

    for dtype, index in (
        ("float32", faiss.IndexFlatIP(32)),
        ("binary", faiss.IndexBinaryFlat(32)),
    ):
        column = ds.dataset(outputs[dtype]).to_table()["vector"].combine_chunks()
        matrix = column.flatten().to_numpy().reshape(len(column), -1)
        index.add(matrix)
        _, places = index.search(matrix, 1)
        assert np.array_equal(matrix[places[:, 0]], matrix)


@pytest.mark.parametrize("dtype", DTYPES)
def test_datasets_takes_the_files(
    outputs: dict[DtypeName, Path], dtype: DtypeName, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    files = [str(path) for path in sorted(outputs[dtype].glob("*.parquet"))]
    loaded = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path)
    )
    wanted = pa.concat_tables(map(pq.read_table, files))
    assert loaded.data.table["vector"].to_pylist() == wanted["vector"].to_pylist()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_lancedb_takes_the_folder(
    outputs: dict[DtypeName, Path], dtype: DtypeName, tmp_path: Path
) -> None:
    lancedb = pytest.importorskip("lancedb")
    rows = ds.dataset(outputs[dtype]).to_table()
    table = lancedb.connect(tmp_path).create_table("texts", rows)
    [hit] = table.search(rows["vector"][3].as_py()).limit(1).to_list()
    assert hit["id"] == rows["id"][3].as_py()


def test_qdrant_takes_a_shard_at_a_time(outputs: dict[DtypeName, Path]) -> None:
    """As docs/bulk.md shows it."""
    qdrant = pytest.importorskip("qdrant_client")
    client = qdrant.QdrantClient(":memory:")
    size = qdrant.models.VectorParams(size=32, distance=qdrant.models.Distance.DOT)
    client.create_collection("texts", vectors_config=size)
    for shard in sorted(outputs["float32"].glob("*.parquet")):
        rows = pq.read_table(shard)
        ids = [int(name.removeprefix("id-")) for name in rows["id"].to_pylist()]
        payload = rows.drop_columns(["id", "vector"]).to_pylist()
        client.upload_collection("texts", rows["vector"].to_pylist(), payload, ids)
    assert client.count("texts").count == len(TEXTS) - 1
    [hit] = client.query_points("texts", query=rows["vector"][0].as_py(), limit=1).points
    assert hit.id == ids[0]
    assert hit.payload["tokens"] == rows["tokens"][0].as_py()
    client.close()
