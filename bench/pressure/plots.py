"""Raw results of overload and fairness -> one SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.pressure.fairness import TrickleLine, trickle_lines
from bench.pressure.overload import CurvePoint, Point, curve, points
from bench.pressure.report import OVERLOAD
from bench.results import Results

_OK, _SLOW, _MUTED = "#0969da", "#9a6700", "#57606a"
_CODES = ("#bf3989", "#9a6700", "#8250df", "#57606a", "#1a7f37")
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw_pressure(results: Results, path: Path) -> None:
    """Writes the plot of a run of either kind."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        if results.run.settings["kind"] == OVERLOAD:
            figure = Figure(figsize=(11, 3.6), layout="constrained")
            _draw_overload(figure, results)
        else:
            figure = Figure(figsize=(7, 3.2), layout="constrained")
            _draw_fairness(figure.subplots(), trickle_lines(results.loads))
        figure.savefig(path, metadata={"Date": None})


def _draw_overload(figure: Any, results: Results) -> None:
    found = curve(results.loads)
    goodput, latency, answers = figure.subplots(1, 3)
    _draw_goodput(goodput, found, points(results.loads))
    _draw_latency(latency, found, deadline_s=results.run.settings["timeout_s"])
    _draw_answers(answers, found)
    for axes in (goodput, latency, answers):
        axes.set_xlim(left=0)
        axes.set_xlabel("offered calls, in peaks")


def _draw_goodput(axes: Any, found: Sequence[CurvePoint], each: Sequence[Point]) -> None:
    offered = [point.offered for point in found]
    axes.plot([0, 1, max(1, *offered)], [0, 1, 1], color=_MUTED, linestyle="--", linewidth=1)
    axes.axhline(0.9, color=_MUTED, linestyle=":", linewidth=1)
    axes.annotate("0.9", (0, 0.9), color=_MUTED, va="bottom", fontsize=7)
    axes.plot([one.offered for one in each], [one.goodput for one in each], ".", color=_MUTED)
    axes.plot(offered, [point.goodput.median for point in found], "o-", color=_OK)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("answered in time, in peaks")
    axes.set_title("Goodput")


def _draw_latency(axes: Any, found: Sequence[CurvePoint], *, deadline_s: float) -> None:
    answered = [point for point in found if point.p99_ms is not None]
    offered = [point.offered for point in answered]
    for name, field, color in (("p50", "p50_ms", _OK), ("p99", "p99_ms", _SLOW)):
        seconds = [getattr(point, field) / 1000 for point in answered]
        axes.plot(offered, seconds, "o-", color=color, label=name)
    axes.axhline(deadline_s, color=_MUTED, linestyle="--", linewidth=1, label="deadline")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("latency of accepted calls, s")
    axes.set_title("Latency")
    axes.legend()


def _draw_answers(axes: Any, found: Sequence[CurvePoint]) -> None:
    codes = list(dict.fromkeys(code for point in found for code in point.shares))
    ordered = sorted(codes, key=lambda code: code != "OK")
    colors = [_OK if code == "OK" else _CODES[n % len(_CODES)] for n, code in enumerate(ordered)]
    heights = [[100 * point.shares.get(code, 0) for point in found] for code in ordered]
    offered = [point.offered for point in found]
    axes.stackplot(offered, heights, labels=ordered, colors=colors, alpha=0.8)
    axes.set_ylim(0, 100)
    axes.set_ylabel("calls, %")
    axes.set_title("What came of the calls")
    axes.legend(loc="lower left", fontsize=7)


def _draw_fairness(axes: Any, lines: Sequence[TrickleLine]) -> None:
    places = range(len(lines))
    for shift, name, field, color in (
        (-0.2, "p50", "p50_ms", _OK),
        (0.2, "p99", "p99_ms", _SLOW),
    ):
        values = [getattr(line, field) for line in lines]
        bars = axes.barh([place + shift for place in places], values, 0.38, label=name, color=color)
        axes.bar_label(bars, fmt="  %.1f")
    axes.axvline(
        3 * lines[0].p99_ms, color=_MUTED, linestyle="--", linewidth=1, label="3 x p99 alone"
    )
    axes.set_yticks(list(places), [line.condition for line in lines])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("latency of a lone text, ms")
    axes.legend()
