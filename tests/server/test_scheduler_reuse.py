"""The scheduler with equal texts: joined while they run or wait, cached afterwards."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np
import pytest

from tests.server.encoders import (
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
from unitvec_server.errors import DeadlineExpired, InferenceFailed, Unavailable

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")
CACHE_BYTES = 2**20


class Numbered(Held):
    """Puts the number of the run into its vectors, to tell which run gave one."""

    def encode(self, rows: Rows) -> np.ndarray:
        vectors = super().encode(rows)
        vectors[:, 3] = len(self.batches)
        return vectors


def firsts(encoded: Encoded) -> list[float]:
    """What tells the texts of `encoders.text` apart."""
    return [float(first) for first in encoded.vectors[:, 0]]


class TestInFlight:
    """Equal texts run once."""

    async def test_within_a_request(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Sums())
        request = submit(scheduler, [text(1), text(2), text(1), text(1), text(2)])
        assert firsts(await request) == [1, 2, 1, 1, 2]
        assert sorted(first for batch in encoder.batches for first in batch) == [1, 2]
        assert (scheduler.reuse.encoded, scheduler.reuse.joined) == (2, 3)

    async def test_in_the_moment_in_which_it_ends(self, make: Callable[..., Scheduler]) -> None:
        """Times are never negative: gRPC could not send them."""
        scheduler = make(encoder := Numbered())
        first = submit(scheduler, [text(1)])
        await encoder.has_started()
        (item,) = scheduler.queues["m0"].running.values()
        vectors = item.payload.request.vectors
        vectors[:] = -1
        with scheduler._changed:
            encoder.released.release()
            while vectors[0, 3] == -1:
                pass  # until the worker has the vector and waits for the lock
            late = submit(scheduler, [text(1)])
            await queued()
        for request in (first, late):
            assert (await request).infer_ns >= 0
        assert len(encoder.batches) == 1

    async def test_with_a_running_one(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Numbered())
        first = submit(scheduler, [text(1), text(2)])
        await encoder.has_started()
        late = [submit(scheduler, [text(1), text(1)]) for _ in range(3)]
        mixed = submit(scheduler, [text(1), text(3)])
        await queued()
        assert waiting(scheduler) == 1
        encoder.released.release()
        for request in late:
            np.testing.assert_array_equal((await request).vectors, [[1, 1, 1, 1]] * 2)
        encoder.released.release()
        assert (await mixed).vectors[:, 3].tolist() == [1, 2]
        assert (await mixed).queue_ns >= 0
        await first
        assert encoder.batches == [[1, 2], [3]]
        assert scheduler.reuse.joined == 7

    async def test_waiting_ones_leave_with_the_first(self, make: Callable[..., Scheduler]) -> None:
        """A lone caller does not take the place that its text has in a long request."""
        scheduler = make(encoder := Numbered(), max_batch_tokens=1)
        blocker = submit(scheduler, [text(1)])
        await encoder.has_started()
        bulk = submit(scheduler, texts(100, 50))
        await queued()
        lone = submit(scheduler, [text(149)])
        await queued()
        assert waiting(scheduler) == 51
        encoder.released.release(4)
        assert (await lone).vectors[0, 0] == 149
        # The first of the bulk had its turn before; no more than one batch of its own.
        assert [149] in encoder.batches[1:4]
        encoder.released.release(100)
        assert firsts(await bulk) == list(range(100, 150))
        await blocker
        assert encoder.batches.count([149]) == 1
        assert waiting(scheduler) == 0

    async def test_not_of_another_model(self, make: Callable[..., Scheduler]) -> None:
        class Negative(Sums):
            def encode(self, rows: Rows) -> np.ndarray:
                return -super().encode(rows)

        scheduler = make(Sums(), Negative(), cache_bytes=CACHE_BYTES)
        for _ in range(2):
            requests = [submit(scheduler, [text(5)], model=f"m{n % 2}") for n in range(20)]
            results = await asyncio.gather(*requests)
            assert [firsts(r) for r in results] == [[-5.0 if n % 2 else 5.0] for n in range(20)]

    async def test_throughput_counts_what_ran(self, make: Callable[..., Scheduler]) -> None:
        times = iter(range(1_000_000))
        scheduler = make(Sums(), clock_s=lambda: float(next(times)))
        await submit(scheduler, [text(1, length=10)] * 5)
        await submit(scheduler, [text(1, length=10)] * 5)
        assert scheduler.tokens_per_s == pytest.approx(10)


class TestLeaving:
    """Who leaves harms no one that waits for the same text."""

    @pytest.mark.parametrize("leaves", [0, 1, 2])
    async def test_a_waiting_one(self, make: Callable[..., Scheduler], leaves: int) -> None:
        scheduler = make(encoder := Held())
        blocker = submit(scheduler, [text(1)])
        await encoder.has_started()
        requests = [submit(scheduler, [text(2)]) for _ in range(3)]
        await queued()
        requests[leaves].cancel()
        await asyncio.wait([requests[leaves]])
        assert waiting(scheduler) == 2
        encoder.released.release(2)
        stay = [request for request in requests if request is not requests[leaves]]
        assert [firsts(result) for result in await asyncio.gather(*stay)] == [[2], [2]]
        await blocker
        assert encoder.batches == [[1], [2]]

    async def test_all_who_want_a_running_one(self, make: Callable[..., Scheduler]) -> None:
        """It finishes, and fills the cache."""
        scheduler = make(encoder := Held(), cache_bytes=CACHE_BYTES)
        requests = [submit(scheduler, [text(1)])]
        await encoder.has_started()
        requests.append(submit(scheduler, [text(1), text(1)]))
        await queued()
        for request in requests:
            request.cancel()
        await asyncio.wait(requests)
        late = submit(scheduler, [text(1)])
        await queued()
        late.cancel()
        await asyncio.wait([late])
        encoder.released.release(2)
        await submit(scheduler, [text(2)])
        assert firsts(await submit(scheduler, [text(1)])) == [1]
        assert encoder.batches == [[1], [2]]
        assert (scheduler.reuse.encoded, scheduler.reuse.joined) == (2, 0)

    async def test_expired_fails_alone(self, make: Callable[..., Scheduler]) -> None:
        now_s = 0.0
        scheduler = make(encoder := Held(), clock_s=lambda: now_s)
        blocker = submit(scheduler, [text(1)])
        await encoder.has_started()
        deadlines_s = [5.0, 50.0, 5.0, 50.0]
        requests = [
            submit(scheduler, [text(2)], deadline_s=deadline_s) for deadline_s in deadlines_s
        ]
        await queued()
        now_s = 10.0
        encoder.released.release(2)
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert [isinstance(result, DeadlineExpired) for result in results] == [
            deadline_s == 5.0 for deadline_s in deadlines_s
        ]
        await blocker
        assert encoder.batches == [[1], [2]]

    async def test_stop_fails_all_that_wait(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Held())
        running = submit(scheduler, [text(1)])
        await encoder.has_started()
        joins, waits = submit(scheduler, [text(1)]), [submit(scheduler, [text(2)]) for _ in "abc"]
        await queued()
        stopping = asyncio.create_task(asyncio.to_thread(scheduler.stop))
        for request in waits:
            with pytest.raises(Unavailable):
                await request
        encoder.released.release()
        await stopping
        assert [firsts(result) for result in await asyncio.gather(running, joins)] == [[1], [1]]


class TestFailures:
    """A failed run fails all that share it, and nothing is kept of it."""

    async def test_fails_all_that_share_it(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Held(), cache_bytes=CACHE_BYTES)
        first = submit(scheduler, [text(POISON), text(2)])
        await encoder.has_started()
        joined = submit(scheduler, [text(POISON), text(9)])
        shares_the_good_one = submit(scheduler, [text(2)])
        await queued()
        encoder.released.release(100)
        for request in (first, joined):
            with pytest.raises(InferenceFailed):
                await request
        # The request that brought it has failed, but another joined: it is still run apart.
        assert firsts(await shares_the_good_one) == [2]
        with pytest.raises(InferenceFailed):
            await submit(scheduler, [text(POISON)])
        assert encoder.batches.count([POISON]) == 2
        assert scheduler.reuse.encoded == 1
        assert not any(queue.running for queue in scheduler._turns)

    async def test_next_one_is_run_anew(self, make: Callable[..., Scheduler]) -> None:
        class Moody(Sums):
            def encode(self, rows: Rows) -> np.ndarray:
                vectors = super().encode(rows)
                if len(self.batches) == 1:
                    raise OSError("once")
                return vectors

        scheduler = make(Moody(), cache_bytes=CACHE_BYTES)
        with pytest.raises(InferenceFailed):
            await submit(scheduler, [text(1)])
        assert firsts(await submit(scheduler, [text(1)])) == [1]


class TestCache:
    """Texts seen lately."""

    async def test_serves_the_vectors_of_the_run(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Numbered(), cache_bytes=CACHE_BYTES)
        encoder.released.release(100)
        await submit(scheduler, [text(1), text(2)])
        again = await submit(scheduler, [text(2), text(3), text(1), text(2)])
        assert again.vectors[:, 3].tolist() == [1, 2, 1, 1]
        assert firsts(again) == [2, 3, 1, 2]
        assert encoder.batches == [[1, 2], [3]]
        counts = scheduler.reuse
        assert (counts.encoded, counts.joined, counts.hits, counts.misses) == (3, 0, 3, 3)
        assert 0 < counts.held_bytes <= CACHE_BYTES

    async def test_callers_cannot_change_it(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(Sums(), cache_bytes=CACHE_BYTES)
        for _ in range(3):
            encoded = await submit(scheduler, [text(1), text(1)])
            assert firsts(encoded) == [1, 1]
            encoded.vectors[:] = 99

    async def test_answers_while_all_workers_are_busy(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Held(), cache_bytes=CACHE_BYTES)
        encoder.released.release()
        await submit(scheduler, [text(1)])
        await encoder.has_started()
        busy = submit(scheduler, [text(2)])
        await encoder.has_started()
        encoded = await submit(scheduler, [text(1)])
        assert (firsts(encoded), encoded.queue_ns, encoded.infer_ns) == ([1], 0, 0)
        encoder.released.release()
        await busy

    async def test_not_after_the_stop(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(Sums(), cache_bytes=CACHE_BYTES)
        await submit(scheduler, [text(1)])
        scheduler.stop()
        with pytest.raises(Unavailable):
            await submit(scheduler, [text(1)])

    async def test_off_by_default(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Sums())
        for _ in range(3):
            await submit(scheduler, [text(1)])
        assert encoder.batches == [[1]] * 3
        assert (scheduler.reuse.hits, scheduler.reuse.misses, scheduler.reuse.held_bytes) == (
            0,
        ) * 3


async def test_stop_logs_the_counts_once(
    make: Callable[..., Scheduler], caplog: pytest.LogCaptureFixture
) -> None:
    """And an idle scheduler none."""
    idle, used = make(Sums()), make(Sums(), cache_bytes=CACHE_BYTES)
    await submit(used, [text(1), text(1)])
    await submit(used, [text(1)])
    with caplog.at_level(logging.INFO):
        for scheduler in (idle, used, used):
            scheduler.stop()
    lines = [message for message in caplog.messages if "encoded" in message]
    assert len(lines) == 1
    assert lines[0].startswith("1 texts encoded, 1 joined an equal text in flight; cache: 1 hits")
