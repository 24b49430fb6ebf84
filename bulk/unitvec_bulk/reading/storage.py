"""Where files lie: local folders and all filesystems of pyarrow and fsspec, behind one class.

A place is a filesystem and a path on it. It can be pickled, so that workers on other nodes open the
same file. Globs know ``*`` and ``?``, which stop at a slash, ``**``, which does not, and ``[]``.
In a web address a ``?`` begins the query, and so it does in a URL of pyarrow's where a name and
``=`` follow: ``s3://bucket/folder?endpoint_override=127.0.0.1:9000&scheme=http``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as fs

from unitvec_bulk.errors import UsageError

_NATIVE = frozenset({"s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"})
"""Schemes that pyarrow speaks itself; all others are fsspec's."""

_GLOB = re.compile(r"[*?\[]")
_WEB_GLOB = re.compile(r"[*\[]")
_WEB = ("http://", "https://")
_OPTIONS = re.compile(r"\?[a-z_]+=.*")


class Place(NamedTuple):
    """A file or folder.

    Attributes:
        filesystem: Filesystem of pyarrow, which may wrap one of fsspec.
        path: Path on it, without a scheme.
        scheme: Scheme that it was named by, with ``://``; empty for local paths.
    """

    filesystem: fs.FileSystem
    path: str
    scheme: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def url(self) -> str:
        """The place as a person would name it."""
        return self.scheme + self.path

    @property
    def name(self) -> str:
        """The last part of its path, without the query of a web address."""
        path = self.path.partition("?")[0] if self.path.startswith(_WEB) else self.path
        return path.rpartition("/")[2]

    def child(self, name: str) -> Place:
        """A place below this one."""
        return self._replace(path=f"{self.path.rstrip('/')}/{name}")


class FoundFile(NamedTuple):
    """A file of the input, and what tells whether it changed.

    Attributes:
        path: Path on the filesystem of its input.
        size_bytes: Size; 0 where the filesystem does not tell.
        changed_ns: Time of its last change since the epoch; 0 where the filesystem does not tell.
    """

    path: str
    size_bytes: int
    changed_ns: int


def find_place(name: str) -> Place:
    """The place of a local path or URL.

    Raises:
        UsageError: Nothing here knows such URLs.
    """
    scheme, separator, _ = name.partition("://")
    if not separator or scheme == "file":
        path = name.removeprefix("file://")
        return Place(fs.LocalFileSystem(), _absolute(path))
    try:
        if scheme in _NATIVE:
            options = _OPTIONS.search(name)
            head, wild = _split_glob(_OPTIONS.sub("", name))
            filesystem, path = fs.FileSystem.from_uri(head + (options[0] if options else ""))
            return Place(filesystem, path.rstrip("/") + wild, f"{scheme}://")
        import fsspec

        found, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError, OSError, pa.ArrowException) as exc:
        raise UsageError(f"cannot open {name}: {exc}") from exc
    prefix = "" if "://" in path else f"{scheme}://"
    return Place(fs.PyFileSystem(fs.FSSpecHandler(found)), path, prefix)


def list_files(place: Place) -> list[FoundFile]:
    """Files of a place in the order of their names: itself, those of a folder, or of a glob.

    Names that begin with ``.`` or ``_`` are no data, as in Spark, unless they are named in full.

    Raises:
        UsageError: There are none.
    """
    head, wild = _split_glob(place.path)
    try:
        infos = _select(place, head) if wild else _plain(place)
    except OSError as exc:
        raise UsageError(f"cannot list {place.url}: {exc}") from exc
    if wild:
        pattern = re.compile(_glob_to_regex(head + wild))
        infos = [info for info in infos if pattern.fullmatch(info.path)]
    files = sorted(_describe(info) for info in infos if info.type == fs.FileType.File)
    if not files:
        raise UsageError(f"there are no files at {place.url}")
    return files


def _plain(place: Place) -> list[fs.FileInfo]:
    info = place.filesystem.get_file_info(place.path)
    return _select(place, place.path) if info.type == fs.FileType.Directory else [info]


def _select(place: Place, folder: str) -> list[fs.FileInfo]:
    selector = fs.FileSelector(folder, allow_not_found=True, recursive=True)
    infos: list[fs.FileInfo] = place.filesystem.get_file_info(selector)
    below = len(folder.rstrip("/")) + 1
    return [info for info in infos if not _is_hidden(info.path[below:])]


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _describe(info: fs.FileInfo) -> FoundFile:
    return FoundFile(info.path, info.size or 0, info.mtime_ns or 0)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _split_glob(path: str) -> tuple[str, str]:
    """The folder before the first wildcard, and the rest with its slash; all and "" without one."""
    found = (_WEB_GLOB if path.startswith(_WEB) else _GLOB).search(path)
    if found is None:
        return path, ""
    end = path.rfind("/", 0, found.start())
    return path[:end], path[end:]


def _glob_to_regex(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        meanings.get(part)
        or (part.replace("[!", "[^") if part.startswith("[") else re.escape(part))
        for part in parts
    )
