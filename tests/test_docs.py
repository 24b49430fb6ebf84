"""Pages tell what is so: links lead somewhere, and the rooms are those of the import contracts."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@functools.cache
def anchors(page: Path) -> set[str]:
    """What headings of a page can be linked by, as GitHub makes it of them."""
    headings = _HEADING.findall(_CODE.sub("", page.read_text("utf-8")))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for path, anchor in _LINK.findall(_CODE.sub("", page.read_text("utf-8"))):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(f"{path}#{anchor}")
    assert lost == []


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
LAYERS = [contract for contract in CONTRACTS["contracts"] if contract["type"] == "layers"]
SECTIONS = {
    "The house": "Packages",
    "The server's rooms": "Rooms of the server",
    "The client's rooms": "Rooms of the client",
    "Export's rooms": "Rooms of export",
    "Bulk's rooms": "Rooms of bulk",
}


@pytest.mark.parametrize("contract", LAYERS, ids=lambda contract: contract["name"])
def test_the_rooms_are_those_of_the_import_contracts(contract: dict[str, list[str]]) -> None:
    """Each in the layer that the contract gives it."""
    section = ARCHITECTURE.split(f"## {SECTIONS[str(contract['name'])]}\n")[1].split("\n## ")[0]
    shown: dict[int, set[str]] = {}
    for layer, rooms in re.findall(r"^\| (\d+) \| (.*?) \|", section, re.MULTILINE):
        shown.setdefault(int(layer), set()).update(re.findall(r"`(\w+)`", rooms))
    layers = [set(layer.split(" | ")) for layer in contract["layers"]]
    assert shown == dict(enumerate(layers, start=1))


def test_the_walk_passes_modules_that_exist() -> None:
    walk = ARCHITECTURE.split("## The walk of one text\n")[1].split("\n## ")[0]
    client, server = walk.split("**In the server")
    for text, package in ((client, "client/unitvec_client"), (server, "server/unitvec_server")):
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)(?:\.[A-Z]\w*)*(?:\.\w+)?`", text):
            path = ROOT / package / name.replace(".", "/")
            assert path.with_suffix(".py").exists() or path.is_dir(), name
