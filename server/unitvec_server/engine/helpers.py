"""Threads for short work off the event loop: tokenization, comparisons."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from unitvec_server.errors import InferenceFailed

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclasses.dataclass(slots=True, eq=False)
class Job:
    """What a thread does now.

    Attributes:
        future: Of its result; None for the moment until it is known.
    """

    future: Future[Any] | None = None

    def give_up(self) -> None:
        """Fails it, since it will never end. Callable from any thread."""
        if self.future is not None:
            with contextlib.suppress(InvalidStateError):  # it ended after all
                self.future.set_exception(
                    InferenceFailed("a thread hung on this request; it is not retried")
                )


class Helpers(ThreadPoolExecutor):
    """A pool that shows what its threads do, for the watchdog.

    Attributes:
        jobs: What runs, by the name of its thread. Each thread writes its own; a copy may be taken
            from any.

    Args:
        threads: How many.
        name: Their names begin with it.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self.jobs: dict[str, Job] = {}

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Runs a job on the next free thread."""
        job = Job()
        job.future = future = super().submit(self._run, job, fn, *args, **kwargs)
        return future

    def _run(self, job: Job, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        name = threading.current_thread().name
        self.jobs[name] = job
        try:
            return fn(*args, **kwargs)
        finally:
            del self.jobs[name]
