"""Lines of progress fit the terminal, whatever its width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest

from unitvec_client.cli.progress import Progress
from unitvec_client.console.terminal import StatusLine, clock_face, waiting_for, working

_END = "<end>"
Open = Callable[[int], tuple[IO[str], Callable[[], str]]]


@pytest.fixture
def open_terminal() -> Iterator[Open]:
    """Opens real terminals of some width, each with a way to read what was shown on it."""
    opened: list[IO[str]] = []
    masters: list[int] = []

    def make(columns: int) -> tuple[IO[str], Callable[[], str]]:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        file = os.fdopen(slave, "w", encoding="utf-8")
        masters.append(master)
        opened.append(file)

        def read() -> str:
            file.write(_END)
            file.flush()
            shown = b""
            while not shown.endswith(_END.encode()):
                shown += os.read(master, 100_000)
            return shown.decode().removesuffix(_END)

        return file, read

    yield make
    for file in opened:
        file.close()
    for master in masters:
        os.close(master)


def lines_of(shown: str) -> list[str]:
    return [line for line in re.sub(r"\x1b\[K", "", shown).split("\r") if line]


@pytest.mark.parametrize("columns", [4, 12, 20, 30, 40, 60, 80, 200])
@pytest.mark.parametrize("total", [None, 9_876_543])
def test_a_line_of_progress_fits(open_terminal: Open, columns: int, total: int | None) -> None:
    file, read = open_terminal(columns)
    progress = Progress(total, done=1_200_000)
    line = StatusLine(file)
    for elapsed_s in range(1, 6):
        line.show(*progress.forms(float(elapsed_s)))
        progress.advance()
    waits, *shown = lines_of(read())
    assert "0:01  waiting for the first texts".startswith(waits)
    assert len(shown) == 4
    assert all(len(line) < columns for line in (waits, *shown))
    if columns >= 12:
        assert all("12%" in line if total else "1,200," in line for line in shown)
    if columns >= 100 and total:
        assert all("█" in line and "of 9,876,543 texts" in line for line in shown)


def test_progress_says_how_many_how_fast_and_how_long() -> None:
    progress = Progress(8, done=1)
    for _ in range(2):
        progress.advance()
    forms = progress.forms(2.0)
    assert forms[0] == "████████░░░░░░░░░░░░  38%  3 of 8 texts  1 texts/s  0:05 left"
    assert forms[-1] == "38%"


def test_nothing_is_shown_where_there_is_no_terminal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        line = StatusLine(file)
        line.show("shown")
        line.say("said")
        line.clear()
    assert (tmp_path / "log").read_text() == "said\n"


def test_a_hidden_line_shows_nothing_and_says_what_must_be_said(open_terminal: Open) -> None:
    file, read = open_terminal(40)
    line = StatusLine(file, hidden=True)
    line.show("shown")
    line.say("said")
    line.clear()
    assert read() == "said\r\n"


def test_what_is_said_meanwhile_stays(open_terminal: Open) -> None:
    file, read = open_terminal(40)
    line = StatusLine(file)
    line.show("working")
    line.say("unitvec: line 3: not JSON")
    line.show("working")
    line.clear()
    kept = "unitvec: line 3: not JSON\r\n"
    assert read() == f"\rworking\x1b[K\r\x1b[K{kept}\rworking\x1b[K\r\x1b[K"


def test_a_terminal_that_grows_narrow_is_noticed(open_terminal: Open) -> None:
    file, read = open_terminal(80)
    line = StatusLine(file)
    line.show("x" * 60, "y" * 10)
    fcntl.ioctl(file.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    line.show("x" * 60, "y" * 10)
    line.show("z" * 60)
    line.clear()
    assert lines_of(read()) == ["x" * 60, "y" * 10, "z" * 39]


def test_a_terminal_that_does_not_know_its_width_is_taken_for_usual(open_terminal: Open) -> None:
    file, read = open_terminal(0)
    StatusLine(file).show("x" * 100)
    assert lines_of(read()) == ["x" * 79]


def test_long_work_is_shown_while_it_goes_on(open_terminal: Open) -> None:
    file, read = open_terminal(40)
    asked = threading.Event()

    def describe(elapsed_s: float) -> Sequence[str]:
        asked.set()
        return waiting_for("comparing " + "x" * 99)(elapsed_s)

    with working(describe, file):
        assert asked.wait(60)
    shown = read()
    (line,) = lines_of(shown)[:1]
    assert re.fullmatch(r"0:0\d  comparing x+", line)
    assert len(line) == 39
    assert shown.endswith("\r\x1b[K")


def test_clock_face() -> None:
    assert [clock_face(seconds) for seconds in (0, 65, 3661)] == ["0:00", "1:05", "1:01:01"]
