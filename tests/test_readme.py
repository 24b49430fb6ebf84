"""What the README and the pages of flags and errors say is true of the code."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

from unitvec_bulk.flags import build_parser
from unitvec_server.config import ServerConfig
from unitvec_server.flags import flag, shown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def test_every_flag_is_listed_with_its_default_and_help() -> None:
    for field in dataclasses.fields(ServerConfig):
        default = "" if field.default in (None, ()) else f"`{shown(field.default)}`"
        assert f"| `{flag(field.name)}` | {default} | {field.metadata['help']} |" in CONFIGURATION


def test_every_flag_of_bulk_is_listed_with_its_help() -> None:
    parser = build_parser()
    actions = [action for action in parser._actions if action.dest not in ("help", "version")]
    plan = [*build_parser(is_plan=True)._actions]
    actions += [action for action in plan if action.dest in ("cores", "price")]
    assert len(actions) > 20
    missing = [row for row in map(bulk_row, actions) if row not in CONFIGURATION]
    assert missing == []


def bulk_row(action: argparse.Action) -> str:
    """A line of the table, as argparse itself shows the flag."""
    name = action.option_strings[-1] if action.option_strings else ""
    shown = f"{{{','.join(action.choices)}}}" if action.choices else action.metavar
    if shown is None and action.nargs != 0:
        shown = action.dest.upper()
    return f"| `{' '.join(filter(None, (name, shown)))}` | {action.help} |"


def test_every_reason_is_listed() -> None:
    """Reasons are stable names that callers match on."""
    pattern = re.compile(r'(?:reason(?:: str)? = |reason=|Problem\()"([A-Z_0-9]+)"')
    sources = [
        *(ROOT / "server" / "unitvec_server").rglob("*.py"),
        *(ROOT / "bulk" / "unitvec_bulk").rglob("*.py"),
    ]
    found = {name for path in sources for name in pattern.findall(path.read_text("utf-8"))}
    assert len(found) > 15
    listed = set(re.findall(r"`([A-Z_0-9]{6,})`", ERRORS))
    assert found <= listed


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets
