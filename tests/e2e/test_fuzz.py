"""Hostile input to a live server: always a canonical answer, and honest callers served right.

`python -m tests.chaos fuzz` is the long form.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.expected import learn
from tests.chaos.fuzzing import KINDS, Target, answer, attack_with, play_schedules, target
from tests.chaos.hostile import HOSTILE, Hostile
from tests.chaos.strategies import METHODS, VALID
from tests.serving import Server, ServerProcess

CASES = 200
SCHEDULES = 30


@pytest.fixture(scope="module")
def under_fire(artifact: Path) -> Iterator[Target]:
    """One server for all of it: what harms it in one test shows in the next."""
    process = ServerProcess("--model", str(artifact), "--precision", "fp32")
    try:
        server = Server(process)
        server.channel.close()
        known = asyncio.run(learn(server.target))
        with target(server.target, known) as fired_at:
            yield fired_at
        assert process.stop() == 0
        assert "Traceback" not in "".join(process.output)
    finally:
        process.stop(9)


def test_every_request_has_a_valid_form() -> None:
    """A new method must come into the table that mutations start from."""
    assert {method.input_type.name for method in METHODS} == set(VALID)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_known_hostile_input(under_fire: Target, hostile: Hostile) -> None:
    """Answered as it was when it was found."""
    assert answer(under_fire.channel, hostile.case) is hostile.code
    assert under_fire.is_right()


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS), ids=lambda kind: kind.__name__)
def test_any_input_is_answered(under_fire: Target, kind: object) -> None:
    """Whatever Hypothesis comes up with."""
    attack_with(kind(), under_fire, cases=CASES, number=0)  # type: ignore[operator]
    assert under_fire.is_right()


def test_any_schedule_is_answered(under_fire: Target) -> None:
    """Sending, reading, finishing, cancelling and rubbish, in any order."""
    play_schedules(under_fire, cases=SCHEDULES)
    assert under_fire.is_right()
