"""What the image installs is pinned by hash, and is what the tests ran on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = {
    extra: ROOT / "deploy" / f"requirements-{stage}.txt"
    for extra, stage in [
        ("server", "server"),
        ("server-http", "server"),
        ("server-otel", "server"),
        ("export-light", "export"),
    ]
}
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\]+)", re.MULTILINE)


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, set[str]]:
    """Versions by name; markers may choose among several."""
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(path.read_text("utf-8")):
        found.setdefault(canonical(name), set()).add(version)
    return found


def direct(extra: str) -> set[str]:
    """Names that the project itself asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names: set[str] = set()
    for line in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        if own := re.match(r"unitvec\[(.+)\]", line):
            names |= direct(own[1])
        else:
            names.add(canonical(re.split(r"[<>=!;\[ ]", line)[0]))
    return names


@pytest.mark.parametrize("extra", LOCKS)
class TestLock:
    def test_holds_all_that_is_asked_for(self, extra: str) -> None:
        """Else run `make lock`."""
        assert direct(extra) <= set(pins(LOCKS[extra]))

    def test_agrees_with_what_is_tested(self, extra: str) -> None:
        tested, locked = pins(ROOT / "constraints.txt"), pins(LOCKS[extra])
        for name in tested.keys() & locked.keys():
            assert locked[name] == tested[name]

    def test_hashes_all_and_names_no_index(self, extra: str) -> None:
        text = LOCKS[extra].read_text("utf-8")
        blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
        assert len(blocks) == len(PIN.findall(text))
        assert all("--hash=sha256:" in block for block in blocks)
        assert "://" not in text
        assert "index" not in re.sub(r"^ .*$", "", text, flags=re.MULTILINE)


def test_the_image_installs_by_hash_alone() -> None:
    script = (ROOT / "deploy" / "image" / "layers.sh").read_text("utf-8").replace("\\\n", "")
    commands = re.findall(r"^ .*(?:pip\"?|^ +) install .*|^ +install \w+ .*", script, re.MULTILINE)
    commands = [command for command in commands if "${@:2}" not in command]
    assert len(commands) == 5
    for command in commands:
        assert re.search("--require-hashes|--no-index", command), command
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert "pip install" not in dockerfile
