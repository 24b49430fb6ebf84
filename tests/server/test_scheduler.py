"""The scheduler: results, deadlines, several models, the end."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.server.encoders import (
    DIM,
    Held,
    Sums,
    expected,
    queued,
    submit,
    text,
    texts,
    waiting,
)
from unitvec_server.engine.scheduler import Encoded, Rows, Scheduler
from unitvec_server.engine.watchdog import Run
from unitvec_server.errors import DeadlineExpired, Unavailable

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


class TestResults:
    """Everyone gets their own rows."""

    @pytest.mark.parametrize("workers", [1, 4])
    async def test_hundreds_of_requests_of_mixed_sizes(
        self, make: Callable[..., Scheduler], workers: int
    ) -> None:
        scheduler = make(Sums(), workers=workers)
        random_ = random.Random(workers)

        def rows() -> list[np.ndarray]:
            return [
                np.array(random_.choices(range(100, 10_000), k=random_.randint(1, 80)))
                for _ in range(random_.choice([1, 1, 2, 5, 60]))
            ]

        requests = [rows() for _ in range(300)]
        results = await asyncio.gather(*(submit(scheduler, request) for request in requests))
        for request, encoded in zip(requests, results, strict=True):
            assert encoded.vectors.dtype == np.float32
            np.testing.assert_array_equal(encoded.vectors, [expected(row) for row in request])
            assert encoded.queue_ns >= 0
            assert encoded.infer_ns >= 0

    async def test_requests_are_batched_together(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Held())
        first = submit(scheduler, [text(1)])
        await encoder.has_started()
        rest = [submit(scheduler, [text(n)]) for n in range(100, 110)]
        await queued()
        encoder.released.release(2)
        await asyncio.gather(first, *rest)
        assert encoder.batches == [[1], list(range(100, 110))]

    async def test_one_request_uses_all_workers(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(encoder := Held(), workers=3)
        while scheduler._idle_workers < 3:  # noqa: ASYNC110 - worker threads, not the loop, count
            await asyncio.sleep(0)
        request = submit(scheduler, [text(n, length=7) for n in range(100, 109)])
        for _ in range(3):
            await encoder.has_started()
        encoder.released.release(3)
        await request
        assert sorted(map(len, encoder.batches)) == [3, 3, 3]

    async def test_empty_encoding_counts_as_the_token_it_is_padded_to(
        self, make: Callable[..., Scheduler]
    ) -> None:
        class Lengths(Sums):
            def encode(self, rows: Rows) -> np.ndarray:
                self.batches.append([len(row) for row in rows])
                return np.zeros((len(rows), DIM), np.float32)

        scheduler = make(encoder := Lengths(), max_batch_tokens=8)
        encoded = await submit(scheduler, [np.empty(0, np.int64)] * 20)
        assert encoded.vectors.shape == (20, DIM)
        assert max(map(len, encoder.batches)) <= 8

    async def test_throughput_is_measured(self, make: Callable[..., Scheduler]) -> None:
        times = iter(range(1_000_000))
        scheduler = make(Sums(), clock_s=lambda: float(next(times)))
        await submit(scheduler, [text(1, length=10)])
        await submit(scheduler, [text(1, length=10)])  # the first is recorded by now
        assert scheduler.tokens_per_s == pytest.approx(10)

    async def test_the_slowest_model_that_has_run_tells_how_long_work_takes(
        self, make: Callable[..., Scheduler]
    ) -> None:
        """For delays that callers are told. A run itself is held against its own model."""
        scheduler = make(Sums(), Sums(), Sums(), workers=2)
        assert (scheduler.tokens_per_s, scheduler.seconds_for(100)) == (0, 0)
        runs = [Run(30, (queue, [])) for queue in scheduler.queues.values()]
        scheduler.queues["m0"].speed.record(tokens=100, busy_s=2.0)
        scheduler.queues["m1"].speed.record(tokens=100, busy_s=20.0)
        assert scheduler.tokens_per_s == 10
        assert scheduler.seconds_for(100) == 10
        assert [scheduler.expected_s(run) for run in runs] == [0.6, 6.0, 0.0]

    async def test_workers_side_by_side_lose_no_batch(self, make: Callable[..., Scheduler]) -> None:
        """Each is counted once, and recorded with the speed once, when it ends."""
        scheduler = make(encoder := Sums(), workers=4, max_batch_tokens=1)
        queue = scheduler.queues["m0"]
        recorded: list[int] = []
        record = queue.speed.record

        def note(*, tokens: int, busy_s: float) -> None:
            assert scheduler._changed._is_owned()  # type: ignore[attr-defined]
            recorded.append(tokens)
            record(tokens=tokens, busy_s=busy_s)

        vars(queue.speed)["record"] = note
        await asyncio.gather(*(submit(scheduler, texts(10 * n + 100, 10)) for n in range(100)))
        await asyncio.to_thread(scheduler.stop)
        assert len(encoder.batches) == 1000
        for histogram in (queue.batches.seconds, queue.batches.texts, queue.batches.tokens):
            assert sum(histogram.read().counts) == 1000
        assert recorded == [1] * 1000


class TestDeadlines:
    """Work that came too late."""

    async def test_expired_never_runs(self, make: Callable[..., Scheduler]) -> None:
        now_s = 0.0
        scheduler = make(encoder := Held(), clock_s=lambda: now_s)
        first = submit(scheduler, [text(1)])
        await encoder.has_started()
        late = [submit(scheduler, texts(100, 50), deadline_s=5.0) for _ in range(3)]
        in_time = submit(scheduler, [text(3)], deadline_s=5000.0)
        await queued()
        now_s = 10.0
        encoder.released.release(2)
        await first
        await in_time
        for request in late:
            with pytest.raises(DeadlineExpired):
                await request
        assert encoder.batches == [[1], [3]]
        assert waiting(scheduler) == 0


class TestModels:
    """Several models on the same workers."""

    async def test_take_turns(self, make: Callable[..., Scheduler]) -> None:
        encoders = [Held(), Held(), Held()]
        order: list[str] = []
        scheduler = make(*encoders, max_batch_tokens=1)
        blocker = submit(scheduler, [text(1)])
        await encoders[0].has_started()
        requests = [submit(scheduler, texts(100, 6), model=name) for name in ("m0", "m2")]
        await queued()
        encoders[0].released.release()
        await blocker
        for _ in range(12):
            order.append(await first_of(encoders))
            encoders[int(order[-1][1])].released.release()
        await asyncio.gather(*requests)
        assert order in (["m0", "m2"] * 6, ["m2", "m0"] * 6)

    async def test_each_model_has_its_own_results(self, make: Callable[..., Scheduler]) -> None:
        class Negative(Sums):
            def encode(self, rows: Rows) -> np.ndarray:
                return -super().encode(rows)

        scheduler = make(Sums(), Negative(), workers=3)
        requests = [submit(scheduler, [text(n + 100)], model=f"m{n % 2}") for n in range(200)]
        firsts = [encoded.vectors[0, 0] for encoded in await asyncio.gather(*requests)]
        assert firsts == [-(n + 100) if n % 2 else n + 100 for n in range(200)]


async def first_of(encoders: list[Held]) -> str:
    """Which of the encoders starts a batch next."""
    while True:
        for index, encoder in enumerate(encoders):
            if encoder.started.acquire(blocking=False):
                return f"m{index}"
        await asyncio.sleep(0)


class TestStop:
    """The end."""

    async def test_fails_what_waits_and_finishes_what_runs(
        self, make: Callable[..., Scheduler]
    ) -> None:
        scheduler = make(encoder := Held())
        running = submit(scheduler, [text(1)])
        await encoder.has_started()
        waits = [submit(scheduler, texts(100, 10)) for _ in range(20)]
        await queued()
        stopping = asyncio.create_task(asyncio.to_thread(scheduler.stop))
        for request in waits:
            with pytest.raises(Unavailable):
                await request
        assert not stopping.done()
        encoder.released.release()
        await stopping
        assert (await running).vectors[0, 0] == 1
        assert encoder.batches == [[1]]

    async def test_twice(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(Sums(), workers=2)
        scheduler.stop()
        scheduler.stop()

    async def test_encode_afterwards(self, make: Callable[..., Scheduler]) -> None:
        scheduler = make(Sums())
        scheduler.stop()
        with pytest.raises(Unavailable, match="shutting down"):
            await submit(scheduler, [text(1)])
        assert waiting(scheduler) == 0

    async def test_while_requests_pour_in(self, make: Callable[..., Scheduler]) -> None:
        """Each is answered or refused; none hangs."""
        scheduler = make(Sums(), workers=4)
        requests = [submit(scheduler, texts(3 * n + 100, 3)) for n in range(300)]
        for _ in range(3):
            await asyncio.sleep(0)
        with ThreadPoolExecutor() as executor:
            stopping = asyncio.get_running_loop().run_in_executor(executor, scheduler.stop)
            requests += [submit(scheduler, texts(3 * n + 1000, 3)) for n in range(300)]
            async with asyncio.timeout(60):
                results = await asyncio.gather(*requests, return_exceptions=True)
                await stopping
        for index, result in enumerate(results):
            if isinstance(result, Encoded):
                assert result.vectors[:, 0].tolist() == [3 * index + 100 + row for row in range(3)]
            else:
                assert isinstance(result, Unavailable)
