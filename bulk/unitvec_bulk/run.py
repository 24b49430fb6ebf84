"""One run of a job: from its pieces to a folder in which all of them are done."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from unitvec_bulk.cluster import Cluster, connected
from unitvec_bulk.errors import JobFailed
from unitvec_bulk.job import Job
from unitvec_bulk.progress import Progress
from unitvec_bulk.reading.pieces import Piece, make_pieces
from unitvec_bulk.workers import ModelFiles, ShardWorker, Work, pickled, read_chunks
from unitvec_bulk.writing.folder import OutputFolder
from unitvec_bulk.writing.shards import Counts
from unitvec_client.console.terminal import working


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What changes nothing in the output, and so may differ from run to run.

    Attributes:
        cluster: Where it runs.
        workers: Workers side by side; 0 for one on each CPU or GPU of the cluster.
        max_errors: Rows that may fail before the job stops; None for any number.
    """

    cluster: Cluster = dataclasses.field(default_factory=Cluster)
    workers: int = 0
    max_errors: int | None = None


def run(job: Job, options: RunOptions) -> dict[str, Any]:
    """Does what is left of a job.

    Returns:
        The summary, which is also in the folder.

    Raises:
        JobConflict: The folder belongs to another job or run.
        JobFailed: It stopped before its end.
    """
    folder = OutputFolder(job.output)
    with folder.held():
        recorded = folder.recorded()
        if recorded is not None:  # what is refused is refused before Ray starts
            folder.take_up(job.record(job.limits(workers=1, recorded=recorded)))
        with connected(options.cluster) as ray:
            workers = options.workers or _count_workers(ray, job)
            limits = job.limits(workers=workers, recorded=recorded)
            folder.take_up(job.record(limits))
            if job.request.store is not None:
                job.request.store.prepare(job.schema)
            return _Run(job, options, folder, workers).carry_out(ray, limits)


_WORKERS_PER_READER = 4
"""One reader feeds more, unless it waits for a storage that is far away."""


_RELEASE_S = 600.0
"""A chunk that a reader gives out too much in this time is at most 16 MiB, or one row."""


