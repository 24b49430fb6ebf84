"""The scheduler when texts, models or callers fail."""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from tests.server.encoders import (
    DIM,
    NAN,
    POISON,
    Held,
    Sums,
    queued,
    submit,
    text,
    texts,
    waiting,
)
from unitvec_server.engine.scheduler import Encoded, Rows, Scheduler
from unitvec_server.errors import DeadlineExpired, InferenceFailed, Overloaded

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


class TestFailures:
    """One bad text harms nobody else, and no failure ends a worker."""

    @pytest.mark.parametrize("bad", [POISON, NAN])
    async def test_bad_text_fails_alone(
        self, make: Callable[..., Scheduler], bad: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        scheduler = make(encoder := Held())
        first = submit(scheduler, [text(1)])
        await encoder.has_started()
        good, poisoned = submit(scheduler, [text(2), text(3)]), submit(scheduler, [text(bad)])
        mixed = submit(scheduler, [text(4), text(bad), text(5)])
        await queued()
        encoder.released.release(100)
        await first
        np.testing.assert_array_equal((await good).vectors, [[2, 2, 1, 2], [3, 3, 1, 3]])
        for request in (poisoned, mixed):
            with pytest.raises(InferenceFailed, match="failed on this text"):
                await request
        np.testing.assert_array_equal((await submit(scheduler, [text(6)])).vectors[0, 0], 6)
        assert "not finite" in caplog.text or "poisoned" in caplog.text

    @pytest.mark.parametrize("bad", [POISON, NAN])
    async def test_partial_request_has_the_vectors_of_its_other_texts(
        self, make: Callable[..., Scheduler], bad: int
    ) -> None:
        """Whoever shares the run of the bad text is answered in their own way; nothing runs twice.

        Only the run that failed as a whole is done again, text by text.
        """
        scheduler = make(encoder := Held())
        first = submit(scheduler, [text(1)])
        await encoder.has_started()
        rows = [text(2), text(bad), text(3), text(bad)]
        partly = submit(scheduler, rows, is_partial=True)
        whole = submit(scheduler, [text(bad)])
        other = submit(scheduler, [text(bad), text(4)], is_partial=True)
        await queued()
        encoder.released.release(100)
        await first
        encoded = await partly
        assert sorted(encoded.failures) == [1, 3]
        np.testing.assert_array_equal(encoded.vectors[[0, 2]], [[2, 2, 1, 2], [3, 3, 1, 3]])
        assert np.isnan(encoded.vectors[[1, 3]]).all()
        with pytest.raises(InferenceFailed):
            await whole
        encoded = await other
        assert (list(encoded.failures), encoded.vectors[1, 0]) == ([0], 4)
        alone = [batch[0] for batch in encoder.batches[1:] if len(batch) == 1]
        assert sorted(alone) == sorted({2, 3, 4, bad})

    async def test_partial_request_of_bad_texts_alone(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(Sums())
        encoded = await submit(scheduler, [text(POISON), text(NAN)], is_partial=True)
        assert sorted(encoded.failures) == [0, 1]
        assert waiting(scheduler) == 0

    async def test_cause_is_kept_for_the_log_and_not_told(
        self, make: Callable[..., Scheduler]
    ) -> None:
        with pytest.raises(InferenceFailed) as caught:
            await submit(make(Sums()), [text(POISON)])
        assert isinstance(caught.value.__cause__, ValueError)
        assert "poisoned" not in str(caught.value)

    async def test_request_of_many_bad_texts_fails_once_and_frees_the_queue(
        self, make: Callable[..., Scheduler]
    ) -> None:
        scheduler = make(encoder := Sums(), workers=2)
        with pytest.raises(InferenceFailed):
            await submit(scheduler, [np.array([POISON, n]) for n in range(1000)])
        assert waiting(scheduler) == 0
        runs = sum(map(len, encoder.batches))
        await submit(scheduler, [text(1)])
        assert runs <= 4 * 64  # what was running when the first failed, together and apart

    async def test_rest_of_a_failed_request_is_not_run_apart(
        self, make: Callable[..., Scheduler]
    ) -> None:
        scheduler = make(encoder := Sums())
        with pytest.raises(InferenceFailed):
            await submit(scheduler, [text(POISON), text(1), text(2)])
        await submit(scheduler, [text(3)])
        assert [1] not in encoder.batches

    @pytest.mark.parametrize("shape", [(3, DIM), (2, DIM + 1), (2,), (2, 3, DIM)])
    async def test_result_of_a_wrong_shape(
        self, make: Callable[..., Scheduler], shape: tuple[int, ...]
    ) -> None:
        """It fails the request; the worker lives on."""

        class Misshapen(Sums):
            def encode(self, rows: Rows) -> np.ndarray:
                return super().encode(rows) if 100 in rows[0] else np.zeros(shape, np.float32)

        scheduler = make(Misshapen())
        async with asyncio.timeout(30):
            with pytest.raises(InferenceFailed):
                await submit(scheduler, [text(1, length=9), text(2, length=9)])
            await submit(scheduler, [text(100)])

    async def test_loop_of_the_caller_is_gone(self, make: Callable[..., Scheduler]) -> None:
        """A worker outlives the loop that it has a result for."""
        scheduler = make(encoder := Held())

        def caller() -> None:
            loop = asyncio.new_event_loop()
            task = loop.create_task(
                scheduler.encode(scheduler.queues["m0"], [text(1)], flow="gone")
            )
            loop.run_until_complete(queued())
            encoder.started.acquire()
            loop.close()
            task._log_destroy_pending = False  # type: ignore[attr-defined]

        await asyncio.to_thread(caller)
        encoder.released.release(2)
        async with asyncio.timeout(30):
            await submit(scheduler, [text(2)])


class Killed(BaseException):
    """Nothing that a worker survives."""


class Deadly(Held):
    """Held, and ends its worker on POISON."""

    def encode(self, rows: Rows) -> np.ndarray:
        try:
            return super().encode(rows)
        except ValueError:
            raise Killed from None


class TestWorkersThatEnd:
    """What becomes of the callers, and what a watchdog sees."""

    async def test_a_worker_that_dies_takes_only_its_batch_along(
        self, make: Callable[..., Scheduler]
    ) -> None:
        """Those who joined its texts are told as well; later equal texts run anew."""
        scheduler = make(encoder := Deadly(), workers=2)
        other = submit(scheduler, [text(9)])  # so that one worker alone takes both texts
        await encoder.has_started()
        doomed = submit(scheduler, [text(POISON), text(1)])
        await encoder.has_started()
        joined = submit(scheduler, [text(1), text(2)])
        await queued()
        encoder.released.release(100)
        for request in (doomed, joined):
            with pytest.raises(InferenceFailed, match="worker died"):
                await request
        async with asyncio.timeout(30):
            await other
            again = await submit(scheduler, [text(1), text(2)])
        assert again.vectors[:, 0].tolist() == [1, 2]
        async with asyncio.timeout(30):  # the callers are told first
            while not any(worker.is_dead for worker in scheduler.workers):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        (dead,) = [worker for worker in scheduler.workers if worker.is_dead]
        assert dead.fault.endswith("died of Killed")
        assert dead.run is None
        with scheduler._changed:  # the callers are told first, here too
            assert scheduler.queues["m0"].running == {}

    async def test_a_run_that_is_given_up(self, make: Callable[..., Scheduler]) -> None:
        """Its callers need not wait, later equal texts do not join, and it may end after all."""
        scheduler = make(encoder := Held(), workers=2)
        hanging = submit(scheduler, [text(1)])
        await encoder.has_started()
        (run,) = [worker.run for worker in scheduler.workers if worker.run is not None]
        assert run.tokens == 1
        scheduler.give_up(run)
        with pytest.raises(InferenceFailed, match="run of this text hung"):
            await hanging
        again = submit(scheduler, [text(1)])
        await encoder.has_started()
        encoder.released.release(100)
        assert (await again).vectors[:, 0].tolist() == [1]
        assert (await submit(scheduler, [text(3)])).vectors[:, 0].tolist() == [3]
        assert not any(worker.is_dead for worker in scheduler.workers)

    async def test_a_model_that_fails_on_everything_ends_its_worker(
        self, make: Callable[..., Scheduler]
    ) -> None:
        class Broken(Sums):
            def encode(self, rows: Rows) -> np.ndarray:
                raise RuntimeError("device lost")

        scheduler = make(Broken())
        for first in (1, 2, 3):
            with pytest.raises(InferenceFailed, match="model failed"):
                await submit(scheduler, [text(first)])
        (worker,) = scheduler.workers
        assert worker.thread is not None
        await asyncio.to_thread(worker.thread.join, 30)
        assert worker.fault.endswith("died of EncoderBroken")

    async def test_runs_are_seen_one_by_one(self, make: Callable[..., Scheduler]) -> None:
        """Also when a batch is run apart: many short runs are not a long one."""
        scheduler = make(encoder := Held())
        first = submit(scheduler, [text(9)])
        await encoder.has_started()
        requests = [submit(scheduler, [text(n)]) for n in (1, POISON, 2)]
        await queued()
        seen = []
        for _ in range(4):
            encoder.released.release()
            await encoder.has_started()
            seen.append(scheduler.workers[0].run)
        encoder.released.release(100)
        await asyncio.gather(first, *requests, return_exceptions=True)
        assert [run.tokens for run in seen if run] == [3, 1, 1, 1]
        assert len(set(map(id, seen))) == 4


class TestTooLate:
    """Deadlines that cannot be met."""

    async def test_refused_before_it_waits(self, make: Callable[..., Scheduler]) -> None:
        """Nothing of it is left, neither in the queue nor in running texts."""
        now_s = 0.0
        scheduler = make(encoder := Held(), clock_s=lambda: now_s)
        first = submit(scheduler, [text(1, length=10)])
        await encoder.has_started()
        now_s = 1.0  # ten tokens a second
        encoder.released.release()
        await first
        second = submit(scheduler, [text(2, length=10)])
        await encoder.has_started()  # and so the first run is recorded
        ahead = [submit(scheduler, [text(n, length=10)]) for n in range(100, 110)]
        await queued()
        with pytest.raises(Overloaded):
            await submit(scheduler, [text(2, length=10), text(3, length=10)], deadline_s=5.0)
        with pytest.raises(DeadlineExpired) as caught:
            await submit(scheduler, [text(4, length=100)], deadline_s=5.0)
        assert caught.value.reason == "DEADLINE_TOO_SHORT"
        joins = submit(scheduler, [text(2, length=10)], deadline_s=1.1)  # which runs already
        await queued()
        assert waiting(scheduler) == 10
        encoder.released.release(100)
        await asyncio.gather(second, joins, *ahead)


class TestCancellation:
    """Callers who leave."""

    async def test_frees_the_queue(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Held())
        first = submit(scheduler, [text(1)])
        await encoder.has_started()
        request = submit(scheduler, texts(100, 500))
        await queued()
        assert waiting(scheduler) == 500
        request.cancel()
        await asyncio.wait([request])
        assert waiting(scheduler) == 0
        encoder.released.release(2)
        await first
        await submit(scheduler, [text(3)])
        assert encoder.batches == [[1], [3]]

    async def test_while_running(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Held(), max_batch_tokens=2)
        request = submit(scheduler, [text(n) for n in (1, 2, 3, 4)])
        await encoder.has_started()
        request.cancel()
        await asyncio.wait([request])
        encoder.released.release(2)
        await submit(scheduler, [text(5)])
        assert encoder.batches == [[1, 2], [5]]

    async def test_at_any_moment(self, make: Callable[..., Scheduler]) -> None:
        """Cancelled, failed and finished at once: each ends once, the others are right."""
        scheduler = make(Sums(), workers=4)
        random_ = random.Random(3)
        for _ in range(60):
            firsts = [random_.choice([5, 6, 7, POISON]) for _ in range(20)]
            requests = [submit(scheduler, [text(f), text(f + 100)]) for f in firsts]
            for _ in range(random_.randint(0, 6)):
                await asyncio.sleep(0)
            for request in random_.sample(requests, 10):
                request.cancel()
            results = await asyncio.gather(*requests, return_exceptions=True)
            for first, result in zip(firsts, results, strict=True):
                if isinstance(result, Encoded):
                    assert result.vectors[:, 0].tolist() == [first, first + 100]
                elif not isinstance(result, asyncio.CancelledError):
                    assert isinstance(result, InferenceFailed)
                    assert first == POISON
        assert waiting(scheduler) == 0

    async def test_matrix_is_freed_with_its_request(self, make: Callable[..., Scheduler]) -> None:
        """Not when the garbage collector comes by, and not when later requests were served."""
        scheduler = make(encoder := Held())
        first = submit(scheduler, [text(1)])
        await encoder.has_started()
        rest = [submit(scheduler, [text(2)]) for _ in range(5)]
        stays = submit(scheduler, [text(3, length=50)])
        await queued()
        gc.disable()
        try:
            encoder.released.release(2)
            matrices = [
                weakref.ref(request.result().vectors) for request in await done(first, *rest)
            ]
            del first, rest
            await encoder.has_started()
            await encoder.has_started()
            assert [ref for ref in matrices if ref() is not None] == []
        finally:
            gc.enable()
        encoder.released.release(10)
        await stays


async def done(*requests: asyncio.Task[Encoded]) -> list[asyncio.Task[Encoded]]:
    """The requests, when all of them are finished."""
    await asyncio.wait(requests)
    return list(requests)
