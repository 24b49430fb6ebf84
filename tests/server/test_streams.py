"""The flow control of streams: how far is read, what is answered, what is left behind."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitvec_server.errors import Unavailable
from unitvec_server.rpc.flow_control import Memory, Pipeline, Room


class Source:
    """A stream of numbers that counts how far it was read."""

    def __init__(self, count: int, *, error: Exception | None = None, ends: bool = True) -> None:
        self.count = count
        self.read = 0
        self._error = error
        self._ends = ends

    async def requests(self) -> AsyncIterator[int]:
        """0, 1, 2 ... then the error, the end, or silence for ever."""
        for number in range(self.count):
            self.read += 1
            yield number
        if self._error is not None:
            raise self._error
        if not self._ends:
            await asyncio.get_running_loop().create_future()


class Works:
    """Answers each number when the test says so."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self._done: dict[int, asyncio.Event] = {}

    async def __call__(self, number: int) -> int:
        self.started.append(number)
        event = self._done.setdefault(number, asyncio.Event())
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return number

    def finish(self, *numbers: int) -> None:
        """Lets these be answered."""
        for number in numbers:
            self._done.setdefault(number, asyncio.Event()).set()


async def at_once(number: int) -> int:
    """Work that takes no time."""
    return number


async def spin(times: int = 30) -> None:
    """Lets every task that can run do so."""
    for _ in range(times):
        await asyncio.sleep(0)


