"""`docs/examples` shows every program and picture, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
GALLERY = (ROOT / "docs" / "examples" / "README.md").read_text("utf-8")
PAGES = "".join(
    page.read_text("utf-8") for page in sorted((ROOT / "docs" / "examples").glob("*.md"))
)
PROGRAMS = [
    path for path in (ROOT / "examples").glob("*.py") if "\ndef main(" in path.read_text("utf-8")
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_each_program_is_listed_and_shown(program: Path) -> None:
    assert f"](../../examples/{program.name})" in GALLERY
    assert f"python examples/{program.name}" in PAGES


def test_every_picture_is_shown() -> None:
    shown = {
        name
        for page in DOCS
        for name in re.findall(r"\((?:\.\./)*images/([^)]+)\)", page.read_text("utf-8"))
    }
    assert {path.name for path in (ROOT / "docs" / "images").iterdir()} == shown
