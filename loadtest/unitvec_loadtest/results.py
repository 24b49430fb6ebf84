"""One compact record for each request, kept until the report is computed from them."""

from array import array
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Outcome(IntEnum):
    """What came of a request: a gRPC status, or a verdict of the load tester's own."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16
    WRONG_ANSWER = 100
    """The server answered, and the answer is not right."""
    NOT_SENT = 101
    """The load tester was a whole timeout behind its own schedule, and gave the request up."""


class ServerTimings(NamedTuple):
    """Where the server says the time of a request went, in nanoseconds."""

    tokenize_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    total_ns: int = 0


class Answer(NamedTuple):
    """What came back for one request, failed ones included."""

    outcome: Outcome
    tokens: int = 0
    timings: ServerTimings = ServerTimings()
    message: str = ""


class Result(NamedTuple):
    """All that is kept about one request. Times are nanoseconds from the start of the run."""

    due_ns: int
    sent_ns: int
    done_ns: int
    texts: int
    measured: bool
    answer: Answer


@dataclass(frozen=True)
class Columns:
    """The records of a run as arrays (n,), in the order in which the requests ended.

    Server timings are zero where the request failed.
    """

    due_ns: Int64s
    sent_ns: Int64s
    done_ns: Int64s
    texts: Int64s
    tokens: Int64s
    outcome: Int64s
    measured: Bools
    tokenize_ns: Int64s
    queue_ns: Int64s
    infer_ns: Int64s
    total_ns: Int64s

    @property
    def ok(self) -> Bools:
        """Which requests succeeded, (n,)."""
        return np.asarray(self.outcome == Outcome.OK, dtype=np.bool_)

    @property
    def latency_ns(self) -> Int64s:
        """Time from when each request was due to its end, (n,)."""
        return self.done_ns - self.due_ns


# Eleven 64-bit numbers a record: 88 bytes, so that a million requests fit in 88 MB.
_FIELDS = (
    *("due_ns", "sent_ns", "done_ns", "texts", "tokens", "outcome", "measured"),
    *ServerTimings._fields,
)


def _empty_columns() -> dict[str, "array[int]"]:
    return {name: array("q") for name in _FIELDS}


@dataclass
class Results:
    """The records of a run, growing while it goes on."""

    examples: dict[Outcome, str] = field(default_factory=dict)
    """The first error message of each outcome among the measured requests."""
    _columns: dict[str, "array[int]"] = field(default_factory=_empty_columns)

    def __len__(self) -> int:
        """Number of requests that have ended."""
        return len(self._columns["due_ns"])

    def add(self, result: Result) -> None:
        """Keeps one record."""
        answer = result.answer
        row = (
            *(result.due_ns, result.sent_ns, result.done_ns, result.texts),
            *(answer.tokens, answer.outcome, result.measured, *answer.timings),
        )
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)
        if result.measured and answer.outcome is not Outcome.OK:
            self.examples.setdefault(answer.outcome, answer.message)

    def columns(self, *, last: int | None = None) -> Columns:
        """Copies all records, or the `last` ones to have ended, into arrays."""
        start = 0 if last is None else max(0, len(self) - last)
        copies = {
            name: np.array(column[start:], dtype=np.int64) for name, column in self._columns.items()
        }
        measured = copies.pop("measured").astype(np.bool_)
        return Columns(measured=measured, **copies)
