"""Virtual environments of peers that cannot live beside our own packages."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from bench.contenders import MAIN_ENVIRONMENT

_FOLDER = Path(__file__).parents[1]
_INSTALL_TIMEOUT_S = 1800.0


class EnvironmentMissing(Exception):
    """An environment cannot be made. The message says why."""


def interpreter(name: str, chosen: Mapping[str, Path]) -> Path:
    """Python of an environment, which is made under `bench/.envs` if need be.

    Args:
        name: `MAIN_ENVIRONMENT`, a key of `chosen`, or a file of `bench/requirements`.
        chosen: Interpreters that the user has named, by environment.

    Raises:
        EnvironmentMissing: It is not known, or its packages cannot be installed.
    """
    if name in chosen:
        return chosen[name]
    if name == MAIN_ENVIRONMENT:
        return Path(sys.executable)
    requirements = _FOLDER / "requirements" / f"{name}.txt"
    if not requirements.is_file():
        raise EnvironmentMissing(f"name its interpreter: --python {name}=PATH")
    folder = _FOLDER / ".envs" / name
    ready = folder / "ready"
    if not ready.is_file() or ready.read_text() != requirements.read_text():
        _install(folder, requirements)
        ready.write_text(requirements.read_text())
    return folder / "bin" / "python"


def _install(folder: Path, requirements: Path) -> None:
    print(f"installing {requirements.name} into {folder} (once)", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    try:
        subprocess.run(
            [*pip, "--requirement", str(requirements)],
            check=True,
            timeout=_INSTALL_TIMEOUT_S,
            capture_output=True,
            text=True,
        )
    except subprocess.CalledProcessError as exc:
        words = exc.stderr.strip().splitlines()
        raise EnvironmentMissing(f"pip: {words[-1] if words else exc.returncode}") from exc
    except subprocess.TimeoutExpired as exc:
        raise EnvironmentMissing(f"pip took over {_INSTALL_TIMEOUT_S:g} s") from exc
