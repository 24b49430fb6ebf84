"""What the README and the pages of flags and errors say is true of the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

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


def test_every_reason_is_listed() -> None:
    """Reasons are stable names that callers match on."""
    pattern = re.compile(r'reason(?:: str)? = "([A-Z_]+)"|reason="([A-Z_]+)"')
    sources = (ROOT / "server" / "unitvec_server").rglob("*.py")
    found = {
        "".join(match) for path in sources for match in pattern.findall(path.read_text("utf-8"))
    }
    assert len(found) > 15
    listed = set(re.findall(r"`([A-Z_]{6,})`", ERRORS))
    assert found <= listed


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets
