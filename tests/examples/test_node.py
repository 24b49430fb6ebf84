"""The Node example against the live server: the Python client's vectors, and bounded memory."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corpora import load_glosses
from unitvec_client import Client

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
NPM = shutil.which("npm")
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT")
NO_SERVER = "127.0.0.1:1"
TEXTS = ["a cat on a mat", "a feline on a rug", "", "Häuschen, 日本語 🐈", "\tbank  loan\u2028"]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of examples/node, its packages installed as the lock file says."""
    if NODE is None or NPM is None:
        pytest.skip("node and npm are not installed")
    root = tmp_path_factory.mktemp("tree")
    folder = root / "examples" / "node"
    shutil.copytree(
        ROOT / "examples" / "node", folder, ignore=shutil.ignore_patterns("node_modules")
    )
    shutil.copytree(ROOT / "protos" / "unitvec", root / "protos" / "unitvec")
    done = subprocess.run(
        [NPM, "ci", "--no-progress"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    if done.returncode and any(word in done.stderr for word in UNREACHABLE):
        pytest.skip(f"npm ci reaches no registry: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def run(example: Path, target: str) -> Run:
    """Runs the program with these words."""

    def run(*words: str, target: str = target) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _command(example, target, words),
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def _command(example: Path, target: str, words: Sequence[str]) -> list[str]:
    assert NODE is not None
    return [NODE, str(example / "main.js"), "--target", target, *words]


def test_types_are_sound(example: Path) -> None:
    assert NPM is not None
    done = subprocess.run(
        [NPM, "run", "check"], cwd=example, check=False, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout


def test_lock_file_names_no_host_and_has_hashes() -> None:
    packages = json.loads((ROOT / "examples/node/package-lock.json").read_text())["packages"]
    packages.pop("")
    assert "@grpc/grpc-js" in {name.removeprefix("node_modules/") for name in packages}
    assert all("resolved" not in package for package in packages.values())
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())


def test_vectors_are_those_of_the_python_client(run: Run, client: Client) -> None:
    expected = client.embed(TEXTS)  # The server's cache has them from here on, bit for bit.
    printed = run("embed", "--json", "--", *TEXTS)
    assert printed.returncode == 0, printed.stderr
    reply = json.loads(printed.stdout)
    assert reply["model"] == "all-MiniLM-L6-v2"
    np.testing.assert_array_equal(_float32(reply["vectors"]), expected)


def test_embed_shows_shape_and_texts(run: Run) -> None:
    printed = run("embed", *TEXTS[:2]).stdout
    assert printed.startswith("2 vectors of 384 float32, by all-MiniLM-L6-v2\n")
    assert all(text in printed for text in TEXTS[:2])


def test_similarity_ranks_as_the_python_client(run: Run, client: Client) -> None:
    query, documents = "money", [*TEXTS[:2], "bank loan"]
    printed = run("similarity", "--json", query, *documents)
    assert printed.returncode == 0, printed.stderr
    ranked = json.loads(printed.stdout)
    scores = dict(zip(documents, client.similarity([query], documents)[0], strict=True))
    assert [item["text"] for item in ranked] == sorted(scores, key=lambda text: -scores[text])
    assert ranked[0]["text"] == "bank loan"
    for item in ranked:
        assert item["score"] == pytest.approx(scores[item["text"]], abs=1e-6)


def test_a_stream_answers_every_line_by_its_number(
    run: Run, client: Client, tmp_path: Path
) -> None:
    texts = [gloss.text for gloss in load_glosses(300)]
    expected = client.embed(texts)
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(texts), "utf-8")  # The last line has no newline.
    done = run("stream", str(file))
    assert done.returncode == 0, done.stderr
    rows = sorted((json.loads(line) for line in done.stdout.splitlines()), key=_number)
    assert [row["id"] for row in rows] == [str(number + 1) for number in range(len(texts))]
    np.testing.assert_array_equal(_float32([row["vector"] for row in rows]), expected)


def test_bad_lines_cost_only_themselves(run: Run, client: Client, tmp_path: Path) -> None:
    lines = [b"first", b"x" * 300_000, b"\xff\xfe", b"", b"word " * 400, b"last\r"]
    vectors = client.embed(["first", "", "last"])
    file = tmp_path / "lines.txt"
    file.write_bytes(b"\n".join(lines))
    done = run("stream", "--truncate", "error", str(file))
    assert done.returncode == 3, done.stderr
    rows = {row["id"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows.keys() == {"1", "2", "3", "4", "5", "6"}
    for vector, number in zip(vectors, "146", strict=True):
        np.testing.assert_array_equal(_float32(rows[number]["vector"]), vector)
    assert "300000 bytes" in rows["2"]["error"]["message"]
    assert "UTF-8" in rows["3"]["error"]["message"]
    error = rows["5"]["error"]
    assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", "TEXT_TOO_LONG")
    assert error["field"] == "texts[0]"
    assert error["requestId"]
    assert done.stderr.startswith("3 vectors, 3 errors;")


def test_a_slow_reader_slows_down_the_source(example: Path, target: str) -> None:
    """Replies are read only while no more lines are taken, so all buffers are always full."""
    glosses = [gloss.text for gloss in load_glosses(300)] * 10
    lines = [(text.ljust(1023) + "\n").encode()[:1024] for text in glosses]
    most_in_flight = 32
    words = ("stream", "--max-in-flight", str(most_in_flight))
    process = subprocess.Popen(
        _command(example, target, words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        farthest_ahead, replies = _feed_and_read(process, lines)
        assert process.stderr is not None
        summary = process.stderr.read().decode()
    assert process.returncode == 0, summary
    assert len({json.loads(reply)["id"] for reply in replies}) == len(lines)
    found = re.search(r"3000 vectors, 0 errors; at most (\d+) of 32 in flight", summary)
    assert found is not None
    assert int(found[1]) <= most_in_flight
    # Two pipes and two buffers of at most 64 KiB hold the rest.
    assert farthest_ahead <= most_in_flight + 4 * 64


def _feed_and_read(
    process: subprocess.Popen[bytes], lines: Sequence[bytes]
) -> tuple[int, list[bytes]]:
    """Returns by how many lines the program was ever ahead of its reader, and its output."""
    assert process.stdin is not None
    assert process.stdout is not None
    waiting, replies, farthest = b"".join(lines), [], 0
    os.set_blocking(process.stdin.fileno(), False)
    while waiting:
        _, writable, _ = select.select([], [process.stdin], [], 0)
        if writable:
            waiting = waiting[os.write(process.stdin.fileno(), waiting[: select.PIPE_BUF]) :]
            taken = len(lines) - len(waiting) // len(lines[0])
            farthest = max(farthest, taken - len(replies))
        else:
            replies.append(process.stdout.readline())
    process.stdin.close()
    return farthest, replies + process.stdout.readlines()


@pytest.mark.parametrize("words", [("embed", "a text"), ("stream", os.devnull)])
def test_no_server_at_the_target(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words, target=NO_SERVER)
    assert done.returncode == 1
    assert done.stderr.startswith("unitvec: UNAVAILABLE: ")
    assert NO_SERVER in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_errors_of_calls_show_reason_and_field(run: Run) -> None:
    done = run("embed", "--truncate", "error", "word " * 400)
    assert done.returncode == 1
    assert re.fullmatch(
        r"unitvec: INVALID_ARGUMENT TEXT_TOO_LONG: .+ \(at texts\[0\], request \w+\)\n", done.stderr
    )


def test_a_deadline_ends_the_call(run: Run) -> None:
    done = run("embed", "--timeout-s", "0.000001", "a text")
    assert done.returncode == 1
    assert "DEADLINE_EXCEEDED" in done.stderr


@pytest.mark.parametrize(
    "words", [(), ("embbed", "x"), ("embed",), ("similarity", "x"), ("embed", "--no-such-flag")]
)
def test_wrong_usage(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("unitvec: ")


def test_a_reader_that_leaves_ends_the_stream_quietly(
    example: Path, target: str, tmp_path: Path
) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(gloss.text for gloss in load_glosses(300)), "utf-8")
    process = subprocess.Popen(
        _command(example, target, ("stream", str(file))),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def _number(row: dict[str, Any]) -> int:
    return int(row["id"])


def _float32(values: Any) -> NDArray[np.float32]:
    wide = np.array(values, np.float64)
    narrow = wide.astype(np.float32)
    np.testing.assert_array_equal(narrow, wide)  # Nothing was lost on the way.
    return narrow