class _Run:
    def __init__(self, job: Job, options: RunOptions, folder: OutputFolder, workers: int) -> None:
        self._job = job
        self._options = options
        self._folder = folder
        self._workers = workers

    def carry_out(self, ray: Any, limits: Any) -> dict[str, Any]:
        started_s = time.monotonic()
        done = self._folder.done_pieces()
        pieces = [p for p in make_pieces(self._job.files) if p.number not in done]
        progress = Progress(self._job.input_bytes, left=pieces, before=_total(done.values()))
        ledger = _Ledger(self._folder, self._options.max_errors, progress)
        with working(progress.forms, sys.stderr):
            if pieces:
                _follow(ray, self._results(ray, pieces, limits), ledger)
        summary = {
            **dataclasses.asdict(_total(self._folder.done_pieces().values())),
            **progress.facts(elapsed_s=time.monotonic() - started_s),
            "model": dataclasses.asdict(self._job.facts),
            "workers": self._workers,
        }
        self._folder.write("_unitvec/summary.json", summary)
        return summary

    def _results(self, ray: Any, pieces: Sequence[Piece], limits: Any) -> Iterator[dict[str, Any]]:
        counted = self._counted(ray, pieces, limits)
        for batch in counted.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield from batch.to_pylist()

    def _counted(self, ray: Any, pieces: Sequence[Piece], limits: Any) -> Any:
        """A dataset of the counts of chunks, which writes them."""
        job, ray_data = self._job, ray.data
        source = job.request.fleet or ModelFiles.put(ray, _artifact(job), job.facts.precision)
        work = Work(source, job.options, job.facts, job.layout, job.output, job.request.store)
        read = functools.partial(read_chunks, layout=job.layout, limits=limits)
        rows = pickled(pieces)
        # They count as no CPU, so nothing else bounds how many the engine starts.
        readers = min(len(pieces), max(2, self._workers // _WORKERS_PER_READER))
        # A dataset keeps the settings that it was made under. Others of this process have theirs.
        with ray_data.DataContext.current(_settings(ray_data.DataContext)):
            chunks = ray_data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                read,
                batch_size=1,
                batch_format="pyarrow",
                compute=ray_data.TaskPoolStrategy(size=readers),
                num_cpus=0,
            )
            return chunks.map_batches(
                ShardWorker,
                fn_constructor_args=(work,),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray_data.ActorPoolStrategy(size=self._workers),
                **_resources(job),
            )


def _settings(kind: Any) -> Any:
    """Ray Data's settings of a job, from those of this process."""
    context = kind.get_current().copy()
    context.target_max_block_size = context.target_min_block_size = 1  # a block a chunk
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A reader that Ray holds back gives out a block all the same after 10 s, so it would be
    # ahead by all of its input where a chunk takes longer. Nothing here waits for that block.
    context.output_backpressure_guard_release_interval_s = _RELEASE_S
    context.execution_no_progress_timeout_s = -1  # a chunk may take as long as it takes
    return context


class _Ledger:
    """Counts what comes back, and records each piece once all of it has."""

    def __init__(self, folder: OutputFolder, max_errors: int | None, progress: Progress) -> None:
        self._folder = folder
        self._max_errors = max_errors
        self._progress = progress
        self._ends: dict[int, int] = {}
        self._done: dict[int, dict[int, Counts]] = {}

    def note(self, result: dict[str, Any]) -> None:
        """Takes in the counts of one chunk, or the end of a piece."""
        piece, number = result["piece"], result["number"]
        done = self._done.setdefault(piece, {})
        if result["is_end"]:
            self._ends[piece] = number
        else:
            names = [field.name for field in dataclasses.fields(Counts)]
            done[number] = Counts(**{name: result[name] for name in names})
        self._progress.note(result)
        self._check_errors()
        if self._ends.get(piece) == len(done):
            counts = sum(done.values(), Counts())
            self._folder.note_done(piece, chunks=len(done), counts=counts)
            del self._done[piece]

    def close(self) -> None:
        """Checks that nothing is missing.

        Raises:
            JobFailed: A chunk never came back.
        """
        if self._done:
            raise JobFailed(f"{len(self._done)} pieces came back in part; run the command again")

    def _check_errors(self) -> None:
        failed = self._progress.counts.failed
        if self._max_errors is not None and failed > self._max_errors:
            raise JobFailed(
                f"{failed} rows failed, more than the {self._max_errors} of --max-errors; "
                "_errors/ tells why; the same command with more goes on from here"
            )


_LATER = "\n\nThe above exception was the direct cause"


def _follow(ray: Any, results: Iterator[dict[str, Any]], ledger: _Ledger) -> None:
    try:
        for result in results:
            ledger.note(result)
    except ray.exceptions.RayError as exc:
        # What a worker raised comes first; Ray's advice comes after it.
        told = str(exc).partition(_LATER)[0].strip()
        what = told.splitlines()[-1] if told else type(exc).__name__
        raise JobFailed(f"the engine gave up: {what}; the same command goes on from here") from exc
    ledger.close()


def _artifact(job: Job) -> Any:
    assert job.artifact is not None
    return job.artifact


def _resources(job: Job) -> dict[str, float]:
    if job.request.fleet is not None:
        return {"num_cpus": 0}
    return {"num_gpus": 1, "num_cpus": 1} if job.options.provider == "cuda" else {"num_cpus": 1}


_FLEET_WORKERS = 4
"""Streams side by side: each has up to 8 messages on the way, which keeps a server busy."""


def _count_workers(ray: Any, job: Job) -> int:
    if job.request.fleet is not None:
        return _FLEET_WORKERS
    kind = "GPU" if job.options.provider == "cuda" else "CPU"
    return max(1, int(ray.cluster_resources().get(kind, 1)))


def _total(records: Any) -> Counts:
    names = [field.name for field in dataclasses.fields(Counts)]
    return sum((Counts(**{n: record[n] for n in names}) for record in records), Counts())
