"""What the command writes is whole, in the format that the file's name says, or refused."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.client.embed_runs import WAIT_S, counted, environment, part_of
from unitvec_client.cli.main import main

COMMANDS = {
    "embed": ("embed", "cat", "dog, 'cow'\n\"calf\""),
    "similarity": ("similarity", "cat", "dog", "cow"),
    "search": ("search", "text 7", "--documents", "docs.txt", "--top-k", "2"),
    "tokenize": ("tokenize", "two words"),
    "models": ("models",),
    "health": ("health",),
}


@pytest.fixture
def run(fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    monkeypatch.setenv("UNITVEC_TARGET", fake.target)
    monkeypatch.delenv("UNITVEC_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs.txt").write_text("\n".join(f"text {i}" for i in range(50)))
    return lambda *arguments: main([str(argument) for argument in arguments])


def names() -> list[str]:
    return sorted(path.name for path in Path.cwd().iterdir())


@pytest.mark.parametrize("name", ["v.xls", "v", "v.jsonl.gz", "v.tsv", "v.txt", ".npy"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_suffix_that_tells_no_format_is_refused(
    run: Any, fake: Any, capsys: Any, command: str, name: str
) -> None:
    assert run(*COMMANDS[command], "-o", name) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert name in said
    assert "--format" in said
    assert fake.servicer.seen == []
    assert names() == ["docs.txt"]


@pytest.mark.parametrize("name", ["v.npy", "v.NPY", "v.Npy"])
def test_case_of_a_suffix_does_not_matter(run: Any, vectors: Any, name: str) -> None:
    assert run("embed", "cat", "-o", name) == 0
    np.testing.assert_array_equal(np.load(name), vectors(["cat"]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "binary"])
def test_csv_has_whole_vectors(run: Any, dtype: str) -> None:
    (Path.cwd() / "in.jsonl").write_text(
        '{"id": 1.5, "text": "cat"}\n{"id": null, "text": "a, \\"b\\"\\nc"}\n{"id": "x"}\n'
    )
    flags = ("-i", "in.jsonl", "--dtype", dtype)
    assert run("embed", *flags, "--id-field", "id", "--with-text", "-o", "v.CSV") == 1
    assert run("embed", *flags, "-o", "v.npy") == 1
    with Path("v.CSV").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    width = 1 if dtype == "binary" else 8
    names = ["index", "line", "id", "text", "tokens", "truncated", "left_out_tokens", "error"]
    assert head == [*names, *(f"v{i}" for i in range(width))]
    assert rows[0][:8] == ["0", "1", "1.5", "cat", "3", "false", "0", ""]
    assert rows[1][:4] == ["1", "2", "", 'a, "b"\nc']
    assert rows[2][:2] + rows[2][8:] == ["2", "3"] + [""] * width
    assert "no string under 'text'" in rows[2][7]
    expected = np.load("v.npy")
    found = np.array([[float(cell) for cell in row[8:]] for row in rows[:2]]).astype(expected.dtype)
    np.testing.assert_array_equal(found, expected[:2])


def test_json_is_an_array_of_whole_vectors(run: Any, capsys: Any, vectors: Any) -> None:
    assert run(*COMMANDS["embed"], "-o", "v.json") == 0
    found = json.loads(Path("v.json").read_text())
    texts = [*COMMANDS["embed"][1:]]
    np.testing.assert_array_equal(np.float32([row["vector"] for row in found]), vectors(texts))
    capsys.readouterr()
    assert run(*COMMANDS["embed"], "-f", "json") == 0
    assert json.loads(capsys.readouterr().out) == found
    Path("none.txt").touch()
    assert run("embed", "-i", "none.txt", "-f", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_json_of_every_command_is_the_array_of_its_lines(run: Any, command: str) -> None:
    assert run(*COMMANDS[command], "-o", "a.json") == 0
    assert run(*COMMANDS[command], "-o", "a.jsonl") == 0
    lines = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert lines
    assert json.loads(Path("a.json").read_text()) == lines


def test_scores_and_hits_as_csv_are_whole(run: Any, vectors: Any) -> None:
    scores = (vectors(["cat"]) @ vectors(["dog", "cow"]).T)[0]
    assert run(*COMMANDS["similarity"], "-o", "s.csv") == 0
    head, *rows = csv.reader(Path("s.csv").read_text().splitlines())
    assert (head, [row[1:] for row in rows]) == (
        ["score", "a", "b"],
        [["cat", "dog"], ["cat", "cow"]],
    )
    np.testing.assert_allclose([float(row[0]) for row in rows], scores, rtol=1e-6)
    assert run(*COMMANDS["search"], "-o", "h.csv") == 0
    head, *rows = csv.reader(Path("h.csv").read_text().splitlines())
    assert head == ["score", "query", "line", "document"]
    assert ["text 7", "8", "text 7"] in [row[1:] for row in rows]
    assert len(rows) == 2


def test_who_reads_a_pipe_gets_all_of_each_vector(run: Any, capsys: Any, vectors: Any) -> None:
    assert run("embed", "cat") == 0
    record = json.loads(capsys.readouterr().out)
    np.testing.assert_array_equal(np.float32(record["vector"]), vectors(["cat"])[0])
    assert run("embed", "cat", "-o", "-") == 0
    assert json.loads(capsys.readouterr().out) == record
    assert names() == ["docs.txt"]


def test_tables_cut_texts_on_a_terminal_alone(run: Any, capsys: Any) -> None:
    long = "a long text " * 20
    Path("long.txt").write_text(long)
    for arguments in (("similarity", "cat", long), ("search", long, "--documents", "long.txt")):
        assert run(*arguments) == 0
        assert long.strip() in capsys.readouterr().out
    assert run("search", "q", "--documents", "long.txt", "-f", "table", "-o", "hits.txt") == 0
    assert long.strip() in Path("hits.txt").read_text()


@pytest.mark.parametrize("output", ["v.npy", "v.jsonl", "v.json", "v.csv", "v.parquet"])
def test_no_file_comes_of_texts_that_all_fail(run: Any, capsys: Any, output: str) -> None:
    Path(output).write_text("old")
    assert run("embed", "<bad> 1", "<bad> 2", "-o", output) == 1
    assert capsys.readouterr().err.endswith(f"all 2 texts failed; {output} is not written\n")
    assert Path(output).read_text() == "old"
    assert names() == ["docs.txt", output]


def test_what_is_done_is_said(run: Any, capsys: Any) -> None:
    assert run("embed", "cat", "<bad>", "dog", "-o", "v.npy") == 1
    size = Path("v.npy").stat().st_size
    end = f"unitvec: wrote v.npy: 3 rows of 8 float32 values, 1 of them failed, {size} bytes\n"
    assert capsys.readouterr().err.endswith(end)
    assert run(*COMMANDS["search"], "-o", "h.csv") == 0
    size = Path("h.csv").stat().st_size
    assert capsys.readouterr().err == f"unitvec: wrote h.csv: {size} bytes\n"
    assert run("embed", "cat", "-f", "jsonl") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "-i", "in.jsonl", "-o", "in.jsonl"),
        ("embed", "-i", "in.jsonl", "-o", "link.jsonl"),
        ("search", "q", "--documents", "in.jsonl", "-o", "./in.jsonl"),
        ("similarity", "--a", "docs.txt", "--b", "in.jsonl", "-o", "in.jsonl"),
    ],
)
def test_the_input_is_not_written_over(run: Any, capsys: Any, arguments: Any) -> None:
    Path("in.jsonl").write_text('{"text": "a"}\n')
    Path("link.jsonl").symlink_to("in.jsonl")
    assert run(*arguments) == 2
    assert "is read and would be written" in capsys.readouterr().err
    assert Path("in.jsonl").read_text() == '{"text": "a"}\n'


def limited(target: str, limit_bytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command where no file can grow past a limit, as on a disk that is full."""
    program = (
        "import resource, sys\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, hard))\n"
        "from unitvec_client.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *arguments, "--target", target]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_S, check=False, env=environment()
    )


