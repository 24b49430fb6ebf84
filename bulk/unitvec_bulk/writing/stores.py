"""Tables of vector databases, which take the vectors in place of the shards.

Workers write to a store before the shard of a chunk appears, so what a chunk that is repeated adds
may be there already. Qdrant replaces a point by one of the same id. LanceDB would have both rows:
there a repeated chunk adds only rows whose key is new.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from unitvec_bulk.errors import JobConflict, UsageError
from unitvec_bulk.options import DtypeName
from unitvec_bulk.reading.rows import Layout

METADATA = b"unitvec"
"""Key of what made the vectors, in the metadata of schemas and collections."""

_POINTS = 256
"""Points in one request to Qdrant: as JSON, those of 1,024 dimensions have 6 MB of its 32."""
_NAMESPACE = uuid.UUID("6e697476-6563-5d0c-8d2e-0f6f1d6b3a11")
"""Of the UUIDs of ids that Qdrant does not take as they are."""


class Writer(Protocol):
    """Adds rows to a table that is there. For one thread."""

    def add(self, rows: pa.Table, *, is_repeated: bool) -> None:
        """Adds rows.

        Args:
            rows: With all columns of a shard.
            is_repeated: Whether they may be there already.
        """


class Store(Protocol):
    """A table of a database, by name. It can be pickled."""

    def facts(self) -> dict[str, str]:
        """What tells it from others, for the record of a job."""

    def check(self, schema: pa.Schema) -> None:
        """Checks that it can hold such rows.

        Raises:
            UsageError: It cannot, or its client is not installed.
        """

    def prepare(self, schema: pa.Schema) -> None:
        """Makes the table unless it is there.

        Raises:
            UsageError: The database cannot be reached.
            JobConflict: It is there, and of other vectors.
        """

    def open(self, layout: Layout) -> Writer:
        """Opens the table, in the process that writes to it."""


@dataclasses.dataclass(frozen=True)
class LanceDB:
    """A table of LanceDB.

    Attributes:
        url: Folder of the database, or a URL such as ``s3://bucket/folder``.
        table: Name of the table.
    """

    url: str
    table: str

    def facts(self) -> dict[str, str]:
        """What tells it from others."""
        return {"kind": "lancedb", "url": self.url, "table": self.table}

    def check(self, schema: pa.Schema) -> None:
        """Checks that its client is there, and that it searches such vectors."""
        _load("lancedb")
        _check_dtype("LanceDB", schema, ("float32", "float16", "binary"))

    def prepare(self, schema: pa.Schema) -> None:
        """Makes the table unless it is there."""
        try:
            database = _load("lancedb").connect(self.url)
            try:
                found = database.open_table(self.table).schema
            except ValueError:  # it is not there
                found = database.create_table(self.table, schema=schema).schema
        except (OSError, RuntimeError, ValueError) as exc:
            raise UsageError(f"cannot use the database at {self.url}: {exc}") from exc
        _check_same(f"table {self.table!r}", _about(found), schema)
        if not found.equals(schema):
            raise JobConflict(f"table {self.table!r} has other columns: {found.names}")

    def open(self, layout: Layout) -> Writer:
        """Opens the table."""
        return _LanceWriter(_load("lancedb").connect(self.url).open_table(self.table), layout)


class _LanceWriter:
    def __init__(self, table: Any, layout: Layout) -> None:
        self._table = table
        self._layout = layout

    def add(self, rows: pa.Table, *, is_repeated: bool) -> None:
        if not is_repeated:
            self._table.add(rows)
            return
        key = key_columns(self._layout, rows.schema)
        self._table.merge_insert(key).when_not_matched_insert_all().execute(rows)


@dataclasses.dataclass(frozen=True)
class Qdrant:
    """A collection of Qdrant.

    Attributes:
        url: URL of the server, or a folder of the client's local mode, which one process at a time
            may use.
        collection: Name of the collection.
        api_key: Key of the server.
    """

    url: str
    collection: str
    api_key: str | None = dataclasses.field(default=None, repr=False)

    def facts(self) -> dict[str, str]:
        """What tells it from others."""
        return {"kind": "qdrant", "url": self.url, "table": self.collection}

    def check(self, schema: pa.Schema) -> None:
        """Checks that its client is there, and that it takes such vectors and payloads."""
        _load("qdrant_client")
        _check_dtype("Qdrant", schema, ("float32", "float16"))
        for field in schema:
            if field.name != "vector" and not _fits_json(field.type):
                raise UsageError(f"Qdrant takes no {field.type}, the type of column {field.name}")

    def prepare(self, schema: pa.Schema) -> None:
        """Makes the collection unless it is there: its distance is the dot product."""
        models = _load("qdrant_client").models
        failures = _load("qdrant_client.http.exceptions").ApiException
        kind = schema.field("vector").type
        is_half = pa.types.is_float16(kind.value_type)
        wanted = models.VectorParams(
            size=kind.list_size,
            distance=models.Distance.DOT,
            datatype=models.Datatype.FLOAT16 if is_half else models.Datatype.FLOAT32,
        )
        about = {METADATA.decode(): _about(schema)}
        try:
            client = self._connect()
            try:
                if not client.collection_exists(self.collection):
                    client.create_collection(self.collection, wanted, metadata=about)
                config = client.get_collection(self.collection).config
            finally:
                client.close()
        except (failures, OSError, RuntimeError, ValueError) as exc:
            raise UsageError(f"cannot use Qdrant at {self.url}: {exc}") from exc
        name = f"collection {self.collection!r}"
        if getattr(config.params.vectors, "size", None) != kind.list_size:
            raise JobConflict(f"{name} is not of one vector of {kind.list_size} numbers a point")
        # Servers before 1.16 keep no metadata, and collections of others have none of ours.
        if found := (config.metadata or {}).get(METADATA.decode()):
            _check_same(name, found, schema)

    def open(self, layout: Layout) -> Writer:
        """Connects."""
        return _QdrantWriter(self._connect(), self.collection, layout)

    def _connect(self) -> Any:
        client = _load("qdrant_client").QdrantClient
        if "://" in self.url:
            return client(url=self.url, api_key=self.api_key, check_compatibility=False)
        return client(path=self.url)


class _QdrantWriter:
    def __init__(self, client: Any, collection: str, layout: Layout) -> None:
        self._client = client
        self._collection = collection
        self._layout = layout

    def add(self, rows: pa.Table, *, is_repeated: bool) -> None:
        del is_repeated  # a point replaces that of the same id
        vectors = rows.column("vector").combine_chunks().flatten().to_numpy()
        key = key_columns(self._layout, rows.schema)
        self._client.upload_collection(
            self._collection,
            vectors=vectors.reshape(rows.num_rows, -1).astype(np.float32),
            payload=rows.drop_columns(["vector"]).to_pylist(),
            ids=[_point_id(record.values()) for record in rows.select(key).to_pylist()],
            batch_size=_POINTS,
            wait=True,
        )


def key_columns(layout: Layout, schema: pa.Schema) -> list[str]:
    """Columns that together name a row of a shard."""
    names = [layout.columns.id] if layout.columns.id else ["file", "row"]
    return [*names, "start"] if "start" in schema.names else names


def _point_id(values: Any) -> int | str:
    """A key as Qdrant takes it: whole numbers and UUIDs as they are, others as a UUID of them."""
    key = list(values)
    if len(key) == 1:
        [value] = key
        if isinstance(value, int) and 0 <= value < 2**64:
            return value
        try:
            return str(uuid.UUID(value))
        except (AttributeError, TypeError, ValueError):
            pass
    return str(uuid.uuid5(_NAMESPACE, json.dumps(key, default=str)))


def _about(schema: pa.Schema) -> dict[str, Any]:
    """What made the vectors, as the metadata of a schema tell; empty if they do not."""
    found: dict[str, Any] = json.loads((schema.metadata or {}).get(METADATA, b"{}"))
    return found


def _check_same(name: str, found: dict[str, Any], schema: pa.Schema) -> None:
    wanted = _about(schema)
    for key in sorted(wanted.keys() | found.keys()):
        if key == "bits" and not wanted["is_reproducible"]:
            continue  # they differ from machine to machine
        if found.get(key) != wanted.get(key):
            raise JobConflict(
                f"{name} holds other vectors: {key} is {found.get(key)!r} there and "
                f"{wanted.get(key)!r} here; name a new one"
            )


def _check_dtype(store: str, schema: pa.Schema, fitting: Sequence[DtypeName]) -> None:
    dtype = _about(schema)["dtype"]
    if dtype not in fitting:
        raise UsageError(f"{store} searches no {dtype} of ours; take --dtype {fitting[0]}")


def _fits_json(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _fits_json(kind.value_type)
    tests = (
        pa.types.is_null,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_date,
        pa.types.is_timestamp,
    )
    return any(test(kind) for test in tests)


def _load(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as exc:
        name = module.partition(".")[0].replace("_", "-")
        raise UsageError(f"{name} is not installed: pip install {name}") from exc
