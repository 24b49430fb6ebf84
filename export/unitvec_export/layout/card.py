"""What a model's card says that whoever serves it should know: its licence and its limits."""

from __future__ import annotations

import re
from pathlib import Path

_CARD = "README.md"
_MAX_LIMITS_CHARS = 4000
_LICENSE = re.compile(r"^license:[ \t]*[\"']?([^\"'\n]+?)[\"']?[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_LIMITS = re.compile(r"limit|bias|risk|intended|out[- ]of[- ]scope|fairness|caution", re.IGNORECASE)


def read_card(folder: Path) -> str:
    """The text of a model's card; empty if it has none that can be read."""
    try:
        return (folder / _CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def find_license(card: str) -> str:
    """The licence in the block of YAML that a card begins with; empty if it names none."""
    if not card.startswith("---\n"):
        return ""
    found = _LICENSE.search(card[4:].partition("\n---")[0])
    return found[1] if found else ""


def find_limits(card: str) -> str:
    """The sections of a card on intended uses, limits, biases and risks.

    Returns:
        Markdown, at most 4,000 characters; empty if there are none.
    """
    kept: list[str] = []
    depth, is_code = 0, False  # depth of the heading whose section is kept; 0 for none
    for line in card.splitlines():
        is_code ^= bool(_FENCE.match(line))
        heading = None if is_code else _HEADING.match(line)
        if heading and (not depth or len(heading[1]) <= depth):
            depth = len(heading[1]) if _LIMITS.search(heading[2]) else 0
        if depth:
            kept.append(line)
    text = "\n".join(kept).strip()
    return text if len(text) <= _MAX_LIMITS_CHARS else f"{text[: _MAX_LIMITS_CHARS - 4]} ..."
