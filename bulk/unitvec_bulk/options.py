"""What a job is asked for. All of it travels to the workers, so all of it is plain and frozen."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any, Literal, get_args

from unitvec_bulk.errors import UsageError

DtypeName = Literal["float32", "float16", "int8", "binary"]
TruncateName = Literal["model", "end", "start", "error"]
DTYPES: tuple[DtypeName, ...] = get_args(DtypeName)
TRUNCATES: tuple[TruncateName, ...] = get_args(TruncateName)


@dataclasses.dataclass(frozen=True)
class EmbedOptions:
    """How texts become vectors, as in the contract.

    Attributes:
        precision: Graph that workers run, as in `unitvec-serve --precision`.
        provider: Where it runs: cpu, cuda or auto.
        prompt_name: Prompt put before each text: None for the model's default, empty for none.
        truncate: What is cut off too long texts; ``error`` makes them failures.
        dimensions: Leading dimensions to keep; 0 for all.
        normalize: Whether vectors are scaled to unit length.
        dtype: Number type of the vectors that are written.
        window_tokens: Most tokens of a window; 0 for the longest text of the model; None for no
            windows.
        overlap_tokens: Most tokens that a window shares with the one before it.
        pooled: Whether the windows of a text are joined to one vector.
        max_text_bytes: Longer texts fail, as they do in a server.
    """

    precision: str = "auto"
    provider: str = "cpu"
    prompt_name: str | None = None
    truncate: TruncateName = "model"
    dimensions: int = 0
    normalize: bool = True
    dtype: DtypeName = "float32"
    window_tokens: int | None = None
    overlap_tokens: int = 0
    pooled: bool = False
    max_text_bytes: int = 262_144

    def __post_init__(self) -> None:
        for name in ("dimensions", "window_tokens", "overlap_tokens", "max_text_bytes"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _read_whole(name, value))
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.truncate not in TRUNCATES:
            raise UsageError(f"truncate {self.truncate!r} is not one of {', '.join(TRUNCATES)}")
        if self.window_tokens is None and (self.overlap_tokens or self.pooled):
            raise UsageError("overlap_tokens and pooled are for windows: set window_tokens, too")
        for name in ("dimensions", "overlap_tokens"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative")
        if self.max_text_bytes < 1:
            raise UsageError("max_text_bytes must be at least 1")

    @property
    def has_window_rows(self) -> bool:
        """Whether each window has a row of its own."""
        return self.window_tokens is not None and not self.pooled


def _read_whole(name: str, value: Any) -> int:
    """Takes over a whole number, such as numpy's, in Python's own type, which JSON can hold."""
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {value!r}") from None


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of the input are read.

    Attributes:
        text: Column of the texts, where there is no template.
        id: Column that names a row; empty for none: rows are then named by file and number.
        keep: Further columns that are copied to the output.
        template: Text of a row, made of columns, such as ``{title}: {body}``; empty for none.
    """

    text: str = "text"
    id: str = ""
    keep: tuple[str, ...] = ()
    template: str = ""
