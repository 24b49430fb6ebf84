"""`unitvec embed` into a file: what was done before an end of any kind is not lost or doubled."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.client.embed_runs import WAIT_S, counted, part_of, start, wait
from unitvec_client.cli.formats import JsonRows, NpyRows
from unitvec_client.cli.main import main

FORMATS = ("npy", "jsonl", "json", "csv", "parquet")
TEXTS = [f"text number {i}" for i in range(400)]


@pytest.fixture
def run(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("UNITVEC_TARGET", fake.target)
    monkeypatch.delenv("UNITVEC_TOKEN", raising=False)
    return lambda *arguments: main(["embed", *map(str, arguments)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("\n".join(TEXTS))
    return path


@pytest.fixture
def cut_short(run: Any, fake: Any, make_fault: Any, source: Path) -> Callable[..., Path]:
    """Runs until the server is gone, after 10 of 25 requests, and leaves the server well."""

    def begin(output: Path, *flags: str) -> Path:
        answered = iter(range(10_000))

        def vanish() -> None:
            if next(answered) == 10:
                gone = make_fault(grpc.StatusCode.UNAVAILABLE, "gone")
                fake.servicer.fail("StreamEmbed", *[gone] * 9)

        fake.servicer.break_after.append(11)
        fake.servicer.before_reply = vanish
        assert run("-i", source, "-o", output, "--max-attempts", 2, *flags) == 3
        fake.servicer.faults.clear()
        fake.servicer.before_reply = lambda: None
        assert 0 < counted(output) < len(TEXTS)
        return output

    return begin


@pytest.mark.parametrize(
    ("kind", "flags"), [*((kind, ()) for kind in FORMATS), ("parquet", ("--dtype", "int8"))]
)
def test_goes_on_when_the_server_is_back(
    run: Any,
    cut_short: Any,
    fake: Any,
    capsys: Any,
    source: Path,
    tmp_path: Path,
    kind: str,
    flags: Any,
) -> None:
    output = cut_short(tmp_path / f"out.{kind}", *flags)
    done = counted(output)
    assert f"{done} texts are done and kept; the same command goes on" in capsys.readouterr().err
    fake.servicer.seen.clear()
    assert run("-i", source, "-o", output, *flags) == 0
    (call,) = fake.servicer.calls("StreamEmbed")
    sent = [text for message in call.requests for text in message.request.texts]
    assert sent == TEXTS[done:]
    assert run("-i", source, "-o", tmp_path / f"whole.{kind}", *flags) == 0
    assert output.read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([source, output, tmp_path / f"whole.{kind}"])


def test_interrupt_keeps_what_is_counted(run: Any, fake: Any, source: Path, tmp_path: Path) -> None:
    output, arrived, release = tmp_path / "out.npy", threading.Event(), threading.Event()
    source.write_text("\n".join(f"text {i}" for i in range(2000)))
    answered = iter(range(10_000))

    def hold() -> None:
        if next(answered) == 100:
            arrived.set()
            release.wait()

    fake.servicer.before_reply = hold
    process = start(fake.target, "-i", source, "-o", output)
    try:
        assert arrived.wait(WAIT_S)
        process.send_signal(signal.SIGINT)
        code, said = wait(process)
    finally:
        release.set()
        process.kill()
    done = counted(output)
    assert code == 130
    assert (
        said == f"unitvec: {done:,} texts are done and kept; the same command goes on from there\n"
    )
    assert run("-i", source, "-o", output) == 0
    assert run("-i", source, "-o", tmp_path / "whole.npy") == 0
    assert output.read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize("tail", [b"", b"\0", b"torn", b"x" * 5000])
def test_a_torn_tail_is_cut_off(
    run: Any, cut_short: Any, vectors: Any, source: Path, tmp_path: Path, tail: bytes
) -> None:
    output = cut_short(tmp_path / "out.npy")
    with (part_of(output) / "rows").open("ab") as file:
        file.write(tail)
    assert run("-i", source, "-o", output) == 0
    np.testing.assert_array_equal(np.load(output), vectors(TEXTS))


def test_rows_that_are_gone_are_not_made_up(
    run: Any, cut_short: Any, capsys: Any, source: Path, tmp_path: Path
) -> None:
    output = cut_short(tmp_path / "out.npy")
    os.truncate(part_of(output) / "rows", 200)
    assert run("-i", source, "-o", output) == 2
    assert "--restart" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 0}', '{"version": 1}'])
def test_a_journal_that_makes_no_sense_is_refused(
    run: Any, cut_short: Any, capsys: Any, source: Path, tmp_path: Path, content: str
) -> None:
    output = cut_short(tmp_path / "out.npy")
    (part_of(output) / "journal.json").write_text(content)
    capsys.readouterr()
    assert run("-i", source, "-o", output) == 2
    assert "--restart" in capsys.readouterr().err
    assert run("-i", source, "-o", output, "--restart") == 0


@pytest.mark.parametrize("change", ["edited", "shorter", "inserted"])
def test_another_input_is_refused(
    run: Any, cut_short: Any, capsys: Any, vectors: Any, source: Path, tmp_path: Path, change: str
) -> None:
    output = cut_short(tmp_path / "out.npy")
    changed = {"edited": ["other", *TEXTS[1:]], "shorter": TEXTS[:9], "inserted": ["", *TEXTS]}
    source.write_text("\n".join(changed[change]))
    capsys.readouterr()
    before = counted(output)
    assert run("-i", source, "-o", output) == 2
    said = capsys.readouterr().err
    assert "the input are not what they were" in said
    assert said.count("\n") == 1
    assert counted(output) == before
    assert run("-i", source, "-o", output, "--restart") == 0
    np.testing.assert_array_equal(np.load(output), vectors(changed[change]))


def test_an_input_that_has_grown_goes_on(
    run: Any, cut_short: Any, vectors: Any, source: Path, tmp_path: Path
) -> None:
    output = cut_short(tmp_path / "out.npy")
    source.write_text("\n".join([*TEXTS, "new"]))
    assert run("-i", source, "-o", output) == 0
    np.testing.assert_array_equal(np.load(output), vectors([*TEXTS, "new"]))


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--dtype", "float16"), "dtype was 'float32' and is 'float16'"),
        (("--dimensions", 4), "dimensions was None and is 4"),
        (("--model", "second"), "dim was 8 and is 4"),
        (("--no-normalize",), "normalize was True and is False"),
        (("--format", "jsonl"), "format was 'npy' and is 'jsonl'"),
    ],
)
def test_other_options_are_refused(
    run: Any, cut_short: Any, capsys: Any, source: Path, tmp_path: Path, flags: Any, named: str
) -> None:
    output = cut_short(tmp_path / "out.npy")
    assert run("-i", source, "-o", output, *flags) == 2
    assert named in capsys.readouterr().err
    assert run("-i", source, "-o", output, "--truncate", "model") == 0  # The default, said aloud.


def test_another_model_is_refused(
    run: Any, fake: Any, cut_short: Any, capsys: Any, source: Path, tmp_path: Path
) -> None:
    output = cut_short(tmp_path / "out.npy")

    def retrained(response: Any) -> None:
        if hasattr(response, "models"):
            response.models[0].revision = "2"

    fake.servicer.mangle = retrained
    assert run("-i", source, "-o", output) == 2
    assert "revision was '' and is '2'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", FORMATS)
def test_killed_while_it_finishes(
    run: Any, cut_short: Any, vectors: Any, source: Path, tmp_path: Path, kind: str
) -> None:
    """What finishing leaves, step by step, is begun again from rows that are still all there."""
    output = cut_short(tmp_path / f"out.{kind}")
    rows = part_of(output) / "rows"
    if kind == "npy":
        NpyRows(np.empty((0, 8), np.float32)).finish(rows)
    if kind == "json":
        JsonRows(array=True).finish(rows)
    (part_of(output) / "rows.parquet").write_bytes(b"PAR1 and no more")
    (part_of(output) / "journal.new").write_bytes(b"{")
    assert run("-i", source, "-o", output) == 0
    assert run("-i", source, "-o", tmp_path / f"whole.{kind}") == 0
    assert output.read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()


def test_killed_just_after_it_finished(
    run: Any, cut_short: Any, vectors: Any, source: Path, tmp_path: Path
) -> None:
    output = cut_short(tmp_path / "out.npy")
    (part_of(output) / "rows").rename(output)
    assert run("-i", source, "-o", output) == 0
    np.testing.assert_array_equal(np.load(output), vectors(TEXTS))
    assert not part_of(output).exists()


def test_two_at_a_time_are_refused(
    run: Any, fake: Any, capsys: Any, source: Path, tmp_path: Path
) -> None:
    output, codes = tmp_path / "out.npy", []

    def intrude() -> None:
        if not codes:
            codes.append(run("-i", source, "-o", output))

    fake.servicer.before_reply = intrude
    assert run("-i", source, "-o", output) == 0
    assert codes == [2]
    assert "another process is writing" in capsys.readouterr().err


def test_a_failure_before_the_end_still_counts_after_it(
    run: Any, cut_short: Any, capsys: Any, source: Path, tmp_path: Path
) -> None:
    source.write_text("\n".join(["a <bad> text", *TEXTS]))
    output = cut_short(tmp_path / "out.npy")
    assert "line 1: texts[0] is bad" in capsys.readouterr().err
    assert run("-i", source, "-o", output) == 1
    assert np.isnan(np.load(output)).all(axis=1).nonzero()[0].tolist() == [0]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_errors_count_from_the_start_of_the_input(
    run: Any, cut_short: Any, capsys: Any, source: Path, tmp_path: Path, kind: str
) -> None:
    """Also where lines before could not be read, and so were never sent."""
    lines = [text.encode() for text in TEXTS]
    lines[3], lines[380] = b"\xff", b"a <bad> text"
    source.write_bytes(b"\n".join(lines))
    output = cut_short(tmp_path / f"out.{kind}")
    capsys.readouterr()
    assert run("-i", source, "-o", output) == 1
    assert "line 381: texts[380] is bad" in capsys.readouterr().err
    assert run("-i", source, "-o", tmp_path / f"whole.{kind}") == 1
    assert output.read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
