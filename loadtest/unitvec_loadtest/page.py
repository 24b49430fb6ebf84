"""A finished load test as one HTML page that needs nothing else: no scripts, fonts or files.

The page is the template `data/page.html`; what there may be several of, or none, is made here.
"""

from collections.abc import Iterable
from html import escape
from importlib import resources
from string import Template

from unitvec_loadtest.plots import draw_all
from unitvec_loadtest.report import (
    Report,
    describe_load,
    describe_search,
    describe_step,
    describe_surroundings,
    times_header,
    times_row,
)
from unitvec_protos import __version__

_SECTION = Template("<section><h2>$title</h2>$content</section>")
_TABLE = Template("<table>$rows</table>")
_TILE = Template('<div class="tile $kind"><b>$value</b><span>$label</span></div>')
_STEPS = Template("<pre>$steps</pre>")
_ROW = Template("<tr>$cells</tr>")
_HEAD = Template("<th>$value</th>")
_CELL = Template("<td>$value</td>")
_TEXT_HEAD = Template('<th class="text">$value</th>')
_TEXT_CELL = Template('<td class="text">$value</td>')


class _Html(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def _fill(template: Template, **values: object) -> _Html:
    safe = {
        name: value if isinstance(value, _Html) else escape(str(value))
        for name, value in values.items()
    }
    return _Html(template.substitute(safe))


def _join(parts: Iterable[_Html]) -> _Html:
    return _Html("".join(parts))


def to_html(report: Report) -> str:
    """Returns the report as a page.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.
    """
    page = resources.files("unitvec_loadtest").joinpath("data", "page.html").read_text("utf-8")
    return _fill(
        Template(page),
        target=report.settings.target,
        about=_about(report),
        surroundings=" · ".join(describe_surroundings(report)),
        tiles=_tiles(report),
        search=_search(report),
        times=_times(report),
        errors=_errors(report),
        plots=_join(
            _fill(_SECTION, title=title, content=_Html(svg)) for title, svg in draw_all(report)
        ),
        settings=_settings(report),
        version=__version__,
    )


def _about(report: Report) -> str:
    window = f"{report.summary.window_s:,.1f} s measured, {report.settings.warmup_s:g} s of warm-up"
    ended = ", interrupted" if report.interrupted else ""
    started = f"{report.started_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{describe_load(report.settings)} · {window}{ended} · {started}"


def _tiles(report: Report) -> _Html:
    summary, latency = report.summary, report.summary.latency
    asked = "sent/s"
    if summary.asked_rate_per_s is not None:
        asked += f", {summary.asked_rate_per_s:,.1f} asked"
    failed = f"failed of {summary.sent:,} requests"
    tiles = [
        ("", f"{summary.rate_per_s:,.1f}", asked),
        ("", f"{summary.requests_per_s:,.1f}", "requests/s succeeded"),
        ("", f"{summary.texts_per_s:,.1f}", "texts/s"),
        ("", f"{summary.tokens_per_s:,.0f}", "tokens/s"),
        ("", f"{latency.p50_ms:,.1f} ms" if latency else "-", "p50 latency"),
        ("", f"{latency.p99_ms:,.1f} ms" if latency else "-", "p99 latency"),
        ("bad" if summary.failed else "good", f"{summary.failed:,}", failed),
    ]
    return _join(_fill(_TILE, kind=kind, value=value, label=label) for kind, value, label in tiles)


def _search(report: Report) -> _Html:
    if report.search is None:
        return _Html()
    title = describe_search(report.search)
    steps = "\n".join(describe_step(step) for step in report.search.steps)
    content = _fill(_STEPS, steps=steps)
    return _fill(_SECTION, title=title[:1].upper() + title[1:], content=content)


def _times(report: Report) -> _Html:
    rows = [_row((_HEAD, name) for name in ("", *times_header()))]
    rows += [
        _row([(_HEAD, name), *((_CELL, cell) for cell in times_row(times))])
        for name, times in report.times.items()
    ]
    return _join(rows)


def _errors(report: Report) -> _Html:
    if not report.summary.errors:
        return _Html()
    rows = [_row([(_HEAD, "code"), (_HEAD, "count"), (_TEXT_HEAD, "example")])]
    rows += [
        _row(
            [(_HEAD, error.outcome.name), (_CELL, f"{error.count:,}"), (_TEXT_CELL, error.example)]
        )
        for error in report.summary.errors
    ]
    return _fill(_SECTION, title="Errors", content=_fill(_TABLE, rows=_join(rows)))


def _settings(report: Report) -> _Html:
    given = {key: value for key, value in report.settings.public().items() if value is not None}
    rows = [_row([(_HEAD, "setting"), (_HEAD, "")])]
    rows += [_row([(_HEAD, key), (_TEXT_CELL, value)]) for key, value in given.items()]
    return _join(rows)


def _row(cells: Iterable[tuple[Template, object]]) -> _Html:
    return _fill(_ROW, cells=_join(_fill(template, value=value) for template, value in cells))
