"""Admission: the bound holds, streams wait their turn, nothing leaks."""

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitvec_server.engine.admission import (
    LEAST_TEXT_TOKENS,
    STREAM_PART,
    Ticket,
    TokenGate,
    count_tokens,
)
from unitvec_server.errors import InvalidRequest, Overloaded
from unitvec_server.policy.deadlines import RunSpeed

BOUND = 100
STREAM_BOUND = int(BOUND * STREAM_PART)


@pytest.fixture
def gate() -> TokenGate:
    """A gate for 100 tokens, half of them for streams."""
    return TokenGate(BOUND, RunSpeed(1).seconds_for)


async def wait_for(gate: TokenGate, tokens: int, *, flow: object = None) -> Ticket:
    """A request of a stream, of one of its own if none is named."""
    return await gate.admit_when_free(tokens, flow=flow or object())


async def spin(times: int = 10) -> None:
    """Lets every task that can run do so."""
    for _ in range(times):
        await asyncio.sleep(0)


class TestUnary:
    """Callers that are shed."""

    def test_the_whole_bound_can_be_used(self, gate: TokenGate) -> None:
        with gate.admit(60), gate.admit(40):
            assert gate.queued_tokens == BOUND
            with pytest.raises(Overloaded):
                gate.admit(1)
        assert gate.queued_tokens == 0

    def test_a_correction_makes_room(self, gate: TokenGate) -> None:
        with gate.admit(100) as ticket:
            ticket.correct(30)
            assert gate.queued_tokens == 30
            with gate.admit(70):
                pass
        assert gate.queued_tokens == 0

    def test_an_estimate_that_was_low_is_corrected(self, gate: TokenGate) -> None:
        with gate.admit(10) as ticket:
            ticket.correct(25)
            assert gate.queued_tokens == 25
        assert gate.queued_tokens == 0

    def test_room_returns_after_an_error(self, gate: TokenGate) -> None:
        with pytest.raises(ZeroDivisionError), gate.admit(100):
            raise ZeroDivisionError
        assert gate.queued_tokens == 0

    def test_more_than_there_can_ever_be(self, gate: TokenGate) -> None:
        with pytest.raises(InvalidRequest, match=r"101 tokens.*100 of one call.*max_queued_tokens"):
            gate.admit(101)
        assert gate.queued_tokens == 0

    @pytest.mark.parametrize(
        ("tokens_per_s", "delay_s"), [(None, 0.05), (10.0, 3.0), (1.0, 30.0), (0.01, 30.0)]
    )
    def test_retry_delay_is_the_time_that_the_excess_takes(
        self, tokens_per_s: float | None, delay_s: float
    ) -> None:
        speed = RunSpeed(1)
        if tokens_per_s:
            speed.record(tokens=1000, busy_s=1000 / tokens_per_s)
        gate = TokenGate(BOUND, speed.seconds_for)
        gate.admit(90)
        with pytest.raises(Overloaded) as caught:
            gate.admit(40)
        assert caught.value.retry_delay_s == pytest.approx(delay_s)
        assert f"{delay_s:.2f} s" in str(caught.value)


