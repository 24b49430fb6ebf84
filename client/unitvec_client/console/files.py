"""Files of texts, opened: unpacked where they are gzip, refused where they are no text at all."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from unitvec_client.errors import InputError

STANDARD_INPUT = "-"
_HEAD_BYTES = 4096
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_UNPACK = "unpack it first"
_CONVERT = "write its texts as lines, JSON, CSV or TSV"
# How files begin that are taken for texts by mistake, what they are, and what to do.
_NO_TEXTS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive, or a document packed as one", _CONVERT),
    (b"BZh91AY&SY", "packed by bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "packed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _UNPACK),
    (b"PAR1", "Parquet", _CONVERT),
    (b"ARROW1", "an Arrow file", _CONVERT),
    (b"\x93NUMPY", "an array of numpy", _CONVERT),
    (b"SQLite format 3\x00", "an SQLite database", _CONVERT),
    (b"%PDF-", "a PDF document", _CONVERT),
    (b"{\\rtf", "an RTF document", _CONVERT),
    (b"\xff\xfe", "UTF-16", "write it as UTF-8"),
    (b"\xfe\xff", "UTF-16", "write it as UTF-8"),
)


class OpenedFile:
    """A file of texts. Use `open_file`.

    Attributes:
        name: What people call it.
        head: Its first bytes, not yet read, without a byte order mark.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self._file = file
        if _peek(file).startswith(_BOM):
            file.read(len(_BOM))
        self.head = _peek(file)

    def lines(self) -> Iterator[bytes]:
        """Yield its lines with their ends.

        Raises:
            InputError: If it cannot be read to its end.
        """
        with _reading(self.name):
            yield from self._file

    def content(self) -> bytes:
        """Return all of it.

        Raises:
            InputError: If it cannot be read to its end.
        """
        with _reading(self.name):
            return self._file.read()


def name_of(path: str) -> str:
    """Return what people call the file."""
    return "standard input" if path == STANDARD_INPUT else path


def open_file(path: str, stack: ExitStack) -> OpenedFile:
    """Open a file of texts.

    Args:
        path: The file; ``-`` for standard input.
        stack: Closes it.

    Raises:
        InputError: If it cannot be read, or holds no text; the message says what it is.
    """
    name = name_of(path)
    with _reading(name):
        file = sys.stdin.buffer if path == STANDARD_INPUT else _open(path, stack)
        if _peek(file).startswith(_GZIP):
            file = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=file)))
        _refuse_binary(name, _peek(file))
        return OpenedFile(name, file)


def _open(path: str, stack: ExitStack) -> BinaryIO:
    return stack.enter_context(Path(path).open("rb"))


def _peek(file: BinaryIO) -> bytes:
    """Return some bytes that come next; none only at the end. Nothing is read off the file."""
    return cast("bytes", file.peek(_HEAD_BYTES))  # type: ignore[attr-defined]


def _refuse_binary(name: str, head: bytes) -> None:
    for start, kind, advice in _NO_TEXTS:
        if head.startswith(start):
            raise InputError(f"{name} is {kind}, and no file of texts: {advice}")
    if b"\x00" in head:
        raise InputError(f"{name} is binary (it holds zero bytes), and no file of texts")


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error) as exc:
        raise InputError(f"cannot read {name}: its gzip data are cut short or damaged") from exc
    except OSError as exc:
        raise InputError(f"cannot read {name}: {exc.strerror or exc}") from exc
