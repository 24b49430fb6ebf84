"""Requests that are not answered yet: what the scheduler knows of each until it is done."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from unitvec_server.errors import RequestError
from unitvec_server.policy.batching import Batcher
from unitvec_server.policy.items import Item


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The outcome of a request of n texts.

    Attributes:
        vectors: Matrix (n, D) float32.
        queue_ns: Time from submission to the start of the first of its runs.
        infer_ns: Time from then to the end of the last one.
        failures: Errors of texts of a partial request, by index; their rows are NaN.
    """

    vectors: npt.NDArray[np.float32]
    queue_ns: int
    infer_ns: int
    failures: Mapping[int, RequestError] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class PendingRequest:
    """One request of n texts, from its submission to its answer.

    Everything but `future` and the rows of `vectors` is guarded by the scheduler's lock.

    Attributes:
        future: Outcome, set on the event loop of the caller.
        batcher: Queue in which its items wait.
        vectors: Matrix (n, D) float32, filled row by row.
        submitted_ns: Time of its submission on the monotonic clock.
        items: Its distinct texts that are, or were, in the queue or in a run.
        remaining: Number of these that are still to come.
        started_ns: Time at which the first of them started to run; 0 before.
        is_done: Whether the request is answered, failed or given up by its caller.
        is_partial: Whether texts may fail one by one.
        failures: Errors of those that did, by index.
    """

    future: asyncio.Future[Encoded]
    batcher: Batcher
    vectors: npt.NDArray[np.float32]
    submitted_ns: int
    items: list[Item] = dataclasses.field(default_factory=list)
    remaining: int = 0
    started_ns: int = 0
    is_done: bool = False
    is_partial: bool = False
    failures: dict[int, RequestError] = dataclasses.field(default_factory=dict)

    def finish(self, outcome: Encoded | Exception) -> None:
        """Answers or fails the request, once. Callable from any thread."""
        self.is_done = True

        def tell() -> None:
            if not self.future.done():
                if isinstance(outcome, Exception):
                    self.future.set_exception(outcome)
                else:
                    self.future.set_result(outcome)

        # A closed loop has nobody left to tell, and must not end the worker.
        with contextlib.suppress(RuntimeError):
            self.future.get_loop().call_soon_threadsafe(tell)

    def drop(self) -> None:
        """Takes its items that still wait out of the queue."""
        for item in self.batcher.cancel(self.items):
            item.payload = None


@dataclasses.dataclass(eq=False, slots=True)
class Slot:
    """The payload of an item: where the vector of its text goes.

    Attributes:
        request: Request that the text belongs to.
        indices: Rows of the request's matrix that are of this text, at least one.
        input_ids: Token ids (S,) int64 of the text.
    """

    request: PendingRequest
    indices: list[int]
    input_ids: npt.NDArray[np.int64]

    def fill(self, vector: npt.NDArray[np.float32]) -> None:
        """Copies a vector (D,) into the rows."""
        for index in self.indices:
            self.request.vectors[index] = vector

    def refuse(self, error: RequestError) -> None:
        """Notes in a partial request that its text has failed."""
        self.request.vectors[self.indices] = np.nan
        self.request.failures.update(dict.fromkeys(self.indices, error))

    def complete(self, now_ns: int) -> None:
        """Notes that the rows are filled; the last slot of a request answers it."""
        request = self.request
        request.remaining -= 1
        if request.remaining == 0 and not request.is_done:
            queue_ns = request.started_ns - request.submitted_ns
            infer_ns = now_ns - request.started_ns
            request.finish(Encoded(request.vectors, queue_ns, infer_ns, request.failures))


def served_by(item: Item) -> tuple[Item, ...]:
    """The item and the equal ones that its run answers too."""
    return (item, *item.joined)


def is_wanted(item: Item) -> bool:
    """Whether a request still waits for the item's run."""
    return any(not served.payload.request.is_done for served in served_by(item))


def fail_alone(item: Item, error: RequestError) -> None:
    """Fails a text on which the model failed by itself. Needs the lock.

    A partial request goes on without it; any other fails as a whole.
    """
    now_ns = time.monotonic_ns()
    slots: list[Slot] = [served.payload for served in served_by(item)]
    for slot in slots:
        request = slot.request
        if request.is_partial:
            slot.refuse(error)
            slot.complete(now_ns)
        elif not request.is_done:
            request.finish(error)
            request.drop()


def fail(items: Iterable[Item], error: RequestError) -> None:
    """Fails the requests of these items and drops what else of them waits. Needs the lock."""
    for request in {served.payload.request for item in items for served in served_by(item)}:
        if not request.is_done:
            request.finish(error)
            request.drop()


def forget(items: Iterable[Item]) -> None:
    """Frees the requests of items that left the queue, which may hold the items for a while."""
    for item in items:
        item.payload = None
        for joined in item.joined:
            joined.payload = None
        item.joined.clear()
