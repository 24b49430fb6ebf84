"""The thin shell around `batching`: futures, worker threads, cancellation, drain.

Workers pull: each takes the lock, asks the policy for the next batch and runs it, so a worker
that finishes starts again without waiting for the event loop. Results are written straight
into the request's matrix; the loop hears of a request once, when all of it is done.

A text that equals a running one joins its run, one that equals waiting ones is run with the first
of them, and one whose vector is cached is not run at all.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from unitvec_server.engine.admission import Throughput
from unitvec_server.engine.jobs import Encoded, Job, Share, forget, is_wanted, served_by, share_of
from unitvec_server.engine.model_queue import Encodes, Lane, Rows
from unitvec_server.engine.reuse import Reuse, ReuseCounts, equal_texts
from unitvec_server.engine.watchdog import Run, Worker
from unitvec_server.errors import DeadlineExpired, InferenceFailed, RequestError, Unavailable
from unitvec_server.policy.batching import BatchLimits, BatchQueue
from unitvec_server.policy.items import Item

logger = logging.getLogger(__name__)

_SHUT_DOWN = "the server is shutting down; try another"
_EXPIRED = "its turn came too late for its deadline; not run, or not to its end"
_GIVEN_UP = "a worker failed while this text was running; it is not retried"


class Scheduler:
    """Batches the texts of all callers and runs them on worker threads.

    Args:
        encoders: Encoders by model name.
        limits: Bounds of one batch, by model name.
        workers: Runs side by side, over all models.
        cache_bytes: Bound of the cache of vectors, for all models; 0 is none.
        clock_s: Seconds, the clock of deadlines.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encodes],
        *,
        limits: Mapping[str, BatchLimits],
        workers: int,
        cache_bytes: int = 0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = {
            name: Lane(space, encoder, BatchQueue(limits[name]), workers)
            for space, (name, encoder) in enumerate(encoders.items())
        }
        self._turns = list(self._lanes.values())
        self._workers = [Worker(f"encode-{index}") for index in range(workers)]
        self._clock_s = clock_s
        self._changed = threading.Condition()
        self._idle_workers = 0
        self._stopping = False
        self._cache_bytes = cache_bytes
        self._reuse = Reuse(cache_bytes)
        self.throughput = Throughput()

    @property
    def reuse(self) -> ReuseCounts:
        """What was encoded, joined and cached so far. Callable from any thread."""
        with self._changed:
            return self._reuse.counts()

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The models by name, for whoever counts what they do."""
        return self._lanes

    @property
    def cache_bytes(self) -> int:
        """Bound of the cache of vectors; 0 is none."""
        return self._cache_bytes

    @property
    def workers(self) -> Sequence[Worker]:
        """All workers, for whoever watches them."""
        return self._workers

    @property
    def waiting_texts(self) -> int:
        """Texts that no worker has taken. Callable from any thread."""
        return sum(lane.queue.waiting_items for lane in self._lanes.values())

    def start(self) -> None:
        """Starts the workers."""
        for worker in self._workers:
            worker.thread = threading.Thread(
                target=self._live, args=(worker,), name=worker.name, daemon=True
            )
            worker.thread.start()

    def stop(self) -> None:
        """Ends the workers after their present batch; what still waits fails as UNAVAILABLE."""
        with self._changed:
            stopped_before, self._stopping = self._stopping, True
            for lane in self._turns:
                while plan := lane.queue.next_batch(now_s=-math.inf, free_workers=1).batch:
                    self._fail(plan, Unavailable(_SHUT_DOWN))
            self._changed.notify_all()
        for worker in self._workers:
            if worker.thread is not None:
                worker.thread.join()
        if not stopped_before:
            self.reuse.log()

    async def encode(
        self, model: str, rows: Rows, *, flow: Hashable, deadline_s: float = math.inf
    ) -> Encoded:
        """Runs n encoded texts.

        Args:
            model: Name of the model.
            rows: Token ids of each text, at least one text.
            flow: Texts of one flow share its place in the queue.
            deadline_s: When they stop being worth running, on the scheduler's clock.

        Raises:
            DeadlineExpired: The deadline passed before all of it ran.
            Overloaded: So much waits that it cannot all run by the deadline.
            InferenceFailed: The model failed on it.
            Unavailable: The scheduler was stopped.
        """
        lane = self._lanes[model]
        job = _new_job(lane, len(rows))
        items = [
            # An empty encoding is padded to one token.
            Item(max(1, len(row)), flow, deadline_s, Share(job, indices, row), key)
            for key, indices in equal_texts(rows).items()
            for row in [rows[indices[0]]]
        ]
        with self._changed:
            if self._stopping:
                raise Unavailable(_SHUT_DOWN)
            self._admit(lane, job, items)
        if not job.items:
            return Encoded(job.vectors, 0, 0)
        try:
            return await job.future
        finally:
            if not job.settled:
                with self._changed:
                    job.settled = True
                    job.drop()

    def check_turn(
        self, model: str, lengths: Sequence[int], *, flow: Hashable, deadline_s: float
    ) -> None:
        """Refuses texts whose turn would probably come too late, before they are tokenized.

        Where there is a cache it may hold them, and what could never be in time has an error of its
        own: that is for `encode` to find out.

        Args:
            model: Name of the model.
            lengths: Tokens that each text probably has, at least one text.
            flow: As for `encode`.
            deadline_s: The same.

        Raises:
            Overloaded: Too much waits.
        """
        if self._cache_bytes:
            return
        lane = self._lanes[model]
        with self._changed:
            remaining_s = deadline_s - self._clock_s()
            if lane.is_possible(sum(lengths), remaining_s=remaining_s):
                lane.check_turn(lengths, flow=flow, remaining_s=remaining_s)

    def _admit(self, lane: Lane, job: Job, items: list[Item]) -> None:
        """Answers texts from the cache, joins running ones, lets the rest wait. Needs the lock."""
        wanted = self._reuse.answer(items, space=lane.space)
        waits = [item for item in wanted if item.key not in lane.running]
        self._check_deadline(lane, waits)
        job.items, job.remaining = wanted, len(wanted)
        if len(waits) < len(wanted):
            self._join(lane, job, wanted)
        lane.queue.add(waits)
        self._changed.notify(len(waits))

    def _check_deadline(self, lane: Lane, items: list[Item]) -> None:
        if items and (deadline_s := items[0].deadline_s) < math.inf:
            lengths = [item.length for item in items]
            remaining_s = deadline_s - self._clock_s()
            lane.check_possible(sum(lengths), remaining_s=remaining_s)
            lane.check_turn(lengths, flow=items[0].flow, remaining_s=remaining_s)

    @staticmethod
    def _join(lane: Lane, job: Job, items: list[Item]) -> None:
        for item in items:
            if (running := lane.running.get(item.key)) is not None:
                running.joined.append(item)
                job.start(time.monotonic_ns())

    def _live(self, worker: Worker) -> None:
        """All that a worker does. Its death is noted for the watchdog."""
        try:
            while (taken := self._take()) is not None:
                self._work(worker, *taken)
        except BaseException as exc:
            logger.critical("worker %s died", worker.name, exc_info=exc)
            worker.fault = f"worker {worker.name} died of {type(exc).__name__}"

    def _work(self, worker: Worker, lane: Lane, batch: list[Item]) -> None:
        started_s = self._clock_s()
        try:
            self._run(worker, lane, batch)
        except BaseException:
            self._give_up(lane, batch)
            raise
        finally:
            worker.run = None
        forget(batch)
        busy_s = self._clock_s() - started_s
        tokens = sum(item.length for item in batch)
        lane.record(tokens=tokens, busy_s=busy_s)
        self.throughput.record(tokens=tokens, busy_s=busy_s, workers=lane.workers)

    def _take(self) -> tuple[Lane, list[Item]] | None:
        """Waits for work; None when the scheduler stops."""
        with self._changed:
            self._idle_workers += 1
            try:
                while not self._stopping:
                    # Models take turns: the one that ran longest ago is asked first.
                    for lane in [lane for lane in self._turns if lane.queue.waiting_items]:
                        plan = lane.queue.next_batch(
                            now_s=self._clock_s(),
                            free_workers=self._idle_workers,
                            speed=lane.speed,
                        )
                        self._fail(plan.expired, DeadlineExpired(_EXPIRED))
                        if plan.batch:
                            lane.begin(plan.batch)
                            self._turns.remove(lane)
                            self._turns.append(lane)
                            return lane, plan.batch
                    self._changed.wait()
                return None
            finally:
                self._idle_workers -= 1

    def _run(self, worker: Worker, lane: Lane, batch: list[Item]) -> None:
        """Runs a batch; if it fails, each text apart, so that one bad text harms no other."""
        worker.run = Run(sum(item.length for item in batch), (lane, batch))
        try:
            vectors = lane.encode(batch)
        except Exception as exc:
            if len(batch) > 1:
                logger.warning("a batch of %d texts failed, running each apart", len(batch))
                self._run_apart(worker, lane, batch)
                return
            logger.exception("inference failed on a text of %d tokens", batch[0].length)
            error = InferenceFailed("the model failed on this text; it is not retried")
            error.__cause__ = exc
            with self._changed:
                lane.end(batch[0])
                self._fail(batch, error)
            lane.probe()
            return
        self._deliver(lane, batch, vectors)

    def _run_apart(self, worker: Worker, lane: Lane, batch: list[Item]) -> None:
        for item in batch:
            with self._changed:
                if not (wanted := is_wanted(item)):
                    lane.end(item)
            if wanted:
                self._run(worker, lane, [item])

    def _deliver(self, lane: Lane, batch: list[Item], vectors: npt.NDArray[np.float32]) -> None:
        shares = [share_of(item) for item in batch]
        for share, vector in zip(shares, vectors, strict=True):
            share.fill(vector)
        with self._changed:
            now_ns = time.monotonic_ns()  # after the start of any that has just joined
            self._reuse.record(batch, vectors, space=lane.space)
            for item, share, vector in zip(batch, shares, vectors, strict=True):
                share.complete(now_ns)
                for joined in item.joined:
                    share_of(joined).fill(vector)
                    share_of(joined).complete(now_ns)
                lane.end(item)

    def give_up(self, run: Run) -> None:
        """Fails the callers of a run that will never end. Callable from any thread."""
        self._give_up(*run.work)

    def _give_up(self, lane: Lane, batch: list[Item]) -> None:
        """Fails what still runs of a batch; later equal texts do not join it."""
        with self._changed:
            for item in batch:
                if lane.is_running(item):
                    lane.end(item)
                    self._fail_jobs([item], InferenceFailed(_GIVEN_UP))

    def _fail(self, items: list[Item], error: RequestError) -> None:
        """Fails the jobs of these items and drops what else of them waits. Needs the lock."""
        self._fail_jobs(items, error)
        forget(items)

    @staticmethod
    def _fail_jobs(items: list[Item], error: RequestError) -> None:
        for job in {share_of(served).job for item in items for served in served_by(item)}:
            if not job.settled:
                job.finish(error)
                job.drop()


def _new_job(lane: Lane, count: int) -> Job:
    loop = asyncio.get_running_loop()
    vectors = np.empty((count, lane.encoder.dim), np.float32)
    return Job(lane.queue, loop, loop.create_future(), vectors, time.monotonic_ns())
