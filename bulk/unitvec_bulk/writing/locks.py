"""One run at a time in a folder.

On a local folder the lock is the kernel's, which ends with its process, however that ends. An
object store has none, so there a lease is renewed while the run goes on; one that was not renewed
for a while belongs to a run that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as fs

from unitvec_bulk.errors import JobConflict
from unitvec_bulk.reading.storage import Place

_RENEW_S = 20.0
_EXPIRED_S = 90.0


@contextlib.contextmanager
def locked(folder: Place) -> Iterator[None]:
    """Holds the lock of a folder, whose ``_unitvec`` is there.

    Raises:
        JobConflict: Another run holds it.
    """
    place = folder.child("_unitvec/lock")
    holder = _flock(place) if folder.is_local else _Lease(place).held()
    with holder:
        yield


@contextlib.contextmanager
def _flock(place: Place) -> Iterator[None]:
    with Path(place.path).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise JobConflict(_refusal(place, file.read())) from None
        file.truncate(0)
        file.write(_holder())
        file.flush()
        yield


class _Lease:
    """A file that says who runs, and that it still does."""

    def __init__(self, place: Place, *, renew_s: float = _RENEW_S) -> None:
        self._place = place
        self._renew_s = renew_s
        self._token = uuid.uuid4().hex
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._take()
        renewer = threading.Thread(target=self._renew, daemon=True)
        renewer.start()
        try:
            yield
        finally:
            self._ended.set()
            renewer.join()
            with contextlib.suppress(OSError):
                self._place.filesystem.delete_file(self._place.path)

    def _take(self) -> None:
        found = self._read()
        if found and time.time() - float(str(found["renewed_s"])) < _EXPIRED_S:
            wait = f"; if it was killed, try again in {_EXPIRED_S:.0f} s"
            raise JobConflict(_refusal(self._place, str(found["holder"])) + wait)
        self._write()
        mine = self._read()
        if not mine or mine["token"] != self._token:  # two came at once: the later one has it
            raise JobConflict(_refusal(self._place, str((mine or {}).get("holder", ""))))

    def _renew(self) -> None:
        while not self._ended.wait(self._renew_s):
            with contextlib.suppress(OSError):  # the next one may work
                self._write()

    def _read(self) -> dict[str, object] | None:
        info = self._place.filesystem.get_file_info(self._place.path)
        if info.type == fs.FileType.NotFound:
            return None
        with self._place.filesystem.open_input_stream(self._place.path) as stream:
            found: dict[str, object] = json.loads(stream.read())
            return found

    def _write(self) -> None:
        record = {"token": self._token, "holder": _holder(), "renewed_s": time.time()}
        with self._place.filesystem.open_output_stream(self._place.path) as stream:
            stream.write(json.dumps(record).encode())


def _holder() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _refusal(place: Place, holder: str) -> str:
    return f"another run writes to this folder ({holder or 'unknown'}; {place.url})"
