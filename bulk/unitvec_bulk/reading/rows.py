"""Rows as they are read, and as tables: the one form in which they travel to workers.

A table has a row for each row of the input, also for those that cannot be read:

    _file     string         file that it is from
    _row      int64          its number in that file, from 0
    _text     large_string   its text; null where there is none
    _reason   string         why there is none, UPPER_SNAKE_CASE; null where there is
    _message  string         the same for people
    ...                      the columns that are copied, as `Layout.copied` says
"""

from __future__ import annotations

import dataclasses
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from unitvec_bulk.errors import UsageError
from unitvec_bulk.options import Columns

FIXED = (
    pa.field("_file", pa.string()),
    pa.field("_row", pa.int64()),
    pa.field("_text", pa.large_string()),
    pa.field("_reason", pa.string()),
    pa.field("_message", pa.string()),
)


class Problem(NamedTuple):
    """Why a row has no vector."""

    reason: str
    message: str


class Row(NamedTuple):
    """One row.

    Attributes:
        number: Its number in the file, from 0.
        text: Its text, or why there is none.
        copied: Values of the copied columns.
    """

    number: int
    text: str | Problem
    copied: Sequence[Any] = ()


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which columns are read, and of which types those are that are copied.

    Attributes:
        columns: What was asked for.
        copied: Names and types of the copied columns, the id first if there is one.
    """

    columns: Columns
    copied: pa.Schema

    @property
    def schema(self) -> pa.Schema:
        """Schema of the tables of rows."""
        return pa.schema([*FIXED, *self.copied])

    @property
    def text_columns(self) -> list[str]:
        """Columns that a text is made of."""
        template = self.columns.template
        return template_columns(template) if template else [self.columns.text]

    @property
    def read_columns(self) -> list[str]:
        """All columns that are read, each once."""
        return list(dict.fromkeys([*self.text_columns, *self.copied.names]))

    def text_of(self, record: Mapping[str, Any]) -> str | Problem:
        """The text of a record, or why it has none."""
        template = self.columns.template
        if not template:
            return _as_text(record.get(self.columns.text), self.columns.text)
        parts = {name: _as_text(record.get(name) or "", name) for name in self.text_columns}
        bad = next((part for part in parts.values() if isinstance(part, Problem)), None)
        return bad or template.format_map(parts)

    def copied_as_text(self, record: Mapping[str, Any]) -> list[str | None]:
        """Values of the copied columns of a record without types: text as it is, else JSON."""
        return [_plain(record.get(name)) for name in self.copied.names]

    def table(self, file: str, rows: Sequence[Row]) -> pa.Table:
        """Rows of one file as a table."""
        texts = [None if isinstance(row.text, Problem) else row.text for row in rows]
        problems = [row.text if isinstance(row.text, Problem) else (None, None) for row in rows]
        arrays = {
            "_file": [file] * len(rows),
            "_row": [row.number for row in rows],
            "_text": texts,
            "_reason": [reason for reason, _ in problems],
            "_message": [message for _, message in problems],
        }
        width = len(self.copied)
        values = [row.copied or [None] * width for row in rows]
        copied = {name: [row[at] for row in values] for at, name in enumerate(self.copied.names)}
        return pa.table({**arrays, **copied}, schema=self.schema)


def refuse_missing_ids(rows: pa.Table, layout: Layout) -> pa.Table:
    """Makes problems of rows without an id: what names a row of a store must be there."""
    name = layout.columns.id
    if not name or not rows.column(name).null_count:
        return rows
    missing = rows.column(name).is_null()
    problem = Problem("MISSING_ID", f"column {name} has no value, and the store needs one")
    values = {"_text": None, "_reason": problem.reason, "_message": problem.message}
    for column, value in values.items():
        place = rows.schema.get_field_index(column)
        field = rows.schema.field(column)
        put = pc.if_else(missing, pa.scalar(value, field.type), rows.column(column))
        rows = rows.set_column(place, field, put)
    return rows


def template_columns(template: str) -> list[str]:
    """Columns that a template names.

    Raises:
        UsageError: It names none, or holds more than names between braces.
    """
    try:
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as exc:
        raise UsageError(f"template {template!r}: {exc}") from exc
    if any(spec or conversion for _, _, spec, conversion in fields):
        raise UsageError(f"template {template!r}: only names of columns go between braces")
    names = [name or "" for _, name, _, _ in fields]
    if not names or not all(names) or any(set(name) & set(".[") for name in names):
        raise UsageError(f"template {template!r}: name columns between braces, as in {{title}}")
    return list(dict.fromkeys(names))


def _as_text(value: Any, column: str) -> str | Problem:
    if value is None:
        return Problem("NO_TEXT", f"column {column} has no value")
    if not isinstance(value, str):
        return Problem("NOT_TEXT", f"column {column} is {type(value).__name__}, not text")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        return Problem("NOT_UTF8", f"column {column} holds a lone surrogate, which is no character")
    return value


def _plain(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()
