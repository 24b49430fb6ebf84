"""A finished load test as one HTML page that needs nothing else: no scripts, fonts or files."""

from html import escape

from unitvec_loadtest.plots import draw_all
from unitvec_loadtest.report import (
    Report,
    describe_load,
    describe_search,
    describe_step,
    times_header,
    times_row,
)
from unitvec_protos import __version__

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f5f7fa; color: #1f2933;
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 24px; margin: 0; }
h2 { font-size: 15px; margin: 0 0 6px; }
.about { color: #616e7c; margin: 4px 0 20px; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; }
.tile, section { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px; }
.tile { padding: 12px 16px; }
.tile b { display: block; font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: #616e7c; font-size: 13px; }
.bad b { color: #dc2626; }
.good b { color: #059669; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(520px, 100%), 1fr));
         gap: 12px; }
section { padding: 16px; margin-top: 12px; overflow-x: auto; }
.plots section { margin: 0; }
.plots { margin-top: 12px; }
section svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; border-top: 1px solid #e4e7eb; white-space: nowrap; }
tr:first-child > * { border-top: 0; color: #616e7c; font-weight: 600; }
th:first-child, .text { text-align: left; font-weight: 400; }
td.text { white-space: normal; overflow-wrap: anywhere; }
pre { margin: 0; font-size: 13px; }
footer { color: #616e7c; font-size: 13px; margin-top: 20px; }
"""


def to_html(report: Report) -> str:
    """Returns the report as a page.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.
    """
    plots = "".join(_section(title, svg) for title, svg in draw_all(report))
    body = (
        _head(report),
        f'<div class="tiles">{_tiles(report)}</div>',
        _search(report),
        _section("Times in milliseconds", _times(report)),
        _errors(report),
        f'<div class="plots">{plots}</div>',
        _section("Settings", _settings(report)),
        f"<footer>unitvec-loadtest {escape(__version__)}</footer>",
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Load test of {escape(report.settings.target)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{''.join(body)}\n</main>\n"
        "</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    window = f"{report.summary.window_s:,.1f} s measured, {report.settings.warmup_s:g} s of warm-up"
    ended = ", interrupted" if report.interrupted else ""
    about = (
        f"{describe_load(report.settings)} · {window}{ended} · "
        f"{report.started_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    return (
        f"<h1>Load test of {escape(report.settings.target)}</h1>"
        f'<p class="about">{escape(about)}</p>'
    )


def _tiles(report: Report) -> str:
    summary, latency = report.summary, report.summary.latency
    asked = "sent/s"
    if summary.asked_rate_per_s is not None:
        asked += f", {summary.asked_rate_per_s:,.1f} asked"
    tiles = [
        ("", f"{summary.rate_per_s:,.1f}", asked),
        ("", f"{summary.requests_per_s:,.1f}", "requests/s succeeded"),
        ("", f"{summary.texts_per_s:,.1f}", "texts/s"),
        ("", f"{summary.tokens_per_s:,.0f}", "tokens/s"),
        ("", f"{latency.p50_ms:,.1f} ms" if latency else "-", "p50 latency"),
        ("", f"{latency.p99_ms:,.1f} ms" if latency else "-", "p99 latency"),
        (
            "bad" if summary.failed else "good",
            f"{summary.failed:,}",
            f"failed of {summary.sent:,} requests",
        ),
    ]
    return "".join(
        f'<div class="tile {kind}"><b>{value}</b><span>{escape(label)}</span></div>'
        for kind, value, label in tiles
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _search(report: Report) -> str:
    if report.search is None:
        return ""
    lines = "\n".join(describe_step(step) for step in report.search.steps)
    title = describe_search(report.search)
    return _section(title[:1].upper() + title[1:], f"<pre>{escape(lines)}</pre>")


def _times(report: Report) -> str:
    rows = ["".join(f"<th>{name}</th>" for name in ("", *times_header()))]
    rows += [
        f"<th>{escape(name)}</th>" + "".join(f"<td>{cell}</td>" for cell in times_row(times))
        for name, times in report.times.items()
    ]
    return _table(rows)


def _errors(report: Report) -> str:
    if not report.summary.errors:
        return ""
    rows = ['<th>code</th><th>count</th><th class="text">example</th>']
    rows += [
        f"<th>{error.outcome.name}</th><td>{error.count:,}</td>"
        f'<td class="text">{escape(error.example)}</td>'
        for error in report.summary.errors
    ]
    return _section("Errors", _table(rows))


def _settings(report: Report) -> str:
    given = {key: value for key, value in report.settings.public().items() if value is not None}
    rows = ["<th>setting</th><th></th>"]
    rows += [
        f'<th>{escape(key)}</th><td class="text">{escape(str(value))}</td>'
        for key, value in given.items()
    ]
    return _table(rows)


def _table(rows: list[str]) -> str:
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
