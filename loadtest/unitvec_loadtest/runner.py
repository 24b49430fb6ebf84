"""Sends what is due and records what comes of it.

All of it runs on one event loop. A failed request is a record like any other and never ends a
run; what is in flight at the end is waited for, each request up to its own deadline.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from unitvec_loadtest.corpus import Corpus
from unitvec_loadtest.pacer import NS_PER_S, Pacer, Phase, Ticket, Window, issue_tickets
from unitvec_loadtest.results import Answer, Outcome, Result, Results
from unitvec_loadtest.senders import Sender
from unitvec_loadtest.statistics import Span


@dataclass(frozen=True)
class Load:
    """What a run sends, and when."""

    window: Window
    pacer: Pacer | None = None
    """Of an open loop; None for a closed one."""
    workers: int = 1
    """Requests in flight in a closed loop."""
    texts_per_request: int = 1
    max_in_flight: int = 4096
    """Bound of an open loop; beyond it sending falls behind, which latencies then show."""
    give_up_s: float = 30.0
    """A request this far behind its schedule is not sent any more but recorded as NOT_SENT."""


HOPELESS_CALLS = 10
"""If so many calls get one error and none has succeeded before, all others will get it."""
_HOPELESS_WHERE_UNAVAILABLE = 100
"""As many for UNAVAILABLE, which may pass, and stands for the lost status of a stream, too."""
_BY_LOAD = frozenset(
    {
        Outcome.RESOURCE_EXHAUSTED,
        Outcome.DEADLINE_EXCEEDED,
        Outcome.NOT_SENT,
        Outcome.WRONG_ANSWER,
    }
)
"""Failures that a load test is there to count, even where every call meets one."""


class Run:
    """One run of a load. Build it on the event loop that runs it, and run it once."""

    def __init__(self, sender: Sender, corpus: Corpus, *, load: Load) -> None:
        self.results = Results()
        self.load = load
        self._sender = sender
        self._corpus = corpus
        self._measured = 0
        self._issued = 0
        self._slots = asyncio.Semaphore(load.max_in_flight)
        self._dispatcher: asyncio.Task[None] | None = None
        self._start_ns = time.perf_counter_ns()
        self._stopped_ns: int | None = None
        self.every_call_gets: Answer | None = None
        """The error that ended the run, since every call got it."""
        self._failures: Counter[Outcome] | None = Counter()
        """Failures by code until there is a success, or a failure by load."""

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run started."""
        return time.perf_counter_ns() - self._start_ns

    @property
    def interrupted(self) -> bool:
        """The run was stopped before its time."""
        return self._stopped_ns is not None

    @property
    def span(self) -> Span:
        """The part of the run that is measured."""
        start_ns, end_ns = self.load.window.warmup_ns, self.load.window.end_ns
        if self._stopped_ns is not None and end_ns is not None:
            end_ns = max(start_ns, min(end_ns, self._stopped_ns))
        return Span(start_ns, end_ns)

    async def run(self) -> Results:
        """Sends everything, waits for what is in flight and returns the records."""
        if self.interrupted:
            return self.results
        self._start_ns = time.perf_counter_ns()
        async with asyncio.TaskGroup() as requests:
            if self.load.pacer is not None:
                self._dispatcher = requests.create_task(self._dispatch(self.load.pacer, requests))
            else:
                for _ in range(self.load.workers):
                    requests.create_task(self._work())
        return self.results

    def stop(self) -> None:
        """Sends nothing more; `run` then returns once what is in flight has ended."""
        if self._stopped_ns is None:
            self._stopped_ns = self.now_ns
        if self._dispatcher is not None:
            self._dispatcher.cancel()

    async def _dispatch(self, pacer: Pacer, requests: asyncio.TaskGroup) -> None:
        """The open loop: sends each request when it is due, or as soon after as it can."""
        for ticket in issue_tickets(pacer, self.load.window):
            await self._wait_until(ticket.due_ns)
            await self._slots.acquire()
            if self.now_ns - ticket.due_ns > self.load.give_up_s * NS_PER_S:
                self._slots.release()
                self._give_up(ticket)
            else:
                requests.create_task(self._send_and_release(ticket))

    async def _wait_until(self, due_ns: int) -> None:
        # One pass through the event loop even if late, or a sender that has fallen behind
        # would never let a request start or an answer in.
        await asyncio.sleep(0)
        # Timers may fire early by their resolution: hence the loop. No event marks a due time.
        while (wait_ns := due_ns - self.now_ns) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait_ns / NS_PER_S)

    async def _work(self) -> None:
        """One worker of the closed loop: its next request is due when its last one has ended."""
        while not self.interrupted and (ticket := self._next_ticket()) is not None:
            await self._send(ticket)

    def _next_ticket(self) -> Ticket | None:
        now_ns = self.now_ns
        phase = self.load.window.phase(now_ns, measured=self._measured)
        if phase is Phase.STOP:
            return None
        ticket = Ticket(self._issued, now_ns, phase is Phase.MEASURE)
        self._issued += 1
        self._measured += ticket.measured
        return ticket

    async def _send_and_release(self, ticket: Ticket) -> None:
        try:
            await self._send(ticket)
        finally:
            self._slots.release()

    async def _send(self, ticket: Ticket) -> None:
        texts = self._corpus.draw(ticket.number, count=self.load.texts_per_request)
        sent_ns = self.now_ns
        answer = await self._sender.send(texts)
        self._record(ticket, sent_ns=sent_ns, answer=answer)

    def _give_up(self, ticket: Ticket) -> None:
        message = "not sent: a whole --timeout-s behind schedule (see --max-in-flight)"
        answer = Answer(Outcome.NOT_SENT, message=message)
        self._record(ticket, sent_ns=self.now_ns, answer=answer)

    def _record(self, ticket: Ticket, *, sent_ns: int, answer: Answer) -> None:
        texts = self.load.texts_per_request
        self.results.add(
            Result(ticket.due_ns, sent_ns, self.now_ns, texts, ticket.measured, answer)
        )
        self._watch(answer)

    def _watch(self, answer: Answer) -> None:
        """End the run where every call so far has failed, for a reason that is not the load."""
        if self._failures is None or answer.outcome in (Outcome.OK, *_BY_LOAD):
            self._failures = None
            return
        self._failures[answer.outcome] += 1
        passing = answer.outcome is Outcome.UNAVAILABLE
        bound = _HOPELESS_WHERE_UNAVAILABLE if passing else HOPELESS_CALLS
        if self._failures[answer.outcome] == bound:
            self._failures = None
            self.every_call_gets = answer
            self.stop()