def pipe(
    source: Source, work: Callable[[int], object], *, most: int = 3, in_order: bool = False
) -> Pipeline[int, int]:
    """A pipeline over a source."""
    return Pipeline(source.requests(), work, room=Room(most), in_order=in_order)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Every pipeline awaits what it started."""
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


class TestOrder:
    """Which reply comes when."""

    @pytest.mark.parametrize("in_order", [True, False])
    @pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 50])
    async def test_every_request_is_answered_once(self, count: int, in_order: bool) -> None:
        pipeline = pipe(Source(count), at_once, in_order=in_order)
        assert sorted([reply async for reply in pipeline.replies()]) == list(range(count))

    async def test_as_they_finish(self) -> None:
        works = Works()
        replies = pipe(Source(3), works).replies()
        for number in (2, 0, 1):
            works.finish(number)
            assert await anext(replies) == number
        assert [reply async for reply in replies] == []

    async def test_in_order_though_they_finish_otherwise(self) -> None:
        works = Works()
        pipeline = pipe(Source(3), works, in_order=True)
        collected = asyncio.create_task(collect(pipeline))
        for number in (2, 1, 0):
            await spin()
            works.finish(number)
        assert await collected == [0, 1, 2]


async def collect(pipeline: Pipeline[int, int]) -> list[int]:
    """All replies."""
    return [reply async for reply in pipeline.replies()]


IDLE_S = 0.01


class TestSilence:
    """Streams over which nothing comes."""

    @pytest.mark.parametrize("count", [0, 1, 5])
    async def test_ends_after_all_replies(self, count: int) -> None:
        source = Source(count, ends=False)
        replies = quiet(source, at_once).replies()
        assert {await anext(replies) for _ in range(count)} == set(range(count))
        with pytest.raises(Unavailable, match="open another") as caught:
            await anext(replies)
        assert caught.value.reason == "STREAM_IDLE"

    async def test_work_is_no_silence(self) -> None:
        works = Works()
        replies = quiet(Source(1, ends=False), works).replies()
        reply = asyncio.ensure_future(anext(replies))
        await asyncio.wait({reply}, timeout=20 * IDLE_S)
        works.finish(0)
        assert await reply == 0
        with pytest.raises(Unavailable):
            await anext(replies)

    async def test_replies_that_nobody_takes_are_no_silence(self) -> None:
        replies = quiet(Source(2), at_once).replies()
        first = await anext(replies)
        nothing = asyncio.get_running_loop().create_future()
        await asyncio.wait({nothing}, timeout=20 * IDLE_S)
        assert {first} | {reply async for reply in replies} == {0, 1}


def quiet(source: Source, work: Callable[[int], object]) -> Pipeline[int, int]:
    """A pipeline that ends a silent stream."""
    return Pipeline(
        source.requests(),
        work,  # type: ignore[arg-type]
        room=Room(3),
        in_order=False,
        max_idle_s=IDLE_S,
    )


class TestReadAhead:
    """How far a stream is read."""

    @pytest.mark.parametrize("in_order", [True, False])
    async def test_no_further_than_the_bound_while_nothing_is_answered(
        self, in_order: bool
    ) -> None:
        works = Works()
        pipeline = pipe(source := Source(100), works, in_order=in_order)
        collected = asyncio.create_task(collect(pipeline))
        await spin()
        assert source.read == 3
        works.finish(0)
        await spin()
        assert source.read == 4
        works.finish(*range(100))
        assert sorted(await collected) == list(range(100))

    @pytest.mark.parametrize("in_order", [True, False])
    async def test_no_further_than_the_bound_while_replies_are_not_taken(
        self, in_order: bool
    ) -> None:
        """All the work is done, but the client does not read."""
        pipeline = pipe(source := Source(100), at_once, in_order=in_order)
        replies = pipeline.replies()
        for taken in range(20):
            await anext(replies)
            await spin()
            assert source.read == taken + 3  # the reply in hand counts until the next is asked for
        await replies.aclose()

    async def test_one_at_a_time(self) -> None:
        works = Works()
        pipeline = pipe(Source(5), works, most=1)
        collected = asyncio.create_task(collect(pipeline))
        for number in range(5):
            await spin()
            assert works.started == list(range(number + 1))
            works.finish(number)
        assert await collected == list(range(5))


class TestStopReading:
    """A stream that is drained."""

    @pytest.mark.parametrize("in_order", [True, False])
    @pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
    async def test_what_was_read_is_answered(self, count: int, in_order: bool) -> None:
        works = Works()
        source = Source(count, ends=False)
        pipeline = pipe(source, works, in_order=in_order)
        collected = asyncio.create_task(collect(pipeline))
        await spin()
        pipeline.stop_reading()
        works.finish(*range(count))
        assert sorted(await collected) == list(range(source.read))
        assert source.read == min(count, 3)

    async def test_with_nothing_in_work(self) -> None:
        pipeline = pipe(Source(0, ends=False), at_once)
        collected = asyncio.create_task(collect(pipeline))
        await spin()
        pipeline.stop_reading()
        assert await collected == []

    async def test_twice_and_after_the_end(self) -> None:
        pipeline = pipe(Source(2), at_once)
        pipeline.stop_reading()
        assert sorted(await collect(pipeline)) == []
        pipeline.stop_reading()
        pipeline.stop_reading()

    @settings(deadline=None, max_examples=200)
    @given(
        stop_after=st.integers(0, 40),
        count=st.integers(0, 12),
        most=st.integers(1, 5),
        in_order=st.booleans(),
    )
    def test_at_any_moment(self, stop_after: int, count: int, most: int, in_order: bool) -> None:
        """Whatever was handed out by the source is answered, wherever the reader stands."""

        async def scenario() -> None:
            works = Works()
            works.finish(*range(0, count, 2))
            source = Source(count, ends=False)
            pipeline = pipe(source, works, most=most, in_order=in_order)
            collected = asyncio.create_task(collect(pipeline))
            await spin(stop_after)
            pipeline.stop_reading()
            await spin(stop_after)
            works.finish(*range(count))
            async with asyncio.timeout(30):
                assert sorted(await collected) == list(range(source.read))

        asyncio.run(scenario())


class TestEnd:
    """Errors and early ends."""

    @pytest.mark.parametrize("in_order", [True, False])
    async def test_error_of_the_source_comes_after_the_replies(self, in_order: bool) -> None:
        works = Works()
        pipeline = pipe(Source(2, error=OSError("cut")), works, in_order=in_order)
        replies = pipeline.replies()
        waiting = asyncio.create_task(anext(replies))
        await spin()
        works.finish(0, 1)
        assert sorted([await waiting, await anext(replies)]) == [0, 1]
        with pytest.raises(OSError, match="cut"):
            await anext(replies)

    async def test_error_of_the_source_alone(self) -> None:
        with pytest.raises(OSError, match="cut"):
            await collect(pipe(Source(0, error=OSError("cut")), at_once))

    @pytest.mark.parametrize("in_order", [True, False])
    async def test_closed_early(self, in_order: bool) -> None:
        """What is in work is cancelled, and awaited."""
        works = Works()
        works.finish(0)
        pipeline = pipe(source := Source(100), works, in_order=in_order)
        replies = pipeline.replies()
        assert await anext(replies) == 0
        await spin()
        await replies.aclose()
        assert sorted(works.cancelled) == [1, 2]
        assert source.read == 3

    @pytest.mark.parametrize("in_order", [True, False])
    async def test_cancelled(self, in_order: bool) -> None:
        works = Works()
        collected = asyncio.create_task(collect(pipe(Source(100), works, in_order=in_order)))
        await spin()
        collected.cancel()
        with pytest.raises(asyncio.CancelledError):
            await collected
        assert sorted(works.cancelled) == [0, 1, 2]

    async def test_closed_while_the_source_fails(self) -> None:
        """The error of the source is not left unretrieved."""
        works = Works()
        works.finish(0)
        replies = pipe(Source(2, error=OSError("cut")), works).replies()
        await anext(replies)
        await spin()
        await replies.aclose()


class TestMemory:
    """Bytes of one stream and of all."""

    @staticmethod
    def heavy(memory: Memory, source: Source, works: Works, *, weight: int = 10) -> Pipeline:
        """A stream of messages that weigh so much, as many in work as memory allows."""
        room: Room[int] = Room(100, memory, lambda _: weight)
        return Pipeline(source.requests(), works, room=room, in_order=False)

    async def test_one_stream_is_read_as_far_as_it_may_hold(self) -> None:
        memory = Memory(max_bytes=1000, max_stream_bytes=30)
        source, works = Source(10), Works()
        replies = self.heavy(memory, source, works).replies()
        first = asyncio.ensure_future(anext(replies))
        await spin()
        assert (source.read, memory.held_bytes) == (3, 30)
        works.finish(0)
        assert await first == 0
        await spin()
        assert source.read == 3  # a reply that may not have been taken is still held
        second = asyncio.ensure_future(anext(replies))
        await spin()
        assert source.read == 4
        works.finish(*range(10))
        assert {await second, *[reply async for reply in replies]} == set(range(1, 10))
        assert memory.held_bytes == 0

    async def test_all_streams_together(self) -> None:
        """Each that holds nothing may still read one message, so that all go on."""
        memory = Memory(max_bytes=30, max_stream_bytes=30)
        sources, works = [Source(4) for _ in range(3)], [Works() for _ in range(3)]
        pipelines = [self.heavy(memory, *pair) for pair in zip(sources, works, strict=True)]

        async def collect(pipeline: Pipeline[int, int]) -> list[int]:
            return [reply async for reply in pipeline.replies()]

        first = asyncio.create_task(collect(pipelines[0]))
        await spin()
        rest = [asyncio.create_task(collect(pipeline)) for pipeline in pipelines[1:]]
        await spin()
        assert [source.read for source in sources] == [3, 1, 1]
        works[0].finish(*range(4))
        await first
        await spin()
        assert memory.held_bytes <= 30
        for work in works:
            work.finish(*range(4))
        assert [sorted(replies) for replies in await asyncio.gather(first, *rest)] == [
            [0, 1, 2, 3]
        ] * 3
        assert memory.held_bytes == 0

    async def test_a_message_heavier_than_all(self) -> None:
        memory = Memory(max_bytes=5, max_stream_bytes=5)
        source, works = Source(3), Works()
        works.finish(0, 1, 2)
        pipeline = self.heavy(memory, source, works, weight=100)
        assert [reply async for reply in pipeline.replies()] == [0, 1, 2]

    async def test_a_stream_that_is_dropped_lets_go_of_all(self) -> None:
        memory = Memory(max_bytes=100, max_stream_bytes=50)
        replies = self.heavy(memory, Source(10), works := Works()).replies()
        first = asyncio.ensure_future(anext(replies))
        await spin()
        assert memory.held_bytes == 50
        works.finish(0)
        await first
        await replies.aclose()
        assert memory.held_bytes == 0
