"""The output folder is whole at every moment, whatever happens."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unitvec_export.errors import ExportError, InputError
from unitvec_export.writer import move_aside, staged
from unitvec_server.model.artifact import MANIFEST_FILE
from unitvec_server.model.manifest import FORMAT

# Replaces an artifact again and again; the manifest and the other files carry its number.
_REPLACE_FOR_EVER = """
import itertools, json, sys
from pathlib import Path
from unitvec_export.writer import staged
for number in itertools.count(int(sys.argv[2])):
    with staged(Path(sys.argv[1])) as stage:
        (stage / "tokenizer.json").write_text(str(number))
        (stage / "model.fp32.onnx").write_text(str(number) * 100_000)
        manifest = {"format": "unitvec-artifact", "number": number}
        (stage / "manifest.json").write_text(json.dumps(manifest))
    print(number, flush=True)
"""
# Stops with everything but the manifest written.
_HANG = """
import sys
from pathlib import Path
from unitvec_export.writer import staged
with staged(Path(sys.argv[1])) as stage:
    (stage / "model.fp32.onnx").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def write(folder: Path, content: str) -> None:
    """Writes something that passes for an artifact."""
    (folder / "tokenizer.json").write_text(content)
    (folder / MANIFEST_FILE).write_text(json.dumps({"format": FORMAT, "content": content}))


def content_of(folder: Path) -> str:
    """What `write` has written there."""
    assert {path.name for path in folder.iterdir()} == {"tokenizer.json", MANIFEST_FILE}
    content = (folder / "tokenizer.json").read_text()
    assert json.loads((folder / MANIFEST_FILE).read_text())["content"] == content
    return content


def names(folder: Path) -> list[str]:
    """Names of all entries, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def write_and_fail(out: Path, error: BaseException) -> None:
    """An export that fails with everything written."""
    with staged(out) as stage:
        write(stage, "new")
        raise error


def write_while_a_folder_appears(out: Path) -> None:
    """An export during which somebody makes a folder of the same name."""
    with staged(out) as stage:
        write(stage, "new")
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a script that is killed at the end."""
    running: list[subprocess.Popen[str]] = []

    def run(script: str, *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *args]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def test_a_new_folder_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "model"
    with staged(out) as stage:
        write(stage, "new")
        assert not out.exists()
    assert content_of(out) == "new"
    assert names(out.parent) == ["model"]
    assert out.stat().st_mode & 0o777 == out.parent.stat().st_mode & 0o777


def test_an_artifact_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "model"
    for content in ("old", "new"):
        with staged(out) as stage:
            write(stage, content)
            if content == "old":
                (stage / "model.int8.onnx").write_text("x")
    assert content_of(out) == "new"
    assert names(tmp_path) == ["model"]


def test_an_artifact_that_lost_its_manifest_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with staged(out) as stage:
        write(stage, "old")
        (stage / "model.fp32.onnx").write_text("x")
    (out / MANIFEST_FILE).unlink()
    with staged(out) as stage:
        write(stage, "new")
    assert content_of(out) == "new"


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    with staged(out) as stage:
        write(stage, "new")
    assert content_of(out) == "new"


def test_a_link_keeps_pointing_at_the_folder(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    with staged(tmp_path / "current") as stage:
        write(stage, "new")
    assert (tmp_path / "current").is_symlink()
    assert content_of(tmp_path / "v1") == "new"


@pytest.mark.parametrize("error", [ExportError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "model"
    with staged(out) as stage:
        write(stage, "old")
    with pytest.raises(type(error)):
        write_and_fail(out, error)
    assert content_of(out) == "old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "years of work"},
        {MANIFEST_FILE: json.dumps({"format": FORMAT}), "notes.txt": "mine"},
        {MANIFEST_FILE: json.dumps({"name": "a web app"})},
        {MANIFEST_FILE: "not json"},
        {"tokenizer.json": "{}"},
    ],
)
def test_what_is_not_ours_is_never_deleted(tmp_path: Path, files: dict[str, str]) -> None:
    out = tmp_path / "model"
    out.mkdir()
    for name, text in files.items():
        (out / name).write_text(text)
    with pytest.raises(InputError, match="choose another --out"), staged(out):
        pass
    assert {path.name: path.read_text() for path in out.iterdir()} == files
    assert names(tmp_path) == ["model"]


def test_what_appears_meanwhile_is_not_deleted(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with pytest.raises(InputError, match=r"thesis\.tex"):
        write_while_a_folder_appears(out)
    assert names(out) == ["thesis.tex"]
    assert names(tmp_path) == ["model"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(InputError, match="file is a file, not a folder"), staged(out):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unwritable_folder() -> None:
    # Nobody can make files there, not even root.
    with pytest.raises(InputError, match="cannot write to /proc"), staged(Path("/proc/model")):
        pass


def test_a_full_disk(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with staged(out) as stage:
        write(stage, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(ExportError, match="cannot write"), staged(out) as stage:
            write(stage, "x" * 2**21)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content_of(out) == "old"
    assert names(tmp_path) == ["model"]


def test_two_renames_where_one_is_not_to_be_had(tmp_path: Path) -> None:
    stage, out = tmp_path / ".model.tmp-1", tmp_path / "model"
    for folder, content in ((stage, "new"), (out, "old")):
        folder.mkdir()
        write(folder, content)
    move_aside(stage, out)
    assert content_of(out) == "new"
    assert names(tmp_path) == ["model"]


def test_two_renames_are_undone(tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    write(out, "old")
    with pytest.raises(FileNotFoundError):
        move_aside(tmp_path / ".model.tmp-1", out)
    assert content_of(out) == "old"
    assert names(tmp_path) == ["model"]


def test_what_was_set_aside_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "model"
    former = tmp_path / ".model.tmp-1-aside" / "former"
    former.mkdir(parents=True)
    write(former, "old")
    with pytest.raises(ExportError), staged(out):
        raise ExportError("failed early")
    assert content_of(out) == "old"
    assert names(tmp_path) == ["model"]


def test_killed_half_way(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    out = tmp_path / "model"
    with staged(out) as stage:
        write(stage, "old")
    process = start(_HANG, str(out))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    assert content_of(out) == "old"
    assert len(names(tmp_path)) == 2
    with staged(out) as stage:
        write(stage, "new")
    assert content_of(out) == "new"
    assert names(tmp_path) == ["model"]


def test_a_running_export_is_not_swept_away(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / "model"
    process = start(_HANG, str(out))
    assert process.stdout is not None
    process.stdout.readline()
    running = names(tmp_path)
    with staged(out) as stage:
        write(stage, "ours")
    assert names(tmp_path) == sorted(["model", *running])


@pytest.mark.parametrize("after_lines", [1, 2, 3, 5, 8, 13])
def test_killed_at_any_moment(
    tmp_path: Path, after_lines: int, start: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / "model"
    last = 0
    for _ in range(3):
        process = start(_REPLACE_FOR_EVER, str(out), str(last + 1))
        assert process.stdout is not None
        for _ in range(after_lines):
            last = int(process.stdout.readline())
        process.kill()
        process.wait()
        number = json.loads((out / MANIFEST_FILE).read_text())["number"]
        assert number >= last
        assert (out / "tokenizer.json").read_text() == str(number)
        assert (out / "model.fp32.onnx").read_text() == str(number) * 100_000
        last = number
    with staged(out) as stage:
        write(stage, "final")
    assert names(tmp_path) == ["model"]
    assert not os.path.lexists(tmp_path / f".{out.name}.tmp")
