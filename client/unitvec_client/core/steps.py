"""Steps: how the shared core asks for I/O without doing any.

The core is written once, as generators called scripts. A script yields steps; a driver
(blocking in `client`, asyncio in `aio`) carries each out and sends its result back in:

    script  --Invoke-->   driver   unary call        -> reply | Failure
            --Start-->             call in background -> None
            --Collect-->           first to finish   -> (key, reply | Failure) | None in time
            --Drop-->               all started calls -> None
            --Sleep-->                               -> None
            --Open, Send, Finish-->  bidi stream      -> None
            --Receive-->                             -> reply | Failure | END
            --Poll-->               never waits      -> the same | None if nothing is there
            --Pull-->              caller's iterable -> item | END
            --Compute-->           beside event loops -> what it returns
            --Emit-->              to the caller     -> None
            <--result--

A failed call comes back as a `Failure`, never as an exception: what to do about it is the
core's decision. Whatever ends a script, its driver cancels what is still in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

from unitvec_client.core.rpcs import Method

T = TypeVar("T")


class _End(Enum):
    END = "end"


END: Final = _End.END
"""There is nothing more to receive or to pull."""

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be made.

    Attributes:
        method: Remote method.
        request: Message to send; None for a stream.
        timeout_s: Time left to the deadline; None if there is none.
        metadata: Pairs that go with the request.
    """

    method: Method
    request: Any
    timeout_s: float | None
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Invoke:
    """Make a unary call and wait for it."""

    call: Call


@dataclass(frozen=True, slots=True)
class Start:
    """Start a unary call in the background, to be collected by its key."""

    key: int
    call: Call


@dataclass(frozen=True, slots=True)
class Collect:
    """Wait for any started call to finish; at most `timeout_s` if given."""

    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Drop:
    """Cancel the started calls; none of them is collected any more."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Open:
    """Open a bidirectional stream, in place of the last one if there is one."""

    call: Call


@dataclass(frozen=True, slots=True)
class Send:
    """Queue a message on the stream; never waits for the other side."""

    message: Any


@dataclass(frozen=True, slots=True)
class Finish:
    """Tell the other side that nothing more will be sent."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the stream's next message."""


@dataclass(frozen=True, slots=True)
class Poll:
    """Take the stream's next message if it is there already."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Take the next item from the caller's iterable."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Do work that takes long and asks nobody. What it raises comes out of the script."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand an item to the caller."""

    item: Any


_Exchange = Invoke | Start | Collect | Drop | Sleep | Open | Send | Finish | Receive | Poll
Step = _Exchange | Pull | Compute | Emit
# What a step sends back depends on the step, which generators cannot say in types.
Script = Generator[Step, Any, T]