class TestStreams:
    """Callers that wait."""

    async def test_streams_fill_only_their_share(self, gate: TokenGate) -> None:
        first = await wait_for(gate, STREAM_BOUND)
        second = asyncio.create_task(wait_for(gate, 1))
        await spin()
        assert not second.done()
        with gate.admit(BOUND - STREAM_BOUND):
            pass
        first.correct(0)
        (await second).correct(0)
        assert gate.queued_tokens == 0

    async def test_one_by_one_where_nobody_is_ahead(self, gate: TokenGate) -> None:
        """No round of the loop is lost where there is room."""
        with await wait_for(gate, 10):
            assert (gate.stream_tokens, gate.unary_tokens) == (10, 0)
        assert gate.queued_tokens == 0

    async def test_first_come_first_served(self, gate: TokenGate) -> None:
        """A small request does not pass a large one that came before."""
        held = await wait_for(gate, STREAM_BOUND)
        order: list[int] = []

        async def enter(tokens: int) -> Ticket:
            ticket = await wait_for(gate, tokens)
            order.append(tokens)
            return ticket

        tasks = [asyncio.create_task(enter(tokens)) for tokens in (40, 5, 30, 1)]
        await spin()
        held.correct(STREAM_BOUND - 10)
        await spin()
        assert order == []
        held.correct(0)
        await spin()
        assert order == [40, 5]
        (await tasks[0]).correct(0)
        await spin()
        assert order == [40, 5, 30, 1]
        for task in tasks:
            (await task).correct(0)
        assert gate.queued_tokens == 0

    async def test_newcomer_does_not_pass_those_who_wait(self, gate: TokenGate) -> None:
        held = await wait_for(gate, STREAM_BOUND - 1)
        waiting = asyncio.create_task(wait_for(gate, 10))
        await spin()
        newcomer = asyncio.create_task(wait_for(gate, 1))  # would fit
        await spin()
        assert not newcomer.done()
        held.correct(0)
        await asyncio.gather(waiting, newcomer)

    async def test_more_than_there_can_ever_be(self, gate: TokenGate) -> None:
        with pytest.raises(InvalidRequest, match=rf"at most {STREAM_BOUND} of one call"):
            await wait_for(gate, STREAM_BOUND + 1)

    async def test_cancelled_while_waiting(self, gate: TokenGate) -> None:
        """Who waits behind it gets its turn."""
        held = await wait_for(gate, STREAM_BOUND - 5)
        large = asyncio.create_task(wait_for(gate, 40))
        small = asyncio.create_task(wait_for(gate, 5))
        await spin()
        large.cancel()
        await spin()
        assert large.cancelled()
        assert small.done()
        held.correct(0)
        assert gate.queued_tokens == 5

    async def test_cancelled_just_after_its_turn_came(self, gate: TokenGate) -> None:
        held = await wait_for(gate, STREAM_BOUND)
        task = asyncio.create_task(wait_for(gate, 40))
        await spin()
        held.correct(0)  # its turn is set, and it has not yet run
        task.cancel()
        await spin()
        assert task.cancelled()
        assert gate.queued_tokens == 0

    async def test_cancelled_just_before_its_turn_comes(self, gate: TokenGate) -> None:
        held = await wait_for(gate, STREAM_BOUND)
        task = asyncio.create_task(wait_for(gate, 40))
        behind = asyncio.create_task(wait_for(gate, 20))
        await spin()
        task.cancel()  # it has not yet run, and still stands in line
        held.correct(0)
        await spin()
        assert task.cancelled()
        assert behind.done()
        assert gate.queued_tokens == 20

    async def test_cancelled_in_the_middle_of_the_line(self, gate: TokenGate) -> None:
        held = await wait_for(gate, STREAM_BOUND)
        tasks = [asyncio.create_task(wait_for(gate, 20)) for _ in range(3)]
        await spin()
        tasks[1].cancel()
        await spin()
        assert len(gate._lines) == 2  # nothing is kept for those who left
        held.correct(0)
        await spin()
        assert tasks[0].done()
        assert tasks[2].done()
        assert gate.queued_tokens == 40


