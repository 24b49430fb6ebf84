"""When an event loop counts as alive, late or stuck."""

from __future__ import annotations

import asyncio
import threading

from unitvec_server.engine.heartbeat import Heartbeat

TICK_S = 0.5


class Loop:
    """A heartbeat whose looks are taken by hand, on a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.heart = Heartbeat(
            stuck_after_s=20.0, on_stuck=lambda _: None, clock_s=lambda: self.now_s
        )

    def look(self, times: int, *, apart_s: float = TICK_S) -> str:
        """What the last of so many looks found."""
        found = ""
        for _ in range(times):
            self.now_s += apart_s
            found = self.heart.look()
        return found


def test_silence_is_late_and_then_stuck() -> None:
    loop = Loop()
    assert not loop.look(5)
    assert loop.heart.is_beating()
    assert not loop.look(1)
    assert not loop.heart.is_beating()
    assert not loop.look(33)
    assert loop.look(1) == "the event loop hangs: it has done nothing for 20 s"


def test_time_in_which_the_process_stood_still_does_not_count() -> None:
    loop = Loop()
    assert not loop.look(2, apart_s=3600.0)
    assert loop.heart.is_beating()


async def test_a_loop_that_lives_beats() -> None:
    loop = Loop()
    loop.look(39)
    with loop.heart:
        assert not loop.look(1)
        assert loop.heart.is_beating()


async def test_a_loop_that_hangs_is_told_from_beside_it() -> None:
    told: list[str] = []
    heard = threading.Event()

    def hear(fault: str) -> None:
        told.append(fault)
        heard.set()

    with Heartbeat(stuck_after_s=1.0, on_stuck=hear):
        await asyncio.sleep(0)
        heard.wait()  # on the loop
    assert len(told) == 1
