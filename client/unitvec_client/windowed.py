"""The windows of long texts and their vectors, as a result that is no array of texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from unitvec_client.results import FailedText, Timings, Window, describe


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WindowedResult:
    """Vectors of the windows of texts. Its rows are windows, not texts.

        for window, vector in result:
            print(texts[window.text_index][window.start : window.end])

    Attributes:
        windows: What each vector is of, by text and by place in the text.
        vectors: (r, D), of the types that `Client.embed` returns; a row for each window.
        tokens: (n,) uint32: tokens encoded for each text, in all its windows; 0 where it failed.
        truncated: Indices of the texts that were cut, ascending: those in which a single character
            has more tokens than the model takes.
        left_out_tokens: Number of tokens left out of each text in `truncated`, in that order.
        errors: Texts that failed, in order, which have no windows; empty unless they are returned.
        model: Name of the model that made the vectors.
        timings: Parts of the server's time.
        space: Fingerprint of the space of the vectors.
        bits: Fingerprint of how they were computed.
        scales: (r,) float32, for int8 only: `vectors` divided by them are 8-bit numbers, but for
            rounding.
    """

    windows: tuple[Window, ...]
    vectors: NDArray[Any]
    tokens: NDArray[np.uint32]
    truncated: tuple[int, ...]
    left_out_tokens: tuple[int, ...]
    errors: tuple[FailedText, ...]
    model: str
    timings: Timings
    space: str = ""
    bits: str = ""
    scales: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    def __iter__(self) -> Iterator[tuple[Window, NDArray[Any]]]:
        """Yield each window and its vector (D,)."""
        return zip(self.windows, self.vectors, strict=True)

    def rows_of(self, text_index: int) -> slice:
        """Return the rows of one text, for `windows` and `vectors`; none if it failed.

        Raises:
            IndexError: If there is no such text.
        """
        if not 0 <= text_index < len(self.tokens):
            raise IndexError(f"text {text_index} of {len(self.tokens)}")
        indices = [window.text_index for window in self.windows]
        start, stop = np.searchsorted(indices, [text_index, text_index + 1]).tolist()
        return slice(start, stop)

    def __array__(self, *_: object, **__: object) -> NoReturn:
        """Refuse to be taken for an array with a row for each text."""
        raise TypeError("rows of a WindowedResult are windows, not texts: use its .vectors")

    def __repr__(self) -> str:
        failed = f", {len(self.errors):,} failed" if self.errors else ""
        shape = describe(self.vectors)
        return f"<WindowedResult {shape}, of {len(self.tokens):,} texts by {self.model!r}{failed}>"
