"""The folder of the output.

    part-000003-000001.parquet   vectors of piece 3, chunk 1
    _errors/part-...             rows of the same chunk that have none
    _unitvec/job.json            what the job is; written first, and never changed
    _unitvec/pieces/000003.json  piece 3 is done: its chunks and counts
    _unitvec/summary.json        the whole job is done
    _unitvec/begun/part-...      rows of this chunk may be in a store already
    _unitvec/lock, tmp/          who runs; files that are not there yet

Names that begin with ``_`` are no data to Spark, pyarrow and others, so they read the folder as it
is. A chunk is done when its shard is there, and only then.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.fs as fs

from unitvec_bulk.errors import JobConflict
from unitvec_bulk.reading.storage import Place
from unitvec_bulk.writing.locks import locked
from unitvec_bulk.writing.shards import Counts

FORMAT_VERSION = 1
_READS = 32
"""Records that are read side by side: each is a request to an object store."""


class OutputFolder:
    """A folder that one run at a time may write to.

    Args:
        place: Where it is.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the folder as long as the context lasts.

        Raises:
            JobConflict: It holds other files, or another run writes to it.
        """
        if not (self._exists("_unitvec") or self._is_empty()):
            raise JobConflict(f"{self.place.url} holds other files; name a new folder")
        for name in ("_unitvec/tmp", "_unitvec/pieces", "_unitvec/begun", "_errors"):
            self.place.filesystem.create_dir(self.place.child(name).path)
        with locked(self.place):
            self._tidy()
            try:
                yield
            finally:
                self._tidy()

    def recorded(self) -> dict[str, Any] | None:
        """The job of this folder; None of a new one."""
        return self.read("_unitvec/job.json")

    def done_pieces(self) -> dict[int, dict[str, Any]]:
        """What is recorded of the pieces that are done, by number."""
        selector = fs.FileSelector(self.place.child("_unitvec/pieces").path, allow_not_found=True)
        names = [info.base_name for info in self.place.filesystem.get_file_info(selector)]
        with ThreadPoolExecutor(_READS) as pool:
            records = pool.map(self.read, (f"_unitvec/pieces/{name}" for name in names))
            found = zip(names, records, strict=True)
            return {int(name.removesuffix(".json")): record for name, record in found if record}

    def note_done(self, piece: int, *, chunks: int, counts: Counts) -> None:
        """Records that all chunks of a piece are there."""
        record = {"chunks": chunks, **dataclasses.asdict(counts)}
        self.write(f"_unitvec/pieces/{piece:06}.json", record)

    def read(self, name: str) -> dict[str, Any] | None:
        """A file of JSON; None if there is none."""
        place = self.place.child(name)
        if not self._exists(name):
            return None
        with place.filesystem.open_input_stream(place.path) as stream:
            record: dict[str, Any] = json.loads(stream.read())
            return record

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Writes a file of JSON, which appears whole."""
        place = self.place.child(name)
        content = json.dumps(record, indent=2, sort_keys=True).encode()
        if place.is_local:
            temporary = Path(self.place.path) / "_unitvec" / "tmp" / name.replace("/", "-")
            temporary.write_bytes(content)
            temporary.replace(place.path)
            return
        with place.filesystem.open_output_stream(place.path) as stream:
            stream.write(content)

    def take_up(self, job: Mapping[str, Any]) -> None:
        """Makes the folder that of a job.

        Args:
            job: Everything that decides what the output is, as JSON.

        Raises:
            JobConflict: It is that of another one.
        """
        recorded = self.recorded()
        wanted = json.loads(json.dumps({"format_version": FORMAT_VERSION, **job}))
        if recorded is None:
            self.write("_unitvec/job.json", wanted)
            return
        for key in sorted(wanted.keys() | recorded.keys()):
            if wanted.get(key) != recorded.get(key):
                raise JobConflict(
                    f"{self.place.url} holds another job: {key} was {recorded.get(key)!r} and is "
                    f"{wanted.get(key)!r}; go on with what it was, or name a new folder"
                )

    def _tidy(self) -> None:
        """Removes what attempts that were killed left behind."""
        self.place.filesystem.delete_dir_contents(
            self.place.child("_unitvec/tmp").path, missing_dir_ok=True
        )

    def _exists(self, name: str) -> bool:
        info = self.place.filesystem.get_file_info(self.place.child(name).path)
        return bool(info.type != fs.FileType.NotFound)

    def _is_empty(self) -> bool:
        selector = fs.FileSelector(self.place.path, allow_not_found=True)
        return not self.place.filesystem.get_file_info(selector)
