"""What several APIs have in common: texts or token ids in, vectors out."""

from __future__ import annotations

import binascii
import functools
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Embedded, EncodeOptions, IdsList, Model, TextList
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import InvalidRequest
from unitvec_server.http.exchange import to_json
from unitvec_server.model.fingerprints import Fingerprints
from unitvec_server.vectors.packing import Floats


def described(**schema: Any) -> msgspec.Meta:
    """What only the descriptions of the APIs say of a type: it is checked elsewhere."""
    return msgspec.Meta(extra_json_schema=schema)


KINDS = [{"items": {"type": kind}} for kind in ("string", "integer", "array")]
"""What a list has: one of these, not several."""

Id = Annotated[int, described(minimum=0)]
"""A token id."""

Ids = Annotated[list[Id], described(minItems=1)]
"""The token ids of a text."""

Texts = Annotated[list[str], described(minItems=1)]
"""Texts, at least one."""

Input = str | Annotated[list[str | Id | Ids], described(minItems=1, anyOf=KINDS)]
"""A text, a list of texts, the token ids of a text, or a list of those."""

Dimensions = Annotated[int, msgspec.Meta(ge=1)]
"""A number of leading dimensions."""

Switch = bool | Annotated[int, msgspec.Meta(ge=0, le=1)]
"""True or false: pydantic takes 1 and 0 for these."""

_FINGERPRINT = re.compile(r"[sb][0-9]+-[0-9a-f]+")

_LOOP_VALUES = 32_768
"""Values that are written on the event loop, which takes a millisecond."""

_PART_VALUES = 8192
"""Values that are written at a time elsewhere: writing holds the lock of the interpreter."""

_PART_ENTRIES = 1024
"""Objects that are written at a time."""


def read_input(given: Input, options: EncodeOptions, *, field: str) -> TextList | IdsList:
    """Reads texts or token ids.

    Raises:
        InvalidRequest: There are none, or different kinds in one list.
    """
    if isinstance(given, str):
        return TextList([given], options, field)
    kinds = set(map(type, given))
    if kinds <= {str}:
        return TextList(given, options, field)  # type: ignore[arg-type]  # all are texts
    if kinds == {int}:
        return IdsList([given], options, field)  # type: ignore[list-item]  # all are ids
    if kinds == {list}:
        return IdsList(given, options, field)  # type: ignore[arg-type]  # all are lists of ids
    raise InvalidRequest(
        f"{field} has texts and token ids in one list; send them apart", field=field
    )


def find_model(engine: Engine, asked: str, expected: Fingerprints) -> tuple[Model, Fingerprints]:
    """The model of an id, and the fingerprints that its vectors must have.

    Many clients let one choose the id of a model and set no headers, and an index stores it. So
    ``NAME@s1-...`` is the model of that name if its vectors are of that space, and ``NAME@b1-...``
    if they have those bits.

    Args:
        engine: The engine, which has the models.
        asked: The id; without a name it is that of the default model.
        expected: What the headers expect.

    Raises:
        ModelNotFound: There is no such model.
        InvalidRequest: The headers expect something else.
    """
    name, _, mark = asked.rpartition("@")
    if asked in engine.models or not _FINGERPRINT.fullmatch(mark):
        return engine.model(asked), expected
    kind = {"s": "space", "b": "bits"}[mark[0]]
    if getattr(expected, kind) not in ("", mark):
        raise InvalidRequest(f"the headers expect other {kind} than the model's id", field="model")
    return engine.model(name), expected._replace(**{kind: mark})


def find_prompt(model: Model, role: str, *own_names: str) -> str:
    """The prompt for texts of a role, as `encode_query` and `encode_document` choose it.

    They take the prompts `query` and `document` alone, and no prompt where the model has an empty
    one; an index may so be filled by any door and by sentence-transformers. Each route of a
    model is a prompt too, by whose name it is chosen even where it has no text.

    Args:
        model: The model.
        role: Name of the prompt, such as ``query``.
        own_names: Names that the API has for the role: a prompt of such a name comes first.
    """
    prompts = model.manifest.prompts
    named = [name for name in own_names if prompts.get(name)]
    return named[0] if named else role if role in prompts else ""


def vector_headers(model: Model, *parts: Embedded) -> dict[str, str]:
    """Headers that tell what made the vectors, and how much of the texts is not in them.

    A fingerprint that is unknown is left out, and so are counts of nothing.
    """
    cut = [tokens for part in parts for tokens in part.truncated.values()]
    counts = {"truncated-texts": len(cut), "left-out-tokens": sum(cut)}
    facts = {**model.identity._asdict(), **counts}
    return {f"x-unitvec-{name}": str(value) for name, value in facts.items() if value}


def to_base64(vectors: Floats) -> list[str]:
    """Each row as its little-endian float32 bytes in base64."""
    rows = np.ascontiguousarray(vectors, "<f4")
    return [binascii.b2a_base64(row, newline=False).decode() for row in rows]


async def write_vectors(engine: Engine, vectors: npt.NDArray[Any]) -> bytes:
    """A matrix (n, D) as JSON: lists of numbers, each as short as its type allows."""
    rows = np.ascontiguousarray(vectors)
    if rows.size <= _LOOP_VALUES:
        return to_json(rows)
    return b"[" + await write_rows(engine, list(rows)) + b"]"


async def write_rows(engine: Engine, rows: Sequence[Any], *, width: int = 0) -> bytes:
    """Values in a row as JSON with commas between: many of them off the loop, part by part.

    Args:
        engine: The engine, whose pool does it.
        rows: Arrays, or what holds some.
        width: Numbers in each; 0 asks the first.
    """
    width = width or max(1, len(rows[0]))
    if len(rows) * width <= _LOOP_VALUES:
        return to_json(rows)[1:-1]
    step = max(1, _PART_VALUES // width)
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    write = functools.partial(_write_parts, parts)
    return await run_off_loop(engine.executor, write)


def write_list(values: Iterable[Any]) -> bytes:
    """Values as a list in JSON, written part by part, so that few of them are there at a time."""
    rest = iter(values)
    parts = iter(lambda: list(itertools.islice(rest, _PART_ENTRIES)), [])
    return b"[" + _write_parts(parts) + b"]"


def _write_parts(parts: Iterable[Sequence[Any]]) -> bytes:
    return b",".join([to_json(part)[1:-1] for part in parts])
