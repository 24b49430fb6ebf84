"""How more of unitvec is installed beside what is here: from a clone, a wheel or an index.

Each part of unitvec needs this, and this package is the one that comes with all of them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

_DISTRIBUTION = "unitvec"
_GONE = "file:///PATH/TO/CLONE-OR-WHEEL"


def install_command(extra: str) -> str:
    """Return the command that installs an extra from where this installation came.

    Args:
        extra: Such as ``server``.
    """
    origin = _origin()
    if origin is None:
        return _pip(f"{_DISTRIBUTION}[{extra}]")
    url = str(origin["url"])
    folder = Path(url2pathname(urlsplit(url).path))
    if origin.get("dir_info", {}).get("editable"):
        return _pip(f"{folder}[{extra}]", "--editable ")
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    elif url.startswith("file:") and not folder.exists():
        url = _GONE
    return _pip(f"{_DISTRIBUTION}[{extra}] @ {url}")


def explain_missing(program: str, package: str | None, *, extra: str) -> str:
    """Return one line for a program whose packages are not installed.

    Args:
        program: The program.
        package: The first of them that was missed.
        extra: The extra that brings them.
    """
    return f"{program} needs {package}, which is not installed: {install_command(extra)}\n"


def _origin() -> Mapping[str, Any] | None:
    """Return what PEP 610 records of an installation; None where it came from an index."""
    try:
        text = metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        # Run from a clone that was never installed.
        clone = Path(__file__).parents[2]
        return {"url": clone.as_uri(), "dir_info": {"editable": True}}
    return None if text is None else json.loads(text)


def _pip(requirement: str, flags: str = "") -> str:
    return f"pip install {flags}{shlex.quote(requirement)}"
