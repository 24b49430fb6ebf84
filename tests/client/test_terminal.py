"""Lines of progress fit the terminal, whatever its width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from unitvec_client.cli.progress import Progress
from unitvec_client.console.terminal import StatusLine, clock_face, working

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
    ticks = (float(tick) for tick in range(10_000_000))
    with Progress(file, total, done=1_200_000, clock=lambda: next(ticks)) as progress:
        for _ in range(5):
            progress.advance()
    shown = lines_of(read())
    assert len(shown) == 5
    assert all(len(line) < columns for line in shown)
    if columns >= 12:
        assert all("12%" in line if total else "1,200," in line for line in shown)
    if columns >= 100 and total:
        assert all("█" in line and "of 9,876,543 texts" in line for line in shown)


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

    def describe() -> str:
        asked.set()
        return "comparing " + "x" * 99

    with working(describe, file):
        assert asked.wait(60)
    shown = read()
    (line,) = lines_of(shown)[:1]
    assert re.fullmatch(r"0:0\d  comparing x+", line)
    assert len(line) == 39
    assert shown.endswith("\r\x1b[K")


def test_clock_face() -> None:
    assert [clock_face(seconds) for seconds in (0, 65, 3661)] == ["0:00", "1:05", "1:01:01"]