@pytest.mark.parametrize("output", ["v.npy", "v.jsonl", "v.csv", "v.json", "v.parquet"])
def test_a_full_disk_is_named_and_the_run_goes_on_later(
    run: Any, fake: Any, tmp_path: Path, output: str
) -> None:
    (tmp_path / "in.txt").write_text("\n".join(f"text {i} of many" for i in range(3000)))
    ended = limited(fake.target, 40_000, "embed", "-i", "in.txt", "-o", output)
    assert ended.returncode == 6, ended.stderr
    assert f"unitvec: cannot write {output}: File too large" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not Path(output).exists()
    done = counted(tmp_path / output)
    assert run("embed", "-i", "in.txt", "-o", output) == 0
    assert not part_of(tmp_path / output).exists()
    assert run("embed", "-i", "in.txt", "-o", f"whole{Path(output).suffix}") == 0
    assert Path(output).read_bytes() == Path(f"whole{Path(output).suffix}").read_bytes()
    assert done < 3000


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_has_an_exit_code_of_its_own(run: Any, fake: Any, command: str) -> None:
    for flags in (("-o", "/dev/full"), ("-f", "jsonl")):
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(
                [sys.executable, "-m", "unitvec_client.cli.main", *COMMANDS[command], *flags],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=WAIT_S,
                check=False,
                env={**environment(), "UNITVEC_TARGET": fake.target},
            )
        name = "/dev/full" if flags[0] == "-o" else "standard output"
        said = f"unitvec: cannot write {name}: No space left on device\n"
        assert (ended.returncode, ended.stderr) == (6, said)


def test_exit_codes_are_in_the_help(capsys: Any) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["embed", "--help"])
    assert "6    the output cannot be written to its end" in capsys.readouterr().out


def test_too_short_a_time_says_what_to_change(run: Any, fake: Any, capsys: Any) -> None:
    Path("in.txt").write_text("\n".join(f"text {i}" for i in range(4000)))
    for arguments in (
        ("embed", "-i", "in.txt", "-o", "v.npy"),
        ("similarity", "--a", "in.txt", "--b", "in.txt", "--pairs"),
        ("search", "q", "--documents", "in.txt"),
        ("tokenize", "-i", "in.txt"),
    ):
        assert run(*arguments, "--timeout-s", "0.01") == 5
        said = capsys.readouterr().err
        assert ": the time ran out, and --timeout-s gives more\n" in said


def test_rows_on_a_terminal_come_one_by_one(fake: Any) -> None:
    """A row is there before the next text is answered, and no progress is mixed with it."""
    answered, release = iter(range(9)), threading.Event()

    def hold() -> None:
        if next(answered) == 1:
            release.wait()

    fake.servicer.before_reply = hold
    fake.servicer.limits.max_texts_per_request = 1
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "unitvec_client.cli.main", "embed", "cat", "<bad>"]
    env = {**environment(), "UNITVEC_TARGET": fake.target}
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=env)
    try:
        shown = b""
        while shown.count(b"\n") < 2:
            shown += os.read(master, 10_000)
        release.set()
        assert process.wait(WAIT_S) == 1
        while shown.count(b"\n") < 3:
            shown += os.read(master, 10_000)
    finally:
        release.set()
        process.kill()
        os.close(slave)
        os.close(master)
    lines = shown.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["line", "1", "unitvec:"]
