"""The short form of `make chaos`: counts only, since a busy machine must not fail a test.

Every answer under each fault is compared with its expected vector; none may be lost or wrong.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.expected import Known, learn
from tests.chaos.replica import Launch, replicas
from tests.chaos.report import format_failures
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import SHORT, Stage

pytestmark = pytest.mark.deep

# Overload is a matter of rates, which a busy machine does not keep: the long form plays it.
PLAYED = [name for name in SCENARIOS if not name.startswith("overload")]


@pytest.fixture(scope="module")
def launch(artifact: Path) -> Launch:
    """A server of the tiny model."""
    return Launch(artifact, ("--precision", "fp32"))


@pytest.fixture(scope="module")
def known(launch: Launch) -> Known:
    """What the tiny model makes of known texts."""

    async def ask() -> Known:
        async with replicas(launch) as (server,):
            return await learn(server.target)

    return asyncio.run(ask())


@pytest.mark.parametrize("name", PLAYED)
async def test_nothing_is_lost_or_wrong(name: str, launch: Launch, known: Known) -> None:
    """Whatever fails, requests are answered rightly or refused with a reason."""
    outcome = await SCENARIOS[name](Stage(launch, known, SHORT))
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.tally.right > 0
    assert outcome.sound, format_failures([outcome])
