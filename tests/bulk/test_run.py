"""Whole jobs on Ray: the same vectors as a server's, nothing lost, and who may write where."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.serving import serving
from unitvec_bulk import EmbedOptions, JobConflict, JobFailed, UsageError, embed
from unitvec_bulk.embedding.remote import Fleet
from unitvec_bulk.job import Request, prepare
from unitvec_bulk.options import Columns
from unitvec_bulk.run import RunOptions, run
from unitvec_client import Client

pytestmark = pytest.mark.deep

TEXTS = [f"text {n}: {'a cat on a mat ' * (n % 7)}" for n in range(230)]
BAD = {50: None, 120: ""}  # an empty text is a text


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two files of Parquet, with a row that has no text."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    texts = [BAD.get(n, text) for n, text in enumerate(TEXTS)]
    table = pa.table({"id": range(len(texts)), "text": texts, "lang": ["en"] * len(texts)})
    pq.write_table(table.slice(0, 100), folder / "a.parquet")
    pq.write_table(table.slice(100), folder / "b.parquet")
    return folder


@pytest.fixture
def request_(corpus: Path, fused_artifact: Path, tmp_path: Path) -> Request:
    return Request(
        (str(corpus),),
        str(tmp_path / "out"),
        str(fused_artifact),
        columns=Columns(id="id", keep=("lang",)),
        shard_rows=64,
    )


def rows_of(output: str) -> pl.DataFrame:
    """All rows that a job wrote, in the order of their ids."""
    return pl.read_parquet(f"{output}/*.parquet").sort("id")


def with_options(request: Request, **changes: Any) -> Request:
    return dataclasses.replace(request, options=EmbedOptions(**changes))


def test_vectors_are_the_servers_to_the_last_bit(
    ray_cluster: Any, request_: Request, fused_artifact: Path
) -> None:
    summary = run(prepare(request_), RunOptions(workers=2))
    rows = rows_of(request_.output)
    expected = [n for n in range(len(TEXTS)) if n != 50]
    assert rows["id"].to_list() == expected
    assert set(rows["lang"]) == {"en"}
    with serving("--model", str(fused_artifact)) as server, Client(server.target) as client:
        vectors = client.embed([BAD.get(n) or ("" if n in BAD else TEXTS[n]) for n in expected])
        fleet = dataclasses.replace(
            request_, output=f"{request_.output}-fleet", model="", fleet=Fleet(server.target)
        )
        run(prepare(fleet), RunOptions(workers=2))
    assert np.array_equal(np.stack(rows["vector"].to_list()), vectors)
    by_fleet = rows_of(fleet.output)
    assert by_fleet.equals(rows)
    assert (summary["rows"], summary["failed"], summary["vectors"]) == (230, 1, 229)
    assert summary["tokens"] == rows["tokens"].sum()
    errors = pl.read_parquet(f"{request_.output}/_errors/*.parquet").to_dicts()
    assert [(e["id"], e["row"], e["reason"]) for e in errors] == [("50", 50, "NO_TEXT")]


def test_a_second_run_has_nothing_to_do(ray_cluster: Any, request_: Request) -> None:
    first = run(prepare(request_), RunOptions(workers=1))
    shards = {path: path.stat().st_mtime_ns for path in Path(request_.output).glob("*.parquet")}
    second = run(prepare(request_), RunOptions(workers=1))
    assert second["this_run"]["rows"] == 0
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert [second[key] for key in ("rows", "vectors", "tokens", "failed")] == [
        first[key] for key in ("rows", "vectors", "tokens", "failed")
    ]


def test_what_is_missing_is_made_again(ray_cluster: Any, request_: Request) -> None:
    """As after a kill: a shard is missing, no piece is recorded, half a file lies about."""
    run(prepare(request_), RunOptions(workers=2))
    before = rows_of(request_.output)
    output = Path(request_.output)
    next(iter(sorted(output.glob("*.parquet")))).unlink()
    for record in (output / "_unitvec" / "pieces").iterdir():
        record.unlink()
    (output / "_unitvec" / "tmp" / "half").write_bytes(b"PAR1")
    summary = run(prepare(request_), RunOptions(workers=2))
    assert rows_of(request_.output).equals(before)
    assert summary["this_run"]["rows"] == 64
    assert summary["rows"] == 230
    assert not list((output / "_unitvec" / "tmp").iterdir())


def test_another_job_in_the_folder_is_refused(
    ray_cluster: Any, request_: Request, corpus: Path
) -> None:
    run(prepare(request_), RunOptions(workers=1))
    other = with_options(request_, dtype="float16")
    with pytest.raises(JobConflict, match=r"options was .*float32.* and is .*float16"):
        run(prepare(other), RunOptions(workers=1))
    pq.write_table(pa.table({"id": [1], "text": ["x"], "lang": ["de"]}), corpus / "c.parquet")
    with pytest.raises(JobConflict, match="input"):
        run(prepare(request_), RunOptions(workers=1))


def test_a_folder_of_other_files_is_refused(ray_cluster: Any, request_: Request) -> None:
    output = Path(request_.output)
    output.mkdir()
    (output / "thesis.tex").write_text("")
    with pytest.raises(JobConflict, match="holds other files"):
        run(prepare(request_), RunOptions(workers=1))
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]


def test_too_many_errors_stop_the_job(ray_cluster: Any, request_: Request) -> None:
    with pytest.raises(JobFailed, match="1 rows failed, more than the 0 of --max-errors"):
        run(prepare(request_), RunOptions(workers=1, max_errors=0))
    assert run(prepare(request_), RunOptions(workers=1))["rows"] == 230


def test_windows_have_rows_of_their_own(
    ray_cluster: Any, request_: Request, fused_artifact: Path, tmp_path: Path
) -> None:
    long = " ".join(f"Sentence {n} of many." for n in range(40))
    (tmp_path / "long.txt").write_text(f"short\n{long}\n")
    request = dataclasses.replace(
        with_options(request_, window_tokens=32, overlap_tokens=4),
        inputs=(str(tmp_path / "long.txt"),),
        columns=Columns(),
    )
    run(prepare(request), RunOptions(workers=1))
    rows = pl.read_parquet(f"{request.output}/*.parquet").sort("row", "start")
    assert rows["row"].to_list()[:2] == [0, 1]
    assert len(rows) > 5
    assert rows["end"].max() == len(long)
    metadata = json.loads(ds.dataset(request.output).schema.metadata[b"unitvec"])
    assert metadata["window_tokens"] == 32
    assert metadata["bits"].startswith("b1-")


def test_options_that_do_not_fit_are_refused_at_once(request_: Request) -> None:
    for changes in ({"dimensions": 4096}, {"prompt_name": "none"}, {"window_tokens": 9}):
        with pytest.raises(UsageError):
            prepare(with_options(request_, **changes))


def test_a_column_with_a_name_of_ours_is_refused(request_: Request, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "vector": [1]}), tmp_path / "v.parquet")
    request = dataclasses.replace(
        request_, inputs=(str(tmp_path / "v.parquet"),), columns=Columns(keep=("vector",))
    )
    with pytest.raises(UsageError, match="column vector is one of the output's own"):
        prepare(request)


def test_a_dataset_gets_a_column(ray_cluster: Any, fused_artifact: Path, tmp_path: Path) -> None:
    """By as many workers as there may be, beside a step that needs a CPU as well."""
    dataset = ray_cluster.data.from_items(
        [{"text": text} for text in TEXTS[:100]] + [{"text": None}]
    )
    embed(dataset, model=fused_artifact, errors="column").write_parquet(str(tmp_path / "out"))
    found = ds.dataset(tmp_path / "out").to_table().to_pandas()
    found = found.sort_values("error", na_position="first", kind="stable")
    assert found["error"].notna().tolist() == [False] * 100 + [True]
    with serving("--model", str(fused_artifact)) as server, Client(server.target) as client:
        by_text = dict(zip(TEXTS[:100], client.embed(TEXTS[:100]), strict=True))
    for text, vector in zip(found["text"][:100], found["vector"][:100], strict=True):
        assert np.array_equal(vector, by_text[text])


def test_other_datasets_of_the_process_keep_their_settings(
    ray_cluster: Any, request_: Request
) -> None:
    kind = ray_cluster.data.DataContext
    before = vars(kind.get_current().copy())
    run(prepare(request_), RunOptions(workers=1))
    after = vars(kind.get_current())
    assert {name for name in after if after[name] != before.get(name)} == set()


def test_all_workers_have_a_part_of_one_block(ray_cluster: Any, fused_artifact: Path) -> None:
    """Small files come as one block, which a single worker would take."""
    texts = pa.table({"text": [f"text {n}" for n in range(5000)]})
    found = embed(ray_cluster.data.from_arrow(texts), model=fused_artifact, workers=1)
    blocks = [ray_cluster.get(block) for block in found.materialize().get_internal_block_refs()]
    assert sorted(block.num_rows for block in blocks) == [904, 4096]
