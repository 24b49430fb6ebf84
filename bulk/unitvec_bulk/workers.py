"""What runs inside Ray's processes: readers, and workers that embed and write.

Each chunk is one row of the engine's, with its table as Arrow's own bytes, so that no block of the
engine ever cuts or joins chunks.
"""

from __future__ import annotations

import dataclasses
import pickle
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from unitvec_bulk.embedding.local import LocalEmbedder
from unitvec_bulk.embedding.outcome import Embedder, ModelFacts, Outcome
from unitvec_bulk.embedding.remote import Fleet, RemoteEmbedder
from unitvec_bulk.errors import JobFailed
from unitvec_bulk.options import EmbedOptions
from unitvec_bulk.reading.chunks import Chunk, ChunkLimits, read_piece
from unitvec_bulk.reading.rows import Layout, refuse_missing_ids
from unitvec_bulk.reading.storage import Place
from unitvec_bulk.writing.shards import Counts, Shard, read_counts, shard_name, shard_schema
from unitvec_bulk.writing.stores import Store
from unitvec_server.model.artifact import Artifact, load_artifact

_SLICE_ROWS = 1024
_SLICE_BYTES = 2**20
"""Rows that are embedded in one go: enough to fill many runs, and little memory."""


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """Files of an artifact in the object store, which each node fetches once.

    Attributes:
        reference: Reference of a mapping from names to bytes.
    """

    reference: Any

    @classmethod
    def put(cls, ray: Any, folder: Path, precision: str) -> ModelFiles:
        """Puts what a worker needs of an artifact into the store."""
        return cls(ray.put(read_artifact(folder, precision)))

    def open(self, options: EmbedOptions) -> LocalEmbedder:
        """An engine on these files, which lie on disk only while it loads them."""
        import ray

        with tempfile.TemporaryDirectory(prefix="unitvec-model-") as folder:
            for name, content in ray.get(self.reference).items():
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            return LocalEmbedder(Path(folder), options)


def read_artifact(folder: Path, precision: str) -> dict[str, bytes]:
    """Files of an artifact by their paths in it, without the graphs of other precisions.

    A route without a graph of this precision runs in fp32.
    """
    artifact = load_artifact(folder)
    others = {
        inner.folder / file.name
        for inner in (artifact, *artifact.routes.values())
        for name in inner.manifest.graphs.keys() - _wanted(inner, precision)
        for file in inner.manifest.graphs[name].files
    }
    files = [path for path in folder.rglob("*") if path.is_file() and path not in others]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _wanted(artifact: Artifact, precision: str) -> set[str]:
    """Graphs that run at a precision."""
    names = {precision, f"{precision}-fused"} & artifact.manifest.graphs.keys()
    return names or {"fp32"}


@dataclasses.dataclass(frozen=True)
class Work:
    """What a worker has to know.

    Attributes:
        source: Model files, or the fleet that embeds.
        options: How texts become vectors.
        facts: Model that they must come from.
        layout: Columns of the chunks.
        output: Folder of the output.
        store: Takes the vectors in place of that folder, if there is one.
    """

    source: ModelFiles | Fleet
    options: EmbedOptions
    facts: ModelFacts
    layout: Layout
    output: Place
    store: Store | None = None

    def open(self) -> Embedder:
        """Opens what embeds.

        Raises:
            JobFailed: It makes other vectors than the job's first ones.
        """
        fleet = isinstance(self.source, Fleet)
        embedder: Embedder
        if isinstance(self.source, Fleet):
            embedder = RemoteEmbedder(self.source, self.options)
        else:
            embedder = self.source.open(self.options)
        wanted, found = self.facts, embedder.facts
        if not (wanted.is_reproducible or fleet):
            found = dataclasses.replace(found, bits=wanted.bits)
        if found != wanted:
            raise JobFailed(f"{socket.gethostname()} has another model: {found}, not {wanted}")
        return embedder


