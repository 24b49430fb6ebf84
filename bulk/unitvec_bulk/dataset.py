"""The encoder as one step of a pipeline on Ray Data that is there already."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from unitvec_bulk.cluster import load_ray
from unitvec_bulk.embedding.outcome import Embedder, Outcome
from unitvec_bulk.embedding.remote import Fleet
from unitvec_bulk.errors import JobFailed, UsageError
from unitvec_bulk.job import Request, find_artifact, open_embedder
from unitvec_bulk.options import EmbedOptions
from unitvec_bulk.workers import ModelFiles, embed_rows
from unitvec_bulk.writing.shards import as_lists

ErrorsName = Literal["raise", "column"]

_BATCH_ROWS = 1024
_BLOCK_ROWS = 4096
"""Rows that a worker is given at once, some seconds of work. Ray reads small files, or a large one
of a single row group, as one block, which would leave all workers but one idle."""


def embed(
    dataset: Any,
    *,
    model: str | Path = "",
    fleet: Fleet | None = None,
    text_column: str = "text",
    vector_column: str = "vector",
    options: EmbedOptions | None = None,
    errors: ErrorsName = "raise",
    workers: int | None = None,
) -> Any:
    """Adds a column of vectors to a dataset of Ray Data. Lazy, as all of its steps are.

    Args:
        dataset: A `ray.data.Dataset` with a column of strings.
        model: Folder of an exported model, or a model to export; it travels to the nodes.
        fleet: A running fleet that embeds in place of the workers.
        text_column: Column of the texts.
        vector_column: Column of the vectors, lists of fixed size. With int8 there is one more,
            named so and ``_scale``, of the factors.
        options: How texts become vectors.
        errors: ``raise`` ends the pipeline at the first text that cannot be embedded; ``column``
            leaves its vector empty and says why in a column ``error``.
        workers: Workers side by side, each with a CPU or GPU of its own; None for all GPUs, or all
            CPUs but one, which the steps before and after need: without any they would wait for
            ever. A lone CPU is shared with them.

    Returns:
        The dataset with the new columns.

    Raises:
        UsageError: The model and the options do not go together.
    """
    ray = load_ray()
    options = options or EmbedOptions()
    if options.has_window_rows:
        raise UsageError("a row has one vector here: set pooled, or use unitvec-bulk")
    artifact = None
    if fleet is None:
        artifact = find_artifact(Request((), "", str(model), options=options))
    embedder = open_embedder(artifact, fleet, options)
    options = dataclasses.replace(options, precision=embedder.facts.precision)
    embedder.close()
    source: Fleet | ModelFiles = fleet or ModelFiles.put(
        ray, Path(str(artifact)), options.precision
    )
    there = ray.cluster_resources()
    cpus = int(there.get("CPU", 1))
    on_gpu = {"num_gpus": 1} if options.provider == "cuda" else {}
    count = workers or max(1, int(there.get("GPU", 1)) if on_gpu else cpus - 1)
    has_none = fleet is not None or (workers is None and cpus == 1)
    blocks = dataset.repartition(target_num_rows_per_block=_BLOCK_ROWS)
    return blocks.map_batches(
        EmbedStep,
        fn_constructor_args=(source, options, text_column, vector_column, errors),
        batch_size=_BATCH_ROWS,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=count),
        num_cpus=0 if has_none else 1,
        **on_gpu,
    )


class EmbedStep:
    """One worker of such a pipeline.

    Args:
        source: Model files, or the fleet that embeds.
        options: How texts become vectors.
        text_column: Column of the texts.
        vector_column: Column of the vectors.
        errors: As in `embed`.
    """

    def __init__(
        self,
        source: ModelFiles | Fleet,
        options: EmbedOptions,
        text_column: str,
        vector_column: str,
        errors: ErrorsName,
    ) -> None:
        self._options = options
        self._names = text_column, vector_column
        self._errors = errors
        self._embedder: Embedder
        if isinstance(source, Fleet):
            self._embedder = open_embedder(None, source, options)
        else:
            self._embedder = source.open(options)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Adds the columns to a batch."""
        text_column, vector_column = self._names
        texts = batch.column(text_column)
        outcome = embed_rows(pa.table({"_text": texts}), self._embedder)
        found = set(outcome.texts)
        failed = [index for index in range(len(texts)) if index not in found]
        if failed and self._errors == "raise":
            raise JobFailed(f"{_why(outcome, failed[0])}; errors='column' goes on without it")
        vectors, scales = as_lists(outcome, self._options, rows=len(texts))
        batch = batch.append_column(vector_column, vectors)
        if scales is not None:
            batch = batch.append_column(f"{vector_column}_scale", scales)
        if self._errors == "column":
            why = {index: _why(outcome, index) for index in failed}
            column = pa.array([why.get(index) for index in range(len(texts))], pa.string())
            batch = batch.append_column("error", column)
        return batch


def _why(outcome: Outcome, index: int) -> str:
    problem = outcome.problems.get(index)
    return f"{problem.reason}: {problem.message}" if problem else "NO_TEXT: it has no value"
