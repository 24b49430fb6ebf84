"""A job: what is embedded, how and by whom, settled before any row is read."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unitvec_bulk.embedding.local import LocalEmbedder
from unitvec_bulk.embedding.outcome import Embedder, ModelFacts
from unitvec_bulk.embedding.remote import Fleet, RemoteEmbedder
from unitvec_bulk.errors import UsageError
from unitvec_bulk.options import Columns, EmbedOptions
from unitvec_bulk.reading.chunks import ChunkLimits
from unitvec_bulk.reading.formats import read_file
from unitvec_bulk.reading.pieces import Format, InputFile, digest_of, find_files
from unitvec_bulk.reading.rows import Layout, template_columns
from unitvec_bulk.reading.storage import Place, find_place
from unitvec_bulk.writing.shards import shard_schema
from unitvec_bulk.writing.stores import Store
from unitvec_client.errors import UnitvecError
from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.engine.acquisition import acquire
from unitvec_server.errors import ServerError

_SHARDS_PER_WORKER = 16
"""So many that workers end at about the same time."""
_ROWS = (1024, 65_536)
_BYTES = (2**18, 2**24)
_BYTES_PER_ROW = 64
"""Bounds of chunks. A short row as Parquet keeps it has about so many bytes."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        inputs: Paths, folders, globs and URLs.
        output: Folder or URL of the output.
        model: Folder of an artifact, or a model to export; not used with a fleet.
        fleet: A running fleet that embeds in place of the workers.
        columns: Which columns are read.
        options: How texts become vectors.
        format: Format of all inputs; None to tell by their suffixes.
        shard_rows: Most rows of a shard; 0 for a number that suits the input and the workers.
        store: Takes the vectors in place of the output; None for none.
    """

    inputs: tuple[str, ...]
    output: str
    model: str = ""
    fleet: Fleet | None = None
    columns: Columns = dataclasses.field(default_factory=Columns)
    options: EmbedOptions = dataclasses.field(default_factory=EmbedOptions)
    format: Format | None = None
    shard_rows: int = 0
    store: Store | None = None


@dataclasses.dataclass(frozen=True)
class Job:
    """A request that can be carried out.

    Attributes:
        request: What was asked for.
        output: Folder of the output.
        files: Files of the input.
        layout: Columns and their types.
        facts: Model that embeds.
        artifact: Folder of its artifact; None for a fleet.
    """

    request: Request
    output: Place
    files: Sequence[InputFile]
    layout: Layout
    facts: ModelFacts
    artifact: Path | None

    @property
    def input_bytes(self) -> int:
        """Size of all files."""
        return sum(file.found.size_bytes for file in self.files)

    @property
    def options(self) -> EmbedOptions:
        """The options, with the precision that auto has become."""
        return dataclasses.replace(self.request.options, precision=self.facts.precision)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the shards."""
        return shard_schema(self.layout, self.options, self.facts)

    def limits(self, *, workers: int, recorded: dict[str, Any] | None) -> ChunkLimits:
        """Bounds of chunks: as they were, or what suits so many workers."""
        if recorded is not None:
            return ChunkLimits(recorded["shard_rows"], recorded["shard_bytes"])
        share = self.input_bytes // (workers * _SHARDS_PER_WORKER)
        rows = self.request.shard_rows or _within(_ROWS, share // _BYTES_PER_ROW)
        return ChunkLimits(rows, _within(_BYTES, share))

    def record(self, limits: ChunkLimits) -> dict[str, Any]:
        """All that decides what the output is."""
        facts = dataclasses.asdict(self.facts)
        if not self.facts.is_reproducible:
            del facts["bits"]  # they differ from machine to machine
        store = self.request.store
        return {
            **({"store": store.facts()} if store else {}),
            "inputs": digest_of(self.files),
            "input_files": len(self.files),
            "input_bytes": self.input_bytes,
            "columns": dataclasses.asdict(self.request.columns),
            "options": dataclasses.asdict(self.options),
            "model": facts,
            "uses_a_fleet": self.request.fleet is not None,
            "shard_rows": limits.rows,
            "shard_bytes": limits.size_bytes,
        }


def prepare(request: Request) -> Job:
    """Finds the input, opens the model once, and checks that they go together.

    Raises:
        UsageError: They do not, or one of them is not there.
    """
    output = find_place(request.output)
    files = find_files(request.inputs, format_name=request.format, output=output)
    layout = find_layout(files, request.columns)
    check_readable(files[0], layout)
    artifact = None if request.fleet else find_artifact(request)
    embedder = open_embedder(artifact, request.fleet, request.options)
    try:
        job = Job(request, output, files, layout, embedder.facts, artifact)
    finally:
        embedder.close()
    schema = job.schema
    if request.store is not None:
        request.store.check(schema)
    return job


def open_embedder(artifact: Path | None, fleet: Fleet | None, options: EmbedOptions) -> Embedder:
    """What embeds: an engine in this process, or the client of a fleet.

    Raises:
        UsageError: The model or the fleet cannot be used so.
    """
    try:
        if fleet is not None:
            return RemoteEmbedder(fleet, options)
        assert artifact is not None
        return LocalEmbedder(artifact, options)
    except (ServerError, UnitvecError) as exc:
        raise UsageError(str(exc)) from exc


def find_artifact(request: Request) -> Path:
    """The artifact's folder: as it is named, or exported into the cache on first use.

    Raises:
        UsageError: There is none, or its export fails.
    """
    if not request.model:
        raise UsageError("name the folder of an exported model with --model, or a fleet, --target")
    spec = ModelSpec("bulk", Path(request.model))
    config = ServerConfig(model=(spec,), precision=request.options.precision)
    try:
        return asyncio.run(acquire(config)).model[0].folder
    except ServerError as exc:
        raise UsageError(str(exc)) from exc


def find_layout(files: Sequence[InputFile], columns: Columns) -> Layout:
    """The columns and their types, by the first file of Parquet.

    Raises:
        UsageError: A column is not there, or lines of text are asked for columns.
    """
    if columns.template:
        template_columns(columns.template)
    names = list(dict.fromkeys([*([columns.id] if columns.id else []), *columns.keep]))
    kinds = {file.format for file in files}
    if kinds & {"text", "file"} and (names or columns.template):
        raise UsageError("plain text has no columns: --id-column, --keep and --template need some")
    if kinds != {"parquet"}:
        return Layout(columns, pa.schema([(name, pa.string()) for name in names]))
    place = files[0].place
    try:
        with place.filesystem.open_input_file(place.path) as source:
            schema = pq.read_schema(source)
    except (OSError, pa.ArrowException) as exc:
        raise UsageError(f"{place.url} cannot be read as Parquet: {exc}") from exc
    layout = Layout(columns, pa.schema([(name, pa.null()) for name in names]))
    for name in layout.read_columns:
        if name not in schema.names:
            have = ", ".join(schema.names)
            raise UsageError(f"{place.url} has no column {name!r} (it has: {have})")
    return Layout(columns, pa.schema([schema.field(name).with_nullable(True) for name in names]))


def check_readable(file: InputFile, layout: Layout) -> None:
    """Reads the beginning of a file: if nothing there has a text, neither will the rest.

    Raises:
        UsageError: Nothing of it can be embedded.
    """
    try:
        rows = next(iter(read_file(file, layout))).table
    except OSError as exc:
        raise UsageError(f"cannot read {file.place.url}: {exc}") from exc
    if rows.num_rows and rows.column("_text").null_count == rows.num_rows:
        message = rows.column("_message")[0].as_py()
        raise UsageError(f"{file.place.url}: row 0: {message}; so are all rows at its beginning")


def _within(bounds: tuple[int, int], value: int) -> int:
    return max(bounds[0], min(bounds[1], value))