def read_chunks(batch: pa.Table, *, layout: Layout, limits: ChunkLimits) -> Iterator[pa.Table]:
    """Reads pieces: one block for each chunk.

    Args:
        batch: Column ``piece``: pickled pieces.
        layout: Columns that are read.
        limits: Bounds of the chunks.
    """
    for piece in batch.column("piece").to_pylist():
        for chunk in read_piece(pickle.loads(piece), layout, limits):  # noqa: S301 (our own)
            yield to_block(chunk)


def to_block(chunk: Chunk) -> pa.Table:
    """A chunk as it travels: one row of the engine's."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, chunk.rows.schema) as writer:
        writer.write_table(chunk.rows)
    return pa.table(
        {
            "piece": [chunk.piece],
            "number": [chunk.number],
            "input_bytes": [chunk.input_bytes],
            "rows": _one_value(sink.getvalue()),
        }
    )


def _one_value(content: pa.Buffer) -> pa.Array:
    """An array of this one value, which may be large and is not copied."""
    ends = pa.array([0, content.size], pa.int64()).buffers()[1]
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, content])


class ShardWorker:
    """Embeds chunks and writes their shards. One that is there already is only counted.

    Args:
        work: What to do with them.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._embedder = work.open()
        self._schema = shard_schema(work.layout, work.options, self._embedder.facts)
        self._store = work.store.open(work.layout) if work.store else None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Does the chunks of a batch: a row of counts for each."""
        rows = [scalar.as_buffer() for scalar in batch.column("rows")]
        records = batch.drop_columns(["rows"]).to_pylist()
        return pa.Table.from_pylist(list(map(self._do, records, rows)))

    def close(self) -> None:
        """Gives back what embeds; Ray's processes just end."""
        self._embedder.close()

    def _do(self, record: Mapping[str, Any], content: pa.Buffer) -> dict[str, Any]:
        started_s = time.monotonic()
        with pa.ipc.open_stream(content) as reader:
            rows = reader.read_all()
        counts, is_new = Counts(), False
        if rows.num_rows:
            name = shard_name(record["piece"], record["number"])
            done = read_counts(self._work.output, name)
            is_new = done is None
            counts = self._write(name, rows) if done is None else done
        return {
            "piece": record["piece"],
            "number": record["number"],
            "is_end": not rows.num_rows,
            "is_new": is_new,
            "input_bytes": record["input_bytes"],
            "busy_s": time.monotonic() - started_s,
            "host": socket.gethostname(),
            **dataclasses.asdict(counts),
        }

    def _write(self, name: str, rows: pa.Table) -> Counts:
        if self._store is not None:
            rows = refuse_missing_ids(rows, self._work.layout)
        shard = Shard(self._work.output, name, self._schema, self._store)
        try:
            for part in slices(rows):
                shard.add(part, embed_rows(part, self._embedder), self._work.options)
            shard.commit()
        except BaseException:
            shard.abandon()
            raise
        return shard.counts


def embed_rows(rows: pa.Table, embedder: Embedder) -> Outcome:
    """Embeds rows, of which some may have no text: its indices are places among the rows."""
    texts = rows.column("_text").to_pylist()
    places = [place for place, text in enumerate(texts) if text is not None]
    outcome = embedder.embed([texts[place] for place in places])
    if len(places) == len(texts):
        return outcome
    problems = {places[index]: problem for index, problem in outcome.problems.items()}
    found = [places[index] for index in outcome.texts]
    return dataclasses.replace(outcome, texts=found, problems=problems)


def slices(rows: pa.Table) -> Iterator[pa.Table]:
    """Rows in parts that are embedded in one go."""
    per_row = max(1, rows.nbytes // max(1, rows.num_rows))
    count = max(1, min(_SLICE_ROWS, _SLICE_BYTES // per_row))
    for start in range(0, rows.num_rows, count):
        yield rows.slice(start, count)


def pickled(pieces: Sequence[Any]) -> list[dict[str, bytes]]:
    """Pieces as rows of the engine's."""
    return [{"piece": pickle.dumps(piece)} for piece in pieces]
