"""The table in `docs/compatibility.md`: `python -m tests.resolution`, with uv beside Python.

Every extra is resolved beside all of the frameworks, for every Python, as an empty environment
would install them from wheels. Nothing is downloaded but metadata.
"""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- resolution -->\n", "<!-- end of resolution -->\n"
FRAMEWORKS = ("sentence-transformers", "langchain", "llama-index-core", "haystack-ai", "chromadb")
DEVELOPMENT = {"bench", "chaos", "dev", "examples", "server-common", "stores"}
"""Extras that are not for users, or are parts of others."""
UNSOLVED = "**no**"
_TIMEOUT_S = 300
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = sorted(set(_PROJECT["optional-dependencies"]) - DEVELOPMENT)
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(_PROJECT["classifiers"]))


def resolve(python: str, *inputs: str) -> dict[str, str]:
    """Versions by package of the frameworks and what else is asked for; nothing if none fit."""
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet"]
    command += ["--no-annotate", "--no-header", "--python-version", python]
    # Python itself is not fetched, and no package is built to learn what it needs.
    command += ["--no-python-downloads", "--no-build", *inputs, "-"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        input="\n".join(FRAMEWORKS),
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if done.returncode and "No solution" not in done.stderr:
        raise RuntimeError(f"uv did not get to an answer: {done.stderr}")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", done.stdout, re.MULTILINE))


def resolve_newest() -> dict[str, dict[str, str]]:
    """Versions of the frameworks without unitvec, by version of Python."""
    return {python: resolve(python) for python in PYTHONS}


def resolve_extra(extra: str, newest: Mapping[str, Mapping[str, str]]) -> list[str]:
    """For each Python: yes, `UNSOLVED`, or which frameworks are older than the newest."""
    return [_cell(resolve(p, "--extra", extra, "pyproject.toml"), newest[p]) for p in PYTHONS]


def _cell(found: Mapping[str, str], newest: Mapping[str, str]) -> str:
    if not found:
        return UNSOLVED
    older = [f"{name} {found[name]}" for name in FRAMEWORKS if found[name] != newest[name]]
    return f"with {', '.join(older)}" if older else "yes"


def lines() -> Iterator[str]:
    """The section of the page."""
    newest = resolve_newest()
    names = [
        f"{name} {' or '.join(sorted({versions[name] for versions in newest.values()}))}"
        for name in FRAMEWORKS
    ]
    yield f"On {dt.datetime.now(dt.UTC).date()}, with {', '.join(names)}:\n\n"
    yield f"| extra | {' | '.join(f'Python {python}' for python in PYTHONS)} |\n"
    yield f"|{'---|' * (len(PYTHONS) + 1)}\n"
    with ThreadPoolExecutor(4) as pool:
        rows = pool.map(lambda extra: resolve_extra(extra, newest), EXTRAS)
        for extra, cells in zip(EXTRAS, rows, strict=True):
            yield f"| `{extra}` | {' | '.join(cells)} |\n"


def main() -> None:
    """Resolves all and writes the table."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    text = "".join([before, BEGIN, *lines(), END, rest.partition(END)[2]])
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
