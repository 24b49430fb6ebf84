"""What `make serve` leaves when it is interrupted, the next `make serve` takes up."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import TinyModel
from unitvec_server.model.artifact import load_artifact

ROOT = Path(__file__).parents[1]

# The real export, which then stays for as long as somebody holds the pipe open: it takes a
# while until a process that has loaded torch is gone.
_SLOW_TO_END = """#!/bin/sh
{python} -m unitvec_export.cli "$@" && echo all is written && read line < {pipe}
"""
_SERVE = """#!/bin/sh
echo serving "$@"
"""

pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(shutil.which("make") is None, reason="there is no make"),
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with all that there is, and an environment in which everything is installed."""
    checkout = tmp_path / "checkout"
    commands = checkout / ".venv" / "bin"
    commands.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in (".venv", "artifacts"):
            (checkout / path.name).symlink_to(path)
    pipe = checkout / "pipe"
    os.mkfifo(pipe)
    for name, script in (
        ("unitvec-export", _SLOW_TO_END.format(python=sys.executable, pipe=pipe)),
        ("unitvec-serve", _SERVE),
        ("python", "#!/bin/sh\n"),
    ):
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for mark in set(re.findall(r"\$\(VENV\)/(\.\w+):", makefile)):
        (checkout / ".venv" / mark).touch()
    return checkout


def make_serve(checkout: Path, model: Path) -> subprocess.Popen[str]:
    """`make serve`, at the head of a process group of its own, as in a terminal."""
    return subprocess.Popen(
        ["make", "serve", f"MODEL={model}", "NAME=tiny"],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_when_all_is_written(
    number: signal.Signals, checkout: Path, tiny_model: Callable[[TinyModel], Path]
) -> None:
    model = tiny_model(TinyModel())
    process = make_serve(checkout, model)
    assert process.stdout is not None
    with process:
        try:
            assert "all is written\n" in iter(process.stdout.readline, "")
        finally:
            os.killpg(process.pid, number)
            process.stdout.read()  # make must be able to say what it does
    assert process.returncode != 0
    assert load_artifact(checkout / "artifacts" / "tiny").manifest.model_id == model.name
    again, _ = make_serve(checkout, model).communicate()
    assert "serving --model artifacts/tiny" in again
    assert "all is written" not in again
