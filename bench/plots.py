"""Raw results -> one SVG: ratios to the reference, one panel for each workload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.contenders import REFERENCE
from bench.results import Results
from bench.summary import Line, lines, workloads

_COLORS = {
    "reference": "#57606a",
    "peer": "#9a6700",
    "baseline": "#bf3989",
    "layer": "#0969da",
}
_INCHES_PER_BAR = 0.24
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 8}


def draw(results: Results, path: Path) -> None:
    """Writes the plot: bars are medians over the rounds, whiskers the least and the most."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = [(name, lines(results, name)) for name in workloads(results)]
    bars = max((len(found) for _, found in panels), default=1)
    with mpl.rc_context(_STYLE):
        size = (5.2 * max(1, len(panels)), 1.2 + _INCHES_PER_BAR * bars)
        figure = Figure(figsize=size, layout="constrained")
        for axes, (name, found) in zip(_row(figure, len(panels)), panels, strict=True):
            _draw_panel(axes, found, _kinds(results))
            axes.set_title(name)
        figure.savefig(path, metadata={"Date": None})


def _row(figure: Any, count: int) -> list[Any]:
    return list(figure.subplots(1, count, squeeze=False)[0]) if count else []


def _kinds(results: Results) -> dict[str, str]:
    return {entry.contender: entry.kind for entry in results.loaded}


def _draw_panel(axes: Any, found: list[Line], kinds: dict[str, str]) -> None:
    medians = [line.ratio.median for line in found]
    below = [line.ratio.median - line.ratio.low for line in found]
    above = [line.ratio.high - line.ratio.median for line in found]
    axes.barh(
        [line.contender for line in found],
        medians,
        xerr=[below, above],
        color=[_COLORS[kinds[line.contender]] for line in found],
        error_kw={"elinewidth": 1, "capsize": 2},
    )
    for place, line in enumerate(found):
        axes.text(line.ratio.high, place, f"  {line.ratio.median:.2f}", va="center")
    axes.axvline(1, color=_COLORS["reference"], linestyle="--", linewidth=1)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"texts/s over {REFERENCE} in the same round")
    axes.spines[["top", "right"]].set_visible(False)
