"""Outcomes as a table and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.chaos.stage import Outcome

_COLUMNS = (
    *("scenario", "sent", "right", "refused", "lost", "wrong"),
    *("p50 s", "p99 s", "slowest s", "recovered s", "measured"),
)


def format_table(outcomes: Iterable[Outcome]) -> str:
    """A table in Markdown, one row for each scenario, and what was not kept below it."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_row, outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def format_failures(outcomes: Iterable[Outcome]) -> list[str]:
    """One line for each thing that is not as promised."""
    lines = []
    for outcome in outcomes:
        tally = outcome.tally
        lines += [f"{outcome.name}: {promise}" for promise in (*outcome.broken, *outcome.missed)]
        if tally.lost or tally.unaccounted:
            lines.append(f"{outcome.name}: lost {_counts(tally.lost)}, {tally.examples}")
        if tally.wrong:
            lines.append(f"{outcome.name}: {tally.wrong} answers were wrong")
    return lines


def write_json(path: Path, outcomes: Sequence[Outcome], *, settings: dict[str, object]) -> None:
    """Writes all figures, with the settings they were taken under."""
    content = {"settings": settings, "outcomes": [outcome.as_json() for outcome in outcomes]}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _row(outcome: Outcome) -> tuple[str, ...]:
    if outcome.skipped:
        return (outcome.name, *[""] * (len(_COLUMNS) - 2), f"skipped: {outcome.skipped}")
    tally = outcome.tally
    recovery = "" if outcome.recovery_s is None else f"{outcome.recovery_s:.2f}"
    return (
        *(outcome.name, f"{tally.sent:,}", f"{tally.right:,}"),
        *(_counts(tally.refused), str(tally.lost.total() + tally.unaccounted), str(tally.wrong)),
        *(f"{tally.quantile_s(share):.3f}" for share in (0.5, 0.99, 1.0)),
        recovery,
        ", ".join(f"{name} {value:,.4g}" for name, value in outcome.figures.items()),
    )


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counter.most_common()) or "0"
