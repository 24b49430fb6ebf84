"""What a job would take, from a sample of it and seconds of work on this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unitvec_bulk.embedding.outcome import Embedder, packed_width
from unitvec_bulk.errors import UsageError
from unitvec_bulk.job import Request, find_artifact, find_layout, open_embedder
from unitvec_bulk.options import DtypeName
from unitvec_bulk.reading.formats import read_file
from unitvec_bulk.reading.pieces import InputFile, find_files
from unitvec_bulk.reading.rows import Layout
from unitvec_bulk.workers import embed_rows
from unitvec_server.model.cpus import usable_cpus

_SAMPLE_FILES = 16
_SAMPLE_ROWS = 256
"""Rows of each file of the sample."""

_MEASURE_S = 5.0
_NUMBER_BYTES: dict[DtypeName, int] = {"float32": 4, "float16": 2, "int8": 1, "binary": 1}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a job would take.

    Attributes:
        files: Files of the input.
        input_bytes: Their size.
        rows: Rows of the input; an estimate where files do not tell.
        tokens: Tokens of all rows.
        failed_share: Part of the sample that would fail.
        vectors: Vectors that would be written.
        rows_per_core_s: Rows that one core of this machine embeds in a second.
        cores: Cores that the plan is made for.
        output_bytes: Size of all vectors.
        price: Price of an hour of one core; None if it was not given.
    """

    files: int
    input_bytes: int
    rows: int
    tokens: int
    failed_share: float
    vectors: int
    rows_per_core_s: float
    cores: int
    output_bytes: int
    price: float | None

    @property
    def core_hours(self) -> float:
        """Hours that one core would take."""
        return self.rows / self.rows_per_core_s / 3600

    @property
    def price_per_million(self) -> float | None:
        """Price of a million texts."""
        if self.price is None:
            return None
        return 1e6 / self.rows_per_core_s / 3600 * self.price

    def facts(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            **dataclasses.asdict(self),
            "core_hours": self.core_hours,
            "hours": self.core_hours / self.cores,
            "price_per_million": self.price_per_million,
        }

    def text(self) -> str:
        """All of it, for people."""
        hours = _hours(self.core_hours / self.cores)
        lines = [
            f"input    {self.files:,} files, {_bytes(self.input_bytes)}",
            f"rows     {self.rows:,}, {self.tokens:,} tokens",
            f"speed    {self.rows_per_core_s:,.0f} rows/s on one core of this machine",
            f"time     {hours} on {self.cores:,} cores ({self.core_hours:,.2f} core-hours)",
            f"output   {self.vectors:,} vectors, {_bytes(self.output_bytes)}",
        ]
        if self.failed_share:
            lines.append(f"failures {self.failed_share:.1%} of the sample")
        if self.price is not None:
            whole = self.core_hours * self.price
            lines.append(f"price    {whole:,.2f}, {self.price_per_million:,.4f} per million texts")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _Sample:
    """Rows of some files, and what they say of all.

    Attributes:
        rows: The rows.
        total_rows: Rows of all files.
    """

    rows: pa.Table
    total_rows: int


def make_plan(request: Request, *, cores: int, price: float | None) -> Plan:
    """Reads a sample and embeds it on one core for some seconds.

    Args:
        request: What would be embedded; its output is not touched.
        cores: Cores that it is planned for; 0 for those of this machine.
        price: Price of an hour of one core.

    Raises:
        UsageError: The input, the model and the options do not go together.
    """
    if request.fleet is not None:
        raise UsageError("plan measures this machine; for a fleet, measure with unitvec-loadtest")
    files = find_files(request.inputs, format_name=request.format)
    layout = find_layout(files, request.columns)
    sample = _read_sample(files, layout)
    embedder = open_embedder(find_artifact(request), None, request.options)
    try:
        done = _measure(embedder, sample.rows)
        width = packed_width(embedder.facts.dim, request.options.dtype)
    finally:
        embedder.close()
    scale = sample.total_rows / done.rows
    vectors = round(done.vectors * scale)
    return Plan(
        files=len(files),
        input_bytes=sum(file.found.size_bytes for file in files),
        rows=sample.total_rows,
        tokens=round(done.tokens * scale),
        failed_share=1 - done.texts / done.rows,
        vectors=vectors,
        rows_per_core_s=done.rows / done.cpu_s,
        cores=cores or usable_cpus(),
        output_bytes=vectors * width * _NUMBER_BYTES[request.options.dtype],
        price=price,
    )


def _read_sample(files: Sequence[InputFile], layout: Layout) -> _Sample:
    """The beginnings of files that lie evenly among all."""
    step = max(1, len(files) // _SAMPLE_FILES)
    chosen = files[::step][:_SAMPLE_FILES]
    tables, rows, size_bytes = [], 0.0, 0
    for file in chosen:
        first = next(iter(read_file(file, layout)))
        tables.append(first.table.slice(0, _SAMPLE_ROWS))
        rows += _count_rows(file, first.table.num_rows, first.part)
        size_bytes += file.found.size_bytes
    sample = pa.concat_tables(tables)
    if not sample.num_rows:
        raise UsageError("the sample of the input has no rows")
    whole_bytes = sum(file.found.size_bytes for file in files)
    return _Sample(sample, max(1, round(rows * whole_bytes / max(1, size_bytes))))


def _count_rows(file: InputFile, read: int, part: float) -> float:
    """Rows of a file: as Parquet tells, else by the part that the first ones take."""
    if file.format == "parquet":
        with file.place.filesystem.open_input_file(file.place.path) as source:
            return float(pq.read_metadata(source).num_rows)
    return read / part if part else float(read)


@dataclasses.dataclass
class _Measured:
    rows: int = 0
    texts: int = 0
    vectors: int = 0
    tokens: int = 0
    cpu_s: float = 0.0


def _measure(embedder: Embedder, rows: pa.Table) -> _Measured:
    """Embeds the sample again and again. CPU time is what a core of its own would take."""
    done, started_s = _Measured(), time.monotonic()
    while not done.rows or time.monotonic() - started_s < _MEASURE_S:
        before_s = time.process_time()
        outcome = embed_rows(rows, embedder)
        done.cpu_s += time.process_time() - before_s
        done.rows += rows.num_rows
        done.texts += len(set(outcome.texts))
        done.vectors += len(outcome.texts)
        done.tokens += sum(outcome.tokens)
    return done


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    raise AssertionError


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"
