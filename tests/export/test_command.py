"""The command as a process: what it prints, and what is left when it is stopped."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.models import TinyModel
from unitvec_export.writer import staged
from unitvec_server.model.artifact import load_artifact, verify_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def running(*args: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Runs `unitvec-export`; killed if it is still there at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unitvec_export.cli", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], start: str) -> None:
    """Reads what it prints up to the line of a finished step."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return
    pytest.fail(f"it ended before {start}")


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every file."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


class Hub(http.server.BaseHTTPRequestHandler):
    """The three calls of the model hub that a download needs, over a folder."""

    folder: Path
    model_id: str

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{self.model_id}"):
            answer = self._tree() if "/tree/" in path else self._info()
            self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})
            return
        match = re.fullmatch(rf"/{self.model_id}/resolve/\w+/(.+)", path)
        file = self.folder / match[1] if match else self.folder
        if not file.is_file():
            missing = "EntryNotFound" if match else "RepoNotFound"
            self._send(b"{}", {"X-Error-Code": missing}, status=404)
            return
        content = file.read_bytes()
        tag = hashlib.sha1(content).hexdigest()
        self._send(content, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    def _names(self) -> list[str]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return [str(path.relative_to(self.folder)) for path in files]

    def _tree(self) -> list[dict[str, object]]:
        size = {name: (self.folder / name).stat().st_size for name in self._names()}
        return [{"type": "file", "path": name, "size": size[name], "oid": ""} for name in size]

    def _info(self) -> dict[str, object]:
        siblings = [{"rfilename": name} for name in self._names()]
        return {"id": self.model_id, "sha": COMMIT, "siblings": siblings}

    def _send(self, content: bytes, headers: dict[str, str], *, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def hub(tiny_model: Callable[[TinyModel], Path]) -> Iterator[str]:
    """Address of a hub that has one model, `someone/tiny`."""
    handler = type("OneModelHub", (Hub,), {})
    handler.folder, handler.model_id = tiny_model(TinyModel()), "someone/tiny"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.deep
def test_from_the_hub(hub: str, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    args = ("someone/tiny", "--out", str(out), "--precision", "int8,fp16")
    with running(*args, HF_ENDPOINT=hub, HF_HOME=str(tmp_path / "cache")) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert stderr == ""
    assert re.findall(r"^\[(\d)/6\] .+ \.\.\. \d+\.\d s$", stdout, re.MULTILINE) == list("123456")
    for precision in ("fp32", "int8", "fp16"):
        row = rf"^{precision} +\d+ +[01]\.\d{{7}} +[01]\.\d{{7}} +\d\.\de-\d\d +\d+\.\d$"
        assert re.search(row, stdout, re.MULTILINE)
    assert "--precision int8" in stdout
    assert stdout.endswith(f"unitvec-serve --model {out}\n")
    artifact = load_artifact(out)
    manifest = artifact.manifest
    assert (manifest.model_id, manifest.revision) == ("someone/tiny", COMMIT)
    for file in (manifest.tokenizer, *(graph.file for graph in manifest.graphs.values())):
        verify_file(artifact, file)
    assert manifest.graphs["fp16"].parity.cosine_min > 0.99


@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        ("someone/else", (), "neither a folder nor a model of the hub"),
        ("someone/tiny", ("--offline",), "local hub cache"),
        ("not a name!", (), "neither a folder nor a model of the hub"),
    ],
)
def test_not_on_the_hub(
    hub: str, tmp_path: Path, model: str, args: tuple[str, ...], message: str
) -> None:
    assert message in one_line(hub, tmp_path, model, *args)


def test_an_unreachable_hub(tmp_path: Path) -> None:
    # Nothing listens on the discard port of this machine.
    line = one_line("http://127.0.0.1:9", tmp_path, "someone/tiny")
    assert "the hub cannot be reached" in line


@pytest.mark.parametrize(
    ("home", "folder", "environment"),
    [
        ("HF_HOME", "hub", {"HF_HUB_OFFLINE": "1"}),
        ("HF_HOME", "hub", {"HF_ENDPOINT": "http://127.0.0.1:9"}),  # nothing listens there
        ("SENTENCE_TRANSFORMERS_HOME", "", {"TRANSFORMERS_OFFLINE": "1"}),
    ],
)
def test_from_the_hubs_cache(
    home: str,
    folder: str,
    environment: dict[str, str],
    tiny_model: Callable[[TinyModel], Path],
    tmp_path: Path,
) -> None:
    repository = tmp_path / "cache" / folder / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(tiny_model(TinyModel()), repository / "snapshots" / COMMIT)
    out = tmp_path / "tiny"
    environment = {home: str(tmp_path / "cache"), **environment}
    with running("someone/tiny", "--out", str(out), **environment) as process:
        stderr = process.communicate()[1]
    assert (process.returncode, stderr) == (0, "")
    manifest = load_artifact(out).manifest
    assert (manifest.model_id, manifest.revision) == ("someone/tiny", COMMIT)


def one_line(endpoint: str, tmp_path: Path, *args: str) -> str:
    """The one line of an export that fails for its MODEL."""
    out = tmp_path / "out" / "model"
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache")}
    with running(*args, "--out", str(out), **environment) as process:
        stderr = process.communicate()[1]
    assert process.returncode == 2
    assert stderr.count("\n") == 1
    assert list(out.parent.iterdir()) == []
    return stderr


@pytest.mark.deep
@pytest.mark.parametrize(
    ("number", "step", "former"),
    [
        (signal.SIGINT, "[1/6]", True),
        (signal.SIGTERM, "[2/6]", False),
        (signal.SIGKILL, "[3/6]", True),
        (signal.SIGINT, "[5/6]", False),
        (signal.SIGTERM, "[6/6]", True),
    ],
)
def test_stopped_at_any_moment(
    number: signal.Signals,
    step: str,
    former: bool,
    tiny_model: Callable[[TinyModel], Path],
    artifact: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "model"
    if former:
        shutil.copytree(artifact, out)
    before = files_of(out) if former else None
    args = (str(tiny_model(TinyModel(pooling="cls"))), "--out", str(out))
    with running(*args) as process:
        read_until(process, step)
        process.send_signal(number)
        stderr = process.communicate()[1]
    assert "Traceback" not in stderr
    if step != "[6/6]":
        assert (files_of(out) if out.exists() else None) == before
    if number != signal.SIGKILL and step != "[6/6]":
        assert process.returncode == 128 + number
        assert stderr.strip() == "unitvec-export: interrupted; no partial output was left"
        assert list(tmp_path.iterdir()) == ([out] if former else [])
    with staged(out) as stage:
        shutil.copytree(artifact, stage, dirs_exist_ok=True)
    assert list(tmp_path.iterdir()) == [out]
    assert load_artifact(out).manifest.pooling == "mean"


def test_help_needs_no_model_libraries() -> None:
    with running("--help") as process:
        stdout = process.communicate()[0]
    assert process.returncode == 0
    for flag in ("--out", "--precision", "--opset", "--revision", "--offline"):
        assert flag in stdout


def test_a_stop_that_python_drops_comes_again() -> None:
    """Exceptions in callbacks of weak references go nowhere; the stop must not."""
    program = """
import signal, threading, weakref
from unitvec_export.cli import _Signals

class Thing: pass

with _Signals():
    thing = Thing()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    del thing
    threading.Event().wait(60)
print("it goes on")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "")
    assert done.stderr == "\nunitvec-export: interrupted; no partial output was left\n"


def test_a_stop_that_python_drops_at_the_end_does_not_come_later() -> None:
    """It ends the program where its work is done, not in the middle of the interpreter's end."""
    program = """
import signal, threading, weakref
from unitvec_export.cli import _Signals

class Thing: pass

try:
    with _Signals():
        thing = Thing()
        watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
        del thing
finally:
    print(signal.setitimer(signal.ITIMER_REAL, 0))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "(0.0, 0.0)\n")
    assert done.stderr == "\nunitvec-export: interrupted; no partial output was left\n"


@pytest.mark.parametrize("arguments", [["--list"], ["--verify", "{artifact}"]])
def test_a_reader_that_goes_away_ends_it_quietly(
    arguments: list[str], tmp_path: Path, artifact: Path
) -> None:
    arguments = [part.format(artifact=artifact) for part in arguments]
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        program = [sys.executable, "-m", "unitvec_export.cli", *arguments]
        done = subprocess.run(
            program, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write_end)
    assert (done.stderr, done.returncode) == ("", 141)
