"""Plots of a report as SVG. matplotlib is loaded only when one is drawn."""

import importlib.util
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from unitvec_loadtest.pacer import NS_PER_S
from unitvec_loadtest.report import Report, SearchReport
from unitvec_loadtest.results import Columns, Int64s
from unitvec_loadtest.series import Series, slice_run
from unitvec_loadtest.statistics import NS_PER_MS, percentiles, select
from unitvec_protos.installation import install_command

MAX_POINTS = 4000
"""Requests drawn as single points; of more, an even sample."""
_SIZE_INCHES = (7.2, 3.4)

_INK, _MUTED, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_BLUE, _RED, _GREEN = "#2563eb", "#dc2626", "#059669"
_CODE_COLORS = ("#dc2626", "#ea580c", "#d97706", "#9333ea", "#0891b2", "#4b5563")
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": _GRID,
    "axes.grid": True,
    "axes.labelcolor": _MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
}

# Axes and all that hangs on them have no types at hand: matplotlib is an optional extra.
_Axes = Any


class PlotsUnavailableError(RuntimeError):
    """matplotlib is not installed."""


def require_matplotlib() -> None:
    """Checks that plots can be drawn, before a long run rather than after it.

    Raises:
        PlotsUnavailableError: matplotlib is not installed. The message says how to get it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        command = install_command("loadtest")
        message = f"--output-html draws with matplotlib, which is not installed: {command}"
        raise PlotsUnavailableError(message)


def draw_all(report: Report) -> list[tuple[str, str]]:
    """Draws every plot of a report.

    Returns:
        (title, inline SVG) for each, in reading order. The SVG refers to nothing outside itself.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.
    """
    require_matplotlib()
    series = slice_run(report.columns)
    plots: list[tuple[str, Callable[[_Axes], None]]] = []
    if report.search is not None:
        search = report.search
        plots.append(("Search: p99 latency at each rate", lambda axes: _search(axes, search)))
    plots += [
        ("Latency over time", lambda axes: _latency_over_time(axes, report, series)),
        ("Latency by percentile", lambda axes: _percentiles(axes, report.columns)),
        ("Rate and throughput over time", lambda axes: _throughput(axes, report, series)),
        ("Errors over time", lambda axes: _errors(axes, report, series)),
    ]
    return [
        (title, _draw(draw, name=f"plot{number}")) for number, (title, draw) in enumerate(plots)
    ]


def _draw(draw: Callable[[_Axes], None], *, name: str) -> str:
    """Draws one plot and returns it as an element to be put into a page.

    Ids get `name` in front, for several pictures share one page. Namespace declarations go:
    an HTML parser knows SVG without them.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", dpi=144, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    # The page sets the width; the viewBox keeps the proportions.
    return re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", svg, count=1).replace(
        'height="', 'data-height="', 1
    )


def _latency_over_time(axes: _Axes, report: Report, series: Series) -> None:
    good = _sample(select(report.columns, report.columns.ok))
    due_s, latency_ms = good.due_ns / NS_PER_S, good.latency_ns / NS_PER_MS
    # As an image inside the SVG: thousands of circles would weigh megabytes.
    axes.scatter(due_s, latency_ms, s=5, color=_BLUE, alpha=0.25, linewidths=0, rasterized=True)
    axes.fill_between(series.centers_s, series.p50_ms, series.p99_ms, color=_BLUE, alpha=0.13)
    axes.plot(series.centers_s, series.p99_ms, color=_RED, linewidth=1.6, label="p99")
    axes.plot(series.centers_s, series.p50_ms, color=_BLUE, linewidth=1.6, label="p50")
    if report.search is not None:
        axes.axhline(report.search.p99_ms, color=_GREEN, linestyle="--", label="target p99")
    _scale_latency(axes, latency_ms)
    axes.set_ylabel("latency (ms)")
    _finish_time_axis(axes, report)