class TestBetweenStreams:
    """No stream takes what another needs."""

    async def test_one_alone_leaves_as_much_free_as_it_holds(self, gate: TokenGate) -> None:
        tasks = [asyncio.create_task(wait_for(gate, 5, flow="bulk")) for _ in range(20)]
        await spin()
        assert gate.stream_tokens == STREAM_BOUND // 2
        with await wait_for(gate, STREAM_BOUND // 2, flow="another"):
            pass
        for task in tasks:
            (await task).correct(0)
        assert gate.queued_tokens == 0

    async def test_one_that_holds_nothing_may_take_all(self, gate: TokenGate) -> None:
        """Else its large requests could never be."""
        with await wait_for(gate, STREAM_BOUND, flow="bulk"):
            second = asyncio.create_task(wait_for(gate, STREAM_BOUND, flow="bulk"))
            await spin()
            assert not second.done()
        (await second).correct(0)

    async def test_take_turns(self, gate: TokenGate) -> None:
        """A stream of many requests in line does not make another wait for all of them."""
        held = await wait_for(gate, STREAM_BOUND)
        order: list[str] = []

        async def enter(flow: str) -> None:
            with await wait_for(gate, STREAM_BOUND, flow=flow):
                order.append(flow)
                await spin(1)

        flows = ["a", "a", "a", "a", "b", "b", "c"]
        tasks = [asyncio.create_task(enter(flow)) for flow in flows]
        await spin()
        held.correct(0)
        await asyncio.gather(*tasks)
        assert order == ["a", "b", "c", "a", "b", "a", "a"]


class TestStreamsAndUnaryCallers:
    """Each kind keeps its half."""

    async def test_unary_overload_does_not_starve_streams(self, gate: TokenGate) -> None:
        """What unary callers borrowed comes back before more of them get in."""
        tickets = [gate.admit(10) for _ in range(10)]
        stream = asyncio.create_task(wait_for(gate, 30))
        await spin()
        assert not stream.done()
        for _ in range(3):
            tickets.pop().correct(0)
            if not stream.done():
                with pytest.raises(Overloaded):
                    gate.admit(1)
        await spin()
        assert stream.done()
        assert gate.unary_tokens == 70

    async def test_unary_callers_keep_their_half_while_streams_wait(self, gate: TokenGate) -> None:
        with gate.admit(80):
            stream = asyncio.create_task(wait_for(gate, STREAM_BOUND))
            await spin()
        await spin()
        assert stream.done()
        behind = asyncio.create_task(wait_for(gate, STREAM_BOUND))
        await spin()
        with gate.admit(BOUND - STREAM_BOUND), pytest.raises(Overloaded):
            gate.admit(1)
        behind.cancel()
        (await stream).correct(0)

    async def test_all_is_theirs_again_once_no_stream_waits(self, gate: TokenGate) -> None:
        with gate.admit(80):
            stream = asyncio.create_task(wait_for(gate, STREAM_BOUND))
            await spin()
            stream.cancel()
            await spin()
            with gate.admit(BOUND - 80):
                pass


def test_a_text_counts_at_least_what_it_costs_beside_its_tokens() -> None:
    """So that the bound on tokens bounds texts as well."""
    assert count_tokens([]) == 0
    assert count_tokens([0, 1, LEAST_TEXT_TOKENS]) == 3 * LEAST_TEXT_TOKENS
    assert count_tokens([100, LEAST_TEXT_TOKENS + 1]) == 101 + LEAST_TEXT_TOKENS


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["admit", "stream"]), st.integers(1, BOUND)),
        st.tuples(st.sampled_from(["exit", "cancel"]), st.integers(0, 20)),
        st.tuples(st.just("correct"), st.integers(0, 20)),
        st.tuples(st.just("run"), st.just(0)),
    ),
    max_size=60,
)


class Crowd:
    """Callers of a gate, driven step by step; the loop runs only where a step says so."""

    def __init__(self) -> None:
        self.gate = TokenGate(BOUND, RunSpeed(1).seconds_for)
        self.tickets: list[Ticket] = []
        self.tasks: list[asyncio.Task[Ticket]] = []

    async def do(self, action: str, number: int) -> None:
        """One step of a caller."""
        if action == "admit":
            with contextlib.suppress(Overloaded):
                self.tickets.append(self.gate.admit(number))
        elif action == "stream":
            tokens = min(number, STREAM_BOUND)
            flow = f"stream {number % 3}"
            self.tasks.append(asyncio.create_task(wait_for(self.gate, tokens, flow=flow)))
        elif action == "run":
            await spin(3)
        elif action == "cancel" and self.tasks:
            self.tasks[number % len(self.tasks)].cancel()
        elif self.tickets and action == "exit":
            self.tickets.pop(number % len(self.tickets)).correct(0)
        elif self.tickets and action == "correct":
            ticket = self.tickets[number % len(self.tickets)]
            ticket.correct(ticket.tokens // 2)
        self.collect()

    def collect(self) -> None:
        """Takes the tickets of streams whose turn came."""
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                self.tickets.append(task.result())

    async def leave(self) -> None:
        """Everyone leaves; those who wait get their turn and leave as well."""
        while self.tasks or self.tickets:
            for ticket in self.tickets:
                ticket.correct(0)
            self.tickets.clear()
            await spin(3)
            self.collect()


@settings(deadline=None, max_examples=300)
@given(steps)
def test_bound_holds_and_nothing_leaks(actions: list[tuple[str, int]]) -> None:
    """Whatever callers do and in which order, and all who wait get in at last."""

    async def scenario() -> None:
        crowd = Crowd()
        for action, number in actions:
            await crowd.do(action, number)
            assert 0 <= crowd.gate.queued_tokens <= BOUND
            assert 0 <= crowd.gate.stream_tokens <= STREAM_BOUND
            assert sum(crowd.gate._held.values()) == crowd.gate.stream_tokens
            assert sum(ticket.tokens for ticket in crowd.tickets) <= crowd.gate.queued_tokens
        async with asyncio.timeout(10):
            await crowd.leave()
        assert crowd.gate.queued_tokens == 0
        assert (crowd.gate._lines, crowd.gate._held) == ({}, {})
        with crowd.gate.admit(BOUND):
            pass

    asyncio.run(scenario())
