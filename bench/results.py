"""Raw results: one JSON object a line, from which every report is computed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """What holds for all lines that follow.

    Attributes:
        started: When, ISO 8601, UTC.
        commit: Of the working tree; ends in ``-dirty`` if the tree differs from it.
        machine: See `machine.describe`.
        threads: CPUs that each contender, or the server and its load, was held to.
        model_id: Of the artifact.
        settings: Flags of the run.
        format_version: Of this file.
    """

    started: str
    commit: str
    machine: dict[str, Any]
    threads: int
    model_id: str
    settings: dict[str, Any]
    format_version: int = FORMAT_VERSION


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A contender is ready."""

    contender: str
    title: str
    kind: str
    variant: str
    environment: str
    versions: dict[str, str]
    load_s: float


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A contender does not take part, or no longer."""

    contender: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Quality:
    """Measured once for each contender.

    Attributes:
        contender: Its name.
        top10_overlap: Part of the reference's ten best documents that it finds as well.
        queries: Queries of that task.
        documents: Documents of that task.
        batch_max_abs_diff: Largest difference of any component of a text's vector between two
            runs in which it had other batch mates.
    """

    contender: str
    top10_overlap: float
    queries: int
    documents: int
    batch_max_abs_diff: float


@dataclasses.dataclass(frozen=True)
class Bits:
    """How many vectors of a contender are equal to the last bit, whatever their company.

    Attributes:
        contender: Its name.
        texts: Texts that were embedded twice, all of them together.
        equal_again: Those whose vector was the same both times.
        lone_texts: Those of them that were sent alone as well.
        equal_alone: Those whose vector was the same alone.
    """

    contender: str
    texts: int
    equal_again: int
    lone_texts: int
    equal_alone: int


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One contender on one workload in one round.

    Attributes:
        contender: Its name.
        workload: Name of the texts.
        round: Number of the round; 0 is the warm-up, which does not count.
        seconds: Of all passes.
        passes: How often the texts were embedded.
        texts: Texts in one pass.
        tokens: Real tokens in one pass, as the contender cuts them.
        texts_per_s: Throughput.
        tokens_per_s: Throughput.
        ratio: Throughput in texts over the reference's in the same round.
        p50_ms: Median time of a request.
        p99_ms: 99th percentile of it.
        cpu_s: Processor time of the contender's processes.
        others_cpu_s: Processor time of everything else on the machine meanwhile.
        peak_rss_bytes: Largest resident sets of the worker's processes so far, summed.
        cosine_mean: Mean over the texts of the cosine to the reference's vector.
        cosine_p1: First percentile of it.
        cosine_min: Least of it.
    """

    contender: str
    workload: str
    round: int
    seconds: float
    passes: int
    texts: int
    tokens: int
    texts_per_s: float
    tokens_per_s: float
    ratio: float
    p50_ms: float
    p99_ms: float
    cpu_s: float
    others_cpu_s: float
    peak_rss_bytes: int
    cosine_mean: float
    cosine_p1: float
    cosine_min: float


@dataclasses.dataclass(frozen=True)
class Load:
    """What one run of the load tester saw of our server.

    Attributes:
        condition: Which load, such as ``peak``.
        round: Number of the round, from 1.
        factor: Asked rate over the peak measured just before; None if that was not the measure.
        texts_per_request: Texts in each request.
        sent_per_s: Requests sent in a second of the measured window.
        ok_per_s: Good answers in a second of it: goodput.
        outcomes: Requests sent in the window, by status code, OK included.
        latencies_ms: Of those that were OK, from when each was due to its answer.
        server_ms: Of the same requests, the time between as the server counts it.
        lag_p99_ms: How late the load tester sent.
        run_s: All of the run, warm-up and the wait for the last answers included.
        client_cpu_s: Processor time of the load tester in it.
        group_cpu_s: Processor time of the server and all load testers in it.
        others_cpu_s: Processor time of everything else on the machine in it.
    """

    condition: str
    round: int
    factor: float | None
    texts_per_request: int
    sent_per_s: float
    ok_per_s: float
    outcomes: dict[str, int]
    latencies_ms: list[float]
    server_ms: list[float]
    lag_p99_ms: float
    run_s: float
    client_cpu_s: float
    group_cpu_s: float
    others_cpu_s: float


Record = Run | Loaded | Skipped | Quality | Bits | Measurement | Load
_KINDS: dict[str, type[Record]] = {
    kind.__name__.lower(): kind for kind in (Run, Loaded, Skipped, Quality, Bits, Measurement, Load)
}


@dataclasses.dataclass(frozen=True)
class Results:
    """A whole file of records, sorted by kind."""

    run: Run
    loaded: tuple[Loaded, ...]
    skipped: tuple[Skipped, ...]
    quality: tuple[Quality, ...]
    measurements: tuple[Measurement, ...]
    loads: tuple[Load, ...] = ()
    bits: tuple[Bits, ...] = ()


def write(record: Record, stream: TextIO) -> None:
    """Appends one line."""
    content = {"record": type(record).__name__.lower(), **dataclasses.asdict(record)}
    print(json.dumps(content, ensure_ascii=False), file=stream, flush=True)


def read(path: Path) -> Results:
    """Reads a file of results.

    Raises:
        ValueError: It is not one, or of another version.
    """
    with path.open(encoding="utf-8") as stream:
        return collect(_parse(json.loads(line)) for line in stream)


def collect(records: Iterable[Record]) -> Results:
    """Sorts records by kind.

    Raises:
        ValueError: There is not exactly one `Run`, or it is of another version.
    """
    every = list(records)
    runs = [record for record in every if isinstance(record, Run)]
    if len(runs) != 1 or runs[0].format_version != FORMAT_VERSION:
        raise ValueError("not one run of this version of the benchmark")
    return Results(
        runs[0],
        tuple(record for record in every if isinstance(record, Loaded)),
        tuple(record for record in every if isinstance(record, Skipped)),
        tuple(record for record in every if isinstance(record, Quality)),
        tuple(record for record in every if isinstance(record, Measurement)),
        tuple(record for record in every if isinstance(record, Load)),
        tuple(record for record in every if isinstance(record, Bits)),
    )


def _parse(content: dict[str, Any]) -> Record:
    try:
        return _KINDS[content.pop("record")](**content)
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError(f"not a line of benchmark results: {exc}") from exc