def _percentiles(axes: _Axes, columns: Columns) -> None:
    """Latency against percentile, the axis stretched so that each nine gets equal room."""
    good = select(columns, columns.ok & columns.measured)
    curves = (
        ("latency, from when due", good.latency_ns, _BLUE),
        ("service time, from when sent", good.done_ns - good.sent_ns, _GREEN),
        ("server's own total", good.total_ns, _MUTED),
    )
    for label, values_ns, color in curves:
        if len(values_ns):
            nines, values_ms = _percentile_curve(values_ns)
            axes.plot(nines, values_ms, color=color, linewidth=1.6, label=label)
    ticks = (0, 50, 90, 99, 99.9, 99.99, 99.999)
    last = max(1.0, np.log10(max(len(good.due_ns), 10)))
    shown = [tick for tick in ticks if _nines(tick) <= last]
    axes.set_xticks([_nines(tick) for tick in shown], [f"{tick:g}" for tick in shown])
    axes.set_xlim(0, last)
    _scale_latency(axes, good.latency_ns / NS_PER_MS)
    axes.set_xlabel("percentile of successful requests")
    axes.set_ylabel("milliseconds")
    _legend(axes)


def _nines(percent: float) -> float:
    return float(-np.log10(1 - percent / 100))


def _percentile_curve(values_ns: Int64s) -> tuple[Any, Any]:
    last = np.log10(max(len(values_ns), 10))
    nines = np.linspace(0, last, 300)
    ranks = tuple(100 * (1 - 10**-nines))
    return nines, percentiles(values_ns, ranks) / NS_PER_MS


def _throughput(axes: _Axes, report: Report, series: Series) -> None:
    asked = report.summary.asked_rate_per_s
    if asked is not None:
        axes.axhline(asked, color=_MUTED, linestyle="--", linewidth=1.2, label="asked for")
    axes.plot(series.centers_s, series.sent_per_s, color=_GREEN, linewidth=1.6, label="sent")
    axes.plot(series.centers_s, series.ok_per_s, color=_BLUE, linewidth=1.6, label="succeeded")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("requests per second")
    _finish_time_axis(axes, report)


def _errors(axes: _Axes, report: Report, series: Series) -> None:
    bottom = np.zeros_like(series.centers_s)
    for place, (outcome, per_s) in enumerate(series.errors_per_s.items()):
        color = _CODE_COLORS[place % len(_CODE_COLORS)]
        axes.bar(
            *(series.centers_s, per_s), series.width_s, bottom, color=color, label=outcome.name
        )
        bottom += per_s
    if not series.errors_per_s:
        center = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "no errors", color=_GREEN, fontsize=14, **center)
        axes.set_yticks([0])
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, series.centers_s[-1] + series.width_s / 2)
    axes.set_ylabel("errors per second")
    _finish_time_axis(axes, report)


def _search(axes: _Axes, search: SearchReport) -> None:
    for held, color, label in ((True, _GREEN, "holds"), (False, _RED, "fails")):
        steps = [s for s in search.steps if s.held is held and s.p99_ms is not None]
        rates, values = [s.rate_per_s for s in steps], [s.p99_ms for s in steps]
        axes.scatter(rates, values, s=36, color=color, label=label, zorder=3)
    axes.axhline(search.p99_ms, color=_MUTED, linestyle="--", label="target")
    if search.found_rate_per_s is not None:
        axes.axvline(search.found_rate_per_s, color=_GREEN, alpha=0.3, linewidth=5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)
    axes.set_xlabel("requests per second")
    axes.set_ylabel("p99 latency (ms)")
    _legend(axes)


def _finish_time_axis(axes: _Axes, report: Report) -> None:
    warmup_s = report.span.start_ns / NS_PER_S
    if warmup_s:
        axes.axvspan(0, warmup_s, color=_MUTED, alpha=0.12, linewidth=0, label="warm-up")
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds since the start")
    _legend(axes)


def _legend(axes: _Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, fontsize=8.5)


def _scale_latency(axes: _Axes, latency_ms: Any) -> None:
    """A logarithmic axis where a few slow requests would press the rest to the ground."""
    if len(latency_ms) and np.max(latency_ms) > 10 * np.median(latency_ms) > 0:
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)


def _plain_ticks(axis: Any) -> None:
    """Writes 1, 2, 5, 10 rather than powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _sample(columns: Columns) -> Columns:
    size = len(columns.due_ns)
    kept = np.zeros(size, dtype=np.bool_)
    kept[:: max(1, -(-size // MAX_POINTS))] = True
    return select(columns, kept)
