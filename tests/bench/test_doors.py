"""The comparison of doors: its arithmetic, and a run of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import main
from bench.doors import DOORS, Round, doors_markdown


def test_speeds_are_ratios_within_a_round() -> None:
    """A round in which the machine was slow tells as much as any other."""
    rounds = {
        "ours": [Round(1.0, 100.0), Round(10.0, 10.0), Round(2.0, 50.0)],
        "theirs": [Round(2.0, 50.0), Round(20.0, 5.0), Round(1.0, 100.0)],
    }
    *_, ours, theirs = doors_markdown(rounds).splitlines()
    assert ours == "| ours | 2.000 | 1.00 | 50 | 1.00 |"
    assert theirs == "| theirs | 2.000 | 0.50 | 50 | 0.50 |"


@pytest.mark.deep
def test_every_door_answers(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--artifact", str(artifact), "--rounds", "1", "--calls", "20", "--callers", "4"]
    assert main(["doors", *flags]) == 0
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in DOORS)
