"""Texts for our commands: from arguments, files, or standard input. One reader for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from unitvec_client.console.files import STANDARD_INPUT, OpenedFile, name_of, open_file
from unitvec_client.console.records import (
    Keys,
    Line,
    is_array,
    looks_like_json,
    looks_like_markup,
    read_json,
    read_plain,
    read_table,
)
from unitvec_client.errors import InputError

INPUT_FORMATS = ("lines", "json", "csv", "tsv")
_SUFFIXES = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
_FIRST_LINES = 10
"""If none of so many can be read, the rest will not be better: a wrong key, or no such format."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """Where texts come from.

    Attributes:
        arguments: Texts given on the command line.
        path: A file, ``-`` for standard input, or None.
        field: Key of the text in a JSON object, or name of its column; None for ``text``.
        id_field: Key or column of what a record is called; None where nobody asks.
        input_format: One of `INPUT_FORMATS`; None to tell by the suffix, by a field that is
            named, or by how the file begins.
    """

    arguments: tuple[str, ...] = ()
    path: str | None = None
    field: str | None = None
    id_field: str | None = None
    input_format: str | None = None

    def lines(self) -> Iterator[Line]:
        """Open the file and return the lines, to be read as they are asked for.

        Raises:
            InputError: If the file cannot be read, or none of its first lines can.
        """
        if self.arguments and self.id_field is not None:
            raise InputError("--id-field is for files: texts of the command line have no ids")
        given = [Line(number, text) for number, text in enumerate(self.arguments, start=1)]
        return chain(given, _begin(self._file_lines()))

    def _file_lines(self) -> Iterator[Line]:
        if self.path is not None:
            with ExitStack() as stack:
                file = open_file(self.path, stack)
                yield from _check_first(self._read(file), file.name, self.id_field)

    def texts(self) -> list[str]:
        """Return all texts.

        Raises:
            InputError: If one cannot be read; the message names its line.
        """
        found = []
        for line in self.lines():
            if line.text is None:
                raise InputError(f"{name_of(self.path or '')}: line {line.number}: {line.problem}")
            found.append(line.text)
        return found

    def count(self) -> int | None:
        """Return how many texts there are, where that can be told beforehand; None elsewhere.

        Blank lines between JSON lines are counted, too.

        Raises:
            InputError: If the file cannot be read.
        """
        if self.path is None:
            return len(self.arguments)
        if not _is_file(self.path) or _is_packed(self.path):  # Unpacking twice takes long.
            return None
        with ExitStack() as stack:
            file = open_file(self.path, stack)
            kind = self._kind_of(file)
            if kind in ("csv", "tsv") or (kind == "json" and is_array(file.head)):
                return None
            return len(self.arguments) + sum(1 for _ in file.lines())

    def _kind_of(self, file: OpenedFile) -> str:
        path = Path(self.path or "")
        if _is_packed(path.name):
            path = path.with_suffix("")
        by_field = "json" if self.field is not None else None
        by_head = "json" if looks_like_json(file.head) else "lines"
        return self.input_format or _SUFFIXES.get(path.suffix.lower()) or by_field or by_head

    def _read(self, file: OpenedFile) -> Iterator[Line]:
        kind = self._kind_of(file)
        keys = Keys(id=self.id_field) if self.field is None else Keys(self.field, self.id_field)
        if kind == "json":
            return read_json(file, keys)
        if kind in ("csv", "tsv"):
            return read_table(file, keys, delimiter="," if kind == "csv" else "\t")
        for flag, key in (("--field", self.field), ("--id-field", self.id_field)):
            if key is not None:
                raise InputError(
                    f"{flag} is for JSON lines and tables, and {file.name} is read as plain lines: "
                    "--input-format says what it is"
                )
        if self.input_format is None and looks_like_markup(file.head):
            raise InputError(
                f"{file.name} is HTML or XML: take its texts out first, "
                "or say --input-format lines to read it as it is"
            )
        return read_plain(file)


def check_no_file(texts: Iterable[str], *, flag: str) -> None:
    """Check that no text is the name of a file that was meant to be read.

    Args:
        texts: The texts of a command line.
        flag: The flag that reads a file.

    Raises:
        InputError: If one is.
    """
    for text in texts:
        if text == STANDARD_INPUT:
            raise InputError(f"'-' is no text: {flag} - reads standard input")
        if _is_file(text):
            raise InputError(
                f"{text!r} is a file: {flag} {text} reads it. If the name itself is the text, "
                f"put it into a file or on standard input"
            )


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # Longer than a name can be, or with a zero byte.
        return False


def _is_packed(name: str) -> bool:
    return name.lower().endswith(".gz")


def _begin(lines: Iterator[Line]) -> Iterator[Line]:
    """Take the first line now, so that what is wrong with a file is known before it is used."""
    return chain(list(islice(lines, 1)), lines)


def _check_first(lines: Iterator[Line], name: str, id_field: str | None) -> Iterator[Line]:
    """Pass lines on, if one of the first can be read, and one of them has the id asked for."""
    held: list[Line] = []
    for line in lines:
        held.append(line)
        if (line.text is not None and not line.lacks_id) or len(held) == _FIRST_LINES:
            break
    if held and all(line.text is None for line in held):
        count = "no line" if len(held) < _FIRST_LINES else f"none of the first {len(held)} lines"
        raise InputError(
            f"{name}: {count} can be read; line {held[0].number}: {held[0].problem} "
            "(--field names the key of the text, --input-format the format)"
        )
    if held and all(line.lacks_id for line in held):
        raise InputError(f"{name}: no key {id_field!r} in the first lines; --id-field names one")
    yield from chain(held, lines)
