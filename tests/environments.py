"""Environments of foreign packages: made once and kept on disk until their pins change."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.artifacts import REPOSITORY

CLIENTS = REPOSITORY / "tests" / "e2e" / "clients" / "requirements.txt"
"""Clients of other systems."""

_KEPT = REPOSITORY / "artifacts" / "environments"


def keep_environment(requirements: Path) -> Path:
    """The Python of an environment in which the packages of a requirements file are installed.

    Only the first of the processes that ask for it installs them; one that is killed while it does
    leaves an environment that is not marked as done, and the next one begins anew. The file names
    all packages, those that others need included.
    """
    pins = requirements.read_bytes() + sys.version.encode()
    folder = _KEPT / hashlib.sha256(pins).hexdigest()[:16]
    python, done = folder / "bin" / "python", folder / "done"
    _KEPT.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            venv.create(folder, clear=True, with_pip=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
            subprocess.run([*install, "--requirement", str(requirements)], check=True, timeout=900)
            done.touch()
    return python


def run_in(python: Path, program: Path, *args: str) -> str:
    """What a program writes, run in such an environment without anything of ours."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env |= {"HAYSTACK_TELEMETRY_ENABLED": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [str(python), str(program), *args]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=env,
        cwd=program.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
