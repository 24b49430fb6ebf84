"""The thin shell around the batching policy: futures, worker threads, cancellation, the end.

Workers pull. Each takes the lock, asks the policy for the next batch and runs it, so that a worker
which finishes starts again without waiting for the event loop. Vectors are written straight into
the matrix of their request; the loop hears of a request once, when all of it is done.

A text that equals a running one joins its run, one that equals waiting ones is run with the first
of them, and one whose vector is cached is not run at all.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from unitvec_server.engine.model_queue import Encodes, ModelQueue, Rows
from unitvec_server.engine.pending import (
    Encoded,
    PendingRequest,
    Slot,
    fail,
    fail_alone,
    forget,
    is_wanted,
)
from unitvec_server.engine.reuse import Reuse, ReuseCounts, equal_texts
from unitvec_server.engine.watchdog import Run, Worker
from unitvec_server.errors import DeadlineExpired, InferenceFailed, Unavailable
from unitvec_server.policy.batching import BatchLimits, Plan
from unitvec_server.policy.deadlines import NO_WARM_RUN, WarmRun
from unitvec_server.policy.items import Item

logger = logging.getLogger(__name__)

_SHUT_DOWN = "the server is shutting down; try another"
_EXPIRED = "its turn came too late for its deadline; not run, or not to its end"
_DIED = "a worker died while this text was running; it is not retried"
_HUNG = "the run of this text hung; it is not retried"


class Scheduler:
    """Batches the texts of all callers and runs them on worker threads.

    Args:
        encoders: Encoders by model name.
        limits: Bounds of one batch, by model name.
        workers: Number of runs side by side, over all models.
        warm_runs: The longest runs before the first caller, by model name.
        cache_bytes: Bound of the cache of vectors, for all models; 0 is none.
        clock_s: Clock of the deadlines, in seconds.

    Attributes:
        queues: Queues of the models by their names. The mapping never changes: another takes its
            place where a model is replaced.
        workers: Worker threads as the watchdog sees them.
        cache_bytes: Bound of the cache of vectors in bytes.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encodes],
        *,
        limits: Mapping[str, BatchLimits],
        workers: int,
        warm_runs: Mapping[str, WarmRun] = MappingProxyType({}),
        cache_bytes: int = 0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queues: Mapping[str, ModelQueue] = {
            name: ModelQueue(
                *(number, encoder, limits[name], workers), warm_run=warm_runs.get(name, NO_WARM_RUN)
            )
            for number, (name, encoder) in enumerate(encoders.items())
        }
        self._numbers = itertools.count(len(self.queues))
        self.workers: Sequence[Worker] = [Worker(f"encode-{index}") for index in range(workers)]
        self.cache_bytes = cache_bytes
        self._turns = list(self.queues.values())
        self._clock_s = clock_s
        self._changed = threading.Condition()
        self._idle_workers = 0
        self._is_stopping = False
        self._reuse = Reuse(cache_bytes)

    @property
    def reuse(self) -> ReuseCounts:
        """What was encoded, joined and cached so far. Callable from any thread."""
        with self._changed:
            return self._reuse.counts()

    @property
    def waiting_texts(self) -> int:
        """Texts that no worker has taken. Callable from any thread."""
        return sum(queue.batcher.waiting_items for queue in list(self._turns))

    @property
    def draining_models(self) -> int:
        """Models that were replaced and still have callers. Callable from any thread."""
        return len(self._turns) - len(self.queues)

    @property
    def tokens_per_s(self) -> float:
        """Speed of all workers on the slowest model that has run; 0 before any has."""
        speeds = [queue.speed.tokens_per_s for queue in self.queues.values()]
        return min(filter(None, speeds), default=0.0)

    def seconds_for(self, tokens: float) -> float:
        """Time that all workers take for so many tokens at that speed; 0 while it is unknown."""
        return tokens / self.tokens_per_s if self.tokens_per_s else 0.0

    def expected_s(self, run: Run) -> float:
        """Most time that a run should take on its one worker; 0 while nothing was measured."""
        queue: ModelQueue = run.work[0]
        return queue.expected_s(run.tokens)

    def replace(
        self,
        names: Collection[str],
        encoders: Mapping[str, Encodes],
        limits: Mapping[str, BatchLimits],
        warm_runs: Mapping[str, WarmRun] = MappingProxyType({}),
    ) -> Sequence[ModelQueue]:
        """Puts other models in the place of some. To be called on the event loop of the callers.

        Args:
            names: Names of the models that are replaced.
            encoders: Encoders of the new ones by their names, most often the same.
            limits: Bounds of their batches by their names.
            warm_runs: The longest runs before their first caller, by their names.

        Returns:
            The queues of the old models, which work on until they are given to `retire`.
        """
        old = {name: queue for name, queue in self.queues.items() if name in names}
        new = {
            name: ModelQueue(
                *(next(self._numbers), encoder, limits[name], len(self.workers)),
                warm_run=warm_runs.get(name, NO_WARM_RUN),
                batches=old[name].batches if name in old else None,
            )
            for name, encoder in encoders.items()
        }
        kept = {name: queue for name, queue in self.queues.items() if name not in old}
        with self._changed:
            self._turns += new.values()
            self.queues = kept | new
        return list(old.values())

    def retire(self, queues: Collection[ModelQueue]) -> None:
        """Lets go of replaced models that have no more callers."""
        with self._changed:
            self._turns = [queue for queue in self._turns if queue not in queues]

    def start(self) -> None:
        """Starts the workers."""
        for worker in self.workers:
            worker.thread = threading.Thread(
                target=self._live, args=(worker,), name=worker.name, daemon=True
            )
            worker.thread.start()

    def stop(self) -> None:
        """Ends the workers after their present batch; what still waits fails as UNAVAILABLE."""
        with self._changed:
            was_stopping, self._is_stopping = self._is_stopping, True
            for queue in self._turns:
                while batch := queue.batcher.next_batch(now_s=-math.inf, free_workers=1).batch:
                    fail(batch, Unavailable(_SHUT_DOWN))
                    forget(batch)
            self._changed.notify_all()
        for worker in self.workers:
            if worker.thread is not None:
                worker.thread.join()
        if not was_stopping:
            self.reuse.log()

    async def encode(
        self,
        queue: ModelQueue,
        rows: Rows,
        *,
        flow: Hashable,
        deadline_s: float = math.inf,
        is_partial: bool = False,
    ) -> Encoded:
        """Runs one request of n encoded texts.

        Args:
            queue: Queue of the model.
            rows: Token ids of each text, at least one text.
            flow: Unary call or stream that the request belongs to.
            deadline_s: Time at which it stops being worth running, on the scheduler's clock.
            is_partial: Whether texts on which the model fails are told apart from the others,
                which then have their vectors.

        Raises:
            DeadlineExpired: The deadline passed, or is too near, before all of it ran.
            Overloaded: So much waits that it cannot all run by the deadline.
            InferenceFailed: The model failed on it, or a worker that ran it did.
            Unavailable: The scheduler was stopped.
        """
        future = asyncio.get_running_loop().create_future()
        vectors = np.empty((len(rows), queue.dim), np.float32)
        request = PendingRequest(
            future, queue.batcher, vectors, time.monotonic_ns(), is_partial=is_partial
        )
        items = [
            # An empty encoding is padded to one token.
            Item(max(1, len(row)), flow, deadline_s, Slot(request, indices, row), key)
            for key, indices in equal_texts(rows).items()
            for row in [rows[indices[0]]]
        ]
        with self._changed:
            if self._is_stopping:
                raise Unavailable(_SHUT_DOWN)
            self._submit(queue, request, items)
        if not request.items:
            return Encoded(vectors, 0, 0)
        try:
            return await request.future
        finally:
            if not request.is_done:
                with self._changed:
                    request.is_done = True
                    request.drop()

    def check_estimate(
        self, queue: ModelQueue, lengths: Sequence[int], *, flow: Hashable, deadline_s: float
    ) -> None:
        """Refuses texts whose turn would probably come too late, before they are tokenized.

        A cache may hold the texts, so nothing is refused where there is one. Texts that could never
        be in time are left to `encode`, which knows their true lengths and has an error for them.

        Args:
            queue: Queue of the model.
            lengths: Tokens that each text probably has, at least one text.
            flow: Unary call or stream that the texts belong to.
            deadline_s: Time at which they stop being worth running, on the scheduler's clock.

        Raises:
            Overloaded: Too much waits.
        """
        if self.cache_bytes:
            return
        with self._changed:
            left_s = deadline_s - self._clock_s()
            queue.deadlines.check_estimate(lengths, flow=flow, left_s=left_s, queue=queue.batcher)

    def _submit(self, queue: ModelQueue, request: PendingRequest, items: list[Item]) -> None:
        """Answers texts from the cache, joins running ones, lets the rest wait. Needs the lock."""
        wanted = self._reuse.answer(items, model_number=queue.number)
        waits = [item for item in wanted if item.key not in queue.running]
        if waits and waits[0].deadline_s < math.inf:
            self._check_deadline(queue, waits)
        request.items, request.remaining = wanted, len(wanted)
        if len(waits) < len(wanted):
            self._join(queue, request, wanted)
        queue.batcher.add(waits)
        self._changed.notify(len(waits))

    def _check_deadline(self, queue: ModelQueue, waits: list[Item]) -> None:
        lengths = [item.length for item in waits]
        left_s = waits[0].deadline_s - self._clock_s()
        flow = waits[0].flow
        queue.deadlines.check(lengths, flow=flow, left_s=left_s, queue=queue.batcher)

    @staticmethod
    def _join(queue: ModelQueue, request: PendingRequest, wanted: list[Item]) -> None:
        for item in wanted:
            if (running := queue.running.get(item.key)) is not None:
                running.joined.append(item)
                request.started_ns = request.started_ns or time.monotonic_ns()

    def _live(self, worker: Worker) -> None:
        """All that a worker does. Its death is noted for the watchdog."""
        try:
            while (taken := self._take()) is not None:
                self._work(worker, *taken)
                del taken  # An idle worker holds no model that was replaced.
        except BaseException as exc:
            logger.critical("worker %s died", worker.name, exc_info=exc)
            worker.fault = f"worker {worker.name} died of {type(exc).__name__}"

    def _take(self) -> tuple[ModelQueue, Plan] | None:
        """Waits for a batch; None when the scheduler stops."""
        with self._changed:
            self._idle_workers += 1
            try:
                while not self._is_stopping:
                    if (taken := self._next()) is not None:
                        return taken
                    self._changed.wait()
                return None
            finally:
                self._idle_workers -= 1

    def _next(self) -> tuple[ModelQueue, Plan] | None:
        """The next batch, if there is one. Needs the lock."""
        # Models take turns: the one that ran longest ago is asked first.
        for queue in self._turns:
            if queue.batcher.waiting_items and (plan := self._plan(queue)).batch:
                queue.begin(plan)
                self._turns.remove(queue)
                self._turns.append(queue)
                return queue, plan
        return None

    def _plan(self, queue: ModelQueue) -> Plan:
        """The next batch of a model. Fails what expired. Needs the lock."""
        now_s, free_workers = self._clock_s(), self._idle_workers
        plan = queue.batcher.next_batch(now_s=now_s, free_workers=free_workers)
        if plan.expired:
            fail(plan.expired, DeadlineExpired(_EXPIRED))
            forget(plan.expired)
        return plan

    def _work(self, worker: Worker, queue: ModelQueue, plan: Plan) -> None:
        started_s = self._clock_s()
        try:
            self._run(worker, queue, plan.batch, plan.tokens)
        except BaseException:
            self._give_up(queue, plan.batch, _DIED)
            raise
        finally:
            worker.run = None
        forget(plan.batch)
        busy_s = self._clock_s() - started_s
        with self._changed:
            queue.record(tokens=plan.tokens, busy_s=busy_s)

    def _run(self, worker: Worker, queue: ModelQueue, batch: list[Item], tokens: int) -> None:
        """Runs a batch; if it fails, each text apart, so that one bad text harms no other."""
        worker.run = Run(tokens, (queue, batch))
        try:
            vectors = queue.encode(batch)
        except Exception as exc:
            if len(batch) > 1:
                logger.warning("a batch of %d texts failed, running each apart", len(batch))
                self._run_apart(worker, queue, batch)
                return
            logger.exception("inference failed on a text of %d tokens", tokens)
            error = InferenceFailed("the model failed on this text; it is not retried")
            error.__cause__ = exc
            with self._changed:
                queue.end(batch[0])
                fail_alone(batch[0], error)
                forget(batch)
            queue.probe()
            return
        self._deliver(queue, batch, vectors)

    def _run_apart(self, worker: Worker, queue: ModelQueue, batch: list[Item]) -> None:
        for item in batch:
            with self._changed:
                if not (wanted := is_wanted(item)):
                    queue.end(item)
            if wanted:
                self._run(worker, queue, [item], item.length)

    def _deliver(
        self, queue: ModelQueue, batch: list[Item], vectors: npt.NDArray[np.float32]
    ) -> None:
        for item, vector in zip(batch, vectors, strict=True):
            item.payload.fill(vector)
        with self._changed:
            now_ns = time.monotonic_ns()  # after the start of any that has just joined
            self._reuse.record(batch, vectors, model_number=queue.number)
            for item, vector in zip(batch, vectors, strict=True):
                item.payload.complete(now_ns)
                for joined in item.joined:
                    joined.payload.fill(vector)
                    joined.payload.complete(now_ns)
                queue.end(item)

    def give_up(self, run: Run) -> None:
        """Fails the callers of a run that will never end. Callable from any thread."""
        queue, batch = run.work
        self._give_up(queue, batch, _HUNG)

    def _give_up(self, queue: ModelQueue, batch: list[Item], reason: str) -> None:
        """Fails what still runs of a batch; later equal texts do not join it."""
        with self._changed:
            for item in batch:
                if queue.is_running(item):
                    queue.end(item)
                    fail([item], InferenceFailed(reason))
