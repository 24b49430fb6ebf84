"""What runs take is foreseen from what was measured, and what does not fit is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_server.errors import ConfigError
from unitvec_server.model.memory import (
    extrapolate,
    plan_runs,
    read_bytes,
    room_bytes,
    run_bytes,
    status_bytes,
    unread_bytes,
)

MIB = 2**20
LENGTHS = [512, 1024, 2048]


@given(base=st.integers(0, 50 * MIB), slope=st.integers(0, 200_000), to=st.integers(2049, 32_768))
def test_memory_that_grows_with_the_text_is_foreseen(base: int, slope: int, to: int) -> None:
    found = extrapolate(LENGTHS, [base + slope * length for length in LENGTHS], to=to)
    assert found >= (base + slope * to) * 0.999
    assert found <= (base + slope * 2048) * to / 2048 * 1.001 + 1  # a line through the origin


@given(
    gaps=st.lists(st.integers(0, 4 * MIB), min_size=3, max_size=3),
    slope=st.integers(10_000, 80_000),
)
def test_gaps_of_an_allocator_are_no_square(gaps: list[int], slope: int) -> None:
    """They were told as more than twice of what two runs of 8,192 tokens took."""
    grown = [slope * length + gap for length, gap in zip(LENGTHS, gaps, strict=True)]
    assert slope * 8192 <= extrapolate(LENGTHS, grown, to=8192) <= slope * 8192 + 28 * MIB


@given(square=st.integers(11, 100), slope=st.integers(0, 10_000), to=st.integers(2049, 32_768))
def test_memory_that_grows_with_its_square_is_foreseen(square: int, slope: int, to: int) -> None:
    grown = [square * length**2 + slope * length for length in LENGTHS]
    assert extrapolate(LENGTHS, grown, to=to) == pytest.approx(square * to**2 + slope * to)


def test_shorter_texts_take_no_more_than_the_longest_measured() -> None:
    assert extrapolate([64, 128, 256], [1000, 3000, 2000], to=256) == 3000
    assert extrapolate([1], [-5], to=1) == 0


def test_what_a_run_holds_is_measured() -> None:
    """Touched memory counts, in proportion to the length, with room for gaps."""
    if not status_bytes("VmHWM"):
        pytest.skip("this system does not tell the peak of a process")
    program = (
        "from unitvec_server.model.memory import run_bytes\n"
        "print(run_bytes(lambda length: b'x' * (length * 100_000), max_seq_length=1024))"
    )
    # A process of its own: in this one, what other tests have left may be freed meanwhile.
    found = int(subprocess.check_output([sys.executable, "-c", program]))
    assert 97 * MIB < found < 2 * 1.5 * 97 * MIB


def test_what_is_not_yet_read_of_a_mapped_file_is_foreseen(tmp_path: Path) -> None:
    if not Path("/proc/self/smaps").exists():
        pytest.skip("this system does not list the mappings of a process")
    path, other = tmp_path / "model.onnx_data", tmp_path / "other.onnx_data"
    for each in (path, other):
        with each.open("wb") as stream:
            stream.truncate(64 * MIB)
    linked = tmp_path / "link.onnx_data"
    linked.symlink_to(path)
    mapped, _ = (np.memmap(each, np.uint8, mode="r") for each in (path, other))
    plan = plan_runs(MIB, workers=2, room=None, mapped=[linked])
    assert plan.unread_bytes + read_bytes([linked]) == 64 * MIB
    assert plan.unread_bytes >= 62 * MIB
    assert plan.most_bytes == plan.now_bytes + plan.unread_bytes + 2 * MIB

    def run(_: int) -> None:
        mapped[: 32 * MIB].max()

    grown = run_bytes(run, max_seq_length=8, mapped=[path])
    assert grown < 8 * MIB  # what is read is there for all runs
    assert 30 * MIB <= unread_bytes([path]) <= 32 * MIB


@pytest.mark.parametrize(
    ("room", "fitting"),
    [(None, 4), (10_000 * MIB, 4), (400 * MIB, 4), (399 * MIB, 3), (100 * MIB, 1)],
)
def test_as_many_runs_as_fit_go_side_by_side(room: int | None, fitting: int) -> None:
    plan = plan_runs(100 * MIB, workers=4, room=room)
    assert (plan.workers, plan.runs_bytes) == (fitting, fitting * 100 * MIB)
    assert plan.most_bytes == plan.now_bytes + plan.runs_bytes


def test_what_does_not_fit_is_refused_with_both_sizes() -> None:
    with pytest.raises(ConfigError, match="up to 100 MiB and 99 MiB are left"):
        plan_runs(100 * MIB, workers=4, room=99 * MIB)


def test_the_tightest_cgroup_bounds(tmp_path: Path) -> None:
    (tmp_path / "pod" / "box").mkdir(parents=True)
    (own := tmp_path / "own").write_text("0::/pod/box\n")
    (tmp_path / "pod" / "memory.max").write_text("max")
    (tmp_path / "pod" / "box" / "memory.max").write_text(str(status_bytes("VmRSS") + 3 * MIB))
    room = room_bytes(tmp_path, own)
    assert room is not None
    assert room <= 3 * MIB
    (tmp_path / "pod" / "memory.max").write_text("1")
    assert room_bytes(tmp_path, own) == 0
