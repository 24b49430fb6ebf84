"""The command: formats, exit codes, files that are whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_client.cli.feed import Feed
from unitvec_client.cli.formats import NpyRows
from unitvec_client.cli.main import main
from unitvec_client.cli.output import clip
from unitvec_client.cli.rows import Row
from unitvec_client.console.records import Line
from unitvec_client.console.texts import TextSource
from unitvec_client.results import StreamItem
from unitvec_protos.v1 import embedding_pb2 as pb

BAD = "<bad>"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNITVEC_TARGET", "UNITVEC_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("UNITVEC_TARGET", fake.target)
    return lambda *arguments: main([str(argument) for argument in arguments])


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_embed_writes_json_lines(run: Any, capsys: Any, vectors: Any) -> None:
    assert run("embed", "-f", "jsonl", "one", "a text of more than six tokens") == 0
    one, two = records(capsys.readouterr().out)
    assert (one["index"], one["line"], one["tokens"], one["truncated"]) == (0, 1, 3, False)
    assert two["truncated"] is True
    assert (one["left_out_tokens"], two["left_out_tokens"]) == (0, 3)
    np.testing.assert_array_equal(np.float32(one["vector"]), vectors(["one"])[0])


def test_embed_writes_npy(run: Any, tmp_path: Path, vectors: Any) -> None:
    texts = [f"text {i}" for i in range(200)]
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n")
    assert run("embed", "-i", tmp_path / "in.txt", "-o", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors(texts))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_embed_of_an_empty_file_is_an_empty_matrix(run: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").touch()
    assert run("embed", "-i", tmp_path / "in.txt", "-o", tmp_path / "out.npy") == 0
    assert np.load(tmp_path / "out.npy").shape == (0, 8)


def test_bad_lines_are_named_and_rows_stay_in_step(
    run: Any, capsys: Any, tmp_path: Path, vectors: Any
) -> None:
    lines = [b'{"t": "a"}', b"{", b'{"t": "<bad>"}', b"", b'{"u": 1}', b'"b"', b"\xff"]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    arguments = ("embed", "-i", tmp_path / "in.jsonl", "--field", "t")
    assert run(*arguments, "-o", tmp_path / "out.npy") == 1
    found = np.load(tmp_path / "out.npy")
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, True, False, True]
    np.testing.assert_array_equal(found[[0, 4]], vectors(["a", "b"]))
    *said, done = capsys.readouterr().err.splitlines()
    assert "6 rows of 8 float32 values, 4 of them failed" in done
    assert [line.split(":")[1] for line in said] == [f" line {n}" for n in (2, 3, 5, 7)]
    assert run(*arguments, "-f", "jsonl") == 1
    out = records(capsys.readouterr().out)
    assert [(r["index"], r["line"], "error" in r) for r in out] == [
        (0, 1, False),
        (1, 2, True),
        (2, 3, True),
        (3, 5, True),
        (4, 6, False),
        (5, 7, True),
    ]


def test_failure_leaves_the_old_file(run: Any, fake: Any, make_fault: Any, tmp_path: Path) -> None:
    target = tmp_path / "out.npy"
    target.write_text("old")
    fake.servicer.fail("StreamEmbed", make_fault(grpc.StatusCode.PERMISSION_DENIED))
    assert run("embed", "a", "-o", target) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]
    assert target.read_text() == "old"


def test_similarity(run: Any, capsys: Any, vectors: Any, tmp_path: Path) -> None:
    scores = vectors(["cat"]) @ vectors(["dog", "cow"]).T
    assert run("similarity", "cat", "dog", "cow", "-f", "jsonl") == 0
    assert records(capsys.readouterr().out)[0]["scores"] == pytest.approx(scores[0].tolist())
    assert run("similarity", "cat", "dog", "cow") == 0
    assert f"{scores[0, 0]:.4f}" in capsys.readouterr().out
    assert run("similarity", "cat", "dog", "cow", "-o", tmp_path / "s.npy") == 0
    np.testing.assert_allclose(np.load(tmp_path / "s.npy"), scores, atol=1e-6)


def test_similarity_of_files(run: Any, capsys: Any, tmp_path: Path) -> None:
    for name, lines in (("a", "x\ny\n"), ("b", "y\nx\n")):
        (tmp_path / name).write_text(lines)
    files = ("--a", tmp_path / "a", "--b", tmp_path / "b", "-f", "jsonl")
    assert run("similarity", *files, "--top-k", 1) == 0
    best = [record["hits"][0] for record in records(capsys.readouterr().out)]
    assert [(hit["index"], hit["text"]) for hit in best] == [(1, "x"), (0, "y")]
    assert run("similarity", *files, "--pairs") == 0
    assert [r["b"] for r in records(capsys.readouterr().out)] == ["y", "x"]


def test_search(run: Any, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").write_text("\n".join(f"text {i}" for i in range(50)))
    search = ("search", "text 7", "--documents", tmp_path / "docs", "--top-k", 2)
    assert run(*search, "-f", "jsonl") == 0
    (record,) = records(capsys.readouterr().out)
    assert next(hit["line"] for hit in record["hits"]) == 8
    assert run(*search) == 0
    assert "text 7" in capsys.readouterr().out


def test_tokenize_models_and_health(run: Any, fake: Any, capsys: Any) -> None:
    assert run("tokenize", "two words", "-f", "jsonl") == 0
    assert records(capsys.readouterr().out)[0]["tokens"] == ["[CLS]", "two", "words", "[SEP]"]
    assert run("tokenize", "one two three four five six") == 0
    assert capsys.readouterr().out.startswith("6 of 8 tokens")
    assert run("models") == 0
    assert "first (default)" in capsys.readouterr().out
    assert run("models", "-f", "jsonl") == 0
    assert records(capsys.readouterr().out)[1]["name"] == "second"
    assert run("health") == 0
    fake.servicer.health_status = 2
    assert run("health") == 3
    assert capsys.readouterr().out == "SERVING\nNOT_SERVING\n"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.UNAVAILABLE, 3),
        (grpc.StatusCode.INVALID_ARGUMENT, 4),
        (grpc.StatusCode.NOT_FOUND, 4),
        (grpc.StatusCode.UNAUTHENTICATED, 4),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 5),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 5),
        (grpc.StatusCode.INTERNAL, 1),
    ],
)
def test_exit_codes(
    run: Any, fake: Any, make_fault: Any, capsys: Any, code: Any, exit_code: int
) -> None:
    fake.servicer.fail("ListModels", make_fault(code, "why not"))
    assert run("models", "--max-attempts", 1) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("unitvec: why not")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "a", "-f", "npy"),
        ("embed", "-i", "/does/not/exist"),
        ("embed", "a", "-o", "/does/not/exist/out.npy"),
        ("embed", "a", "--timeout-s", "-1"),
        ("embed", "a", "--token-file", "/does/not/exist"),
        ("embed", "a", "--server-name", "x"),
        ("models", "--max-attempts", "0"),
        ("similarity", "alone"),
        ("similarity", "a", "--a", "x"),
        ("similarity", "--a", "-", "--b", "-"),
        ("search", "q", "--documents", "/does/not/exist"),
        ("search", "--documents", "-", "--queries", "-"),
    ],
)
def test_usage_errors_are_2_and_one_line(run: Any, capsys: Any, arguments: Any) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_parser_errors_are_2(run: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("embed", "--nonsense")
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    assert "exit codes:" in capsys.readouterr().out


def test_token_comes_from_environment_or_file(
    run: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNITVEC_TOKEN", "one")
    assert run("models") == 0
    (tmp_path / "token").write_text("two\n")
    assert run("models", "--token-file", tmp_path / "token") == 0
    sent = [call.metadata["authorization"] for call in fake.servicer.calls("ListModels")]
    assert sent == ["Bearer one", "Bearer two"]


def start(fake: Any, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "unitvec_client.cli.main", *arguments]
    env = {**os.environ, "UNITVEC_TARGET": fake.target}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=env)


def test_reader_that_goes_away_ends_the_command_quietly(fake: Any) -> None:
    process = start(fake, "embed", "-f", "jsonl", *[f"text {i}" for i in range(2000)])
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


def test_interrupt_ends_the_command_and_leaves_no_file(fake: Any, tmp_path: Path) -> None:
    arrived, release = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        release.wait()

    fake.servicer.before_reply = hold
    process = start(fake, "embed", "a", "-o", str(tmp_path / "out.npy"))
    try:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        release.set()
        process.kill()
    assert (process.returncode, err) == (130, b"")
    assert list(tmp_path.iterdir()) == []


def test_standard_input_is_the_default(fake: Any) -> None:
    process = start(fake, "embed", "-f", "jsonl")
    out, err = process.communicate("eins\r\nzwei ü\n\n".encode(), timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert [record["tokens"] for record in records(out.decode())] == [3, 4, 2]


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=20))
def test_feed_keeps_good_and_bad_lines_in_order(texts: list[str | None]) -> None:
    lines = [Line(number, text) for number, text in enumerate(texts, start=1)]
    feed = Feed(lines)
    passed = list(feed.texts())
    seen = []
    for _ in passed:
        seen += [line.number for line in feed.take_bad()]
        seen.append(feed.take_good().number)
    seen += [line.number for line in feed.take_bad()]
    assert passed == [text for text in texts if text is not None]
    assert seen == [line.number for line in lines]


def test_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\xef\xbb\xbfone\r\n\xef\xbb\xbftwo")
    assert TextSource(path=str(tmp_path / "in")).texts() == ["one", "\ufefftwo"]


@given(
    st.lists(st.booleans(), max_size=20),
    st.sampled_from([np.float32, np.float16, np.uint8]),
    st.integers(1, 5),
)
def test_npy_rows_are_what_was_written(present: list[bool], dtype: Any, width: int) -> None:
    rows = NpyRows(np.empty((0, width), dtype))
    content = rows.head()
    for index, there in enumerate(present):
        item = StreamItem(index, np.full(width, index, dtype)) if there else None
        content += rows.encode(Row(index, Line(index + 1, "text"), item))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        path.write_bytes(content)
        found = np.load(rows.finish(path))
    assert (found.shape, found.dtype) == ((len(present), width), dtype)
    missing = np.nan if np.dtype(dtype).kind == "f" else 0
    for index, there in enumerate(present):
        np.testing.assert_array_equal(found[index], np.full(width, index if there else missing))


def test_clip_keeps_a_cell_on_one_line() -> None:
    assert clip("a\n b\t\x00c") == "a b ·c"
    assert clip("x" * 50, 10) == "x" * 9 + "…"


def test_output_goes_through_a_link(run: Any, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    assert run("embed", "a", "-f", "jsonl", "-o", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert len(records((tmp_path / "real").read_text())) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_output_to_a_pipe_is_written_into_it(run: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert run("embed", "a", "-f", "jsonl", "-o", pipe) == 0
    assert pipe.is_fifo()
    reader.join(10)
    assert len(records(read[0])) == 1


def test_output_that_cannot_be_written_is_a_usage_error(
    run: Any, fake: Any, capsys: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "circle").symlink_to("circle")
    for target in (tmp_path, tmp_path / "pipe.npy"):
        assert run("embed", "a", "-o", target) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert run("embed", "a", "-o", tmp_path / "circle") == 2
    assert (tmp_path / "pipe.npy").is_fifo()
    assert not fake.servicer.calls("StreamEmbed")


def test_refused_flag_is_said_once(run: Any, fake: Any, capsys: Any) -> None:
    error = pb.Error(code=3, field="options.prompt_name", message="no prompt 'nope'")
    fake.servicer.item_errors.append(error)
    assert run("embed", "a", "b", "c", "d", "--prompt-name", "nope") == 4
    captured = capsys.readouterr()
    assert captured.err.startswith("unitvec: no prompt 'nope'")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
