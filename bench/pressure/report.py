"""Raw results of overload and fairness -> Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.pressure.fairness import ALONE, TrickleLine, trickle_lines
from bench.pressure.overload import CurvePoint, curve
from bench.report import table, when_and_where
from bench.results import Results, Run
from bench.summary import Spread

OVERLOAD, FAIRNESS = "overload", "fairness"
"""What a run was of: the setting `kind`."""

_CURVE = (
    *("offered", "goodput", "min..max", "p50 ms", "p99 ms"),
    *("client CPUs", "others' CPUs", "sent late ms"),
)
_TRICKLE = (
    *("trickle", "answered", "failed", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio", "min..max"),
    *("server p99 ms", "server p99 ratio", "bulk texts/s"),
)


def pressure_markdown(results: Results) -> str:
    """The whole report.

    Raises:
        ValueError: There are not enough lines for one.
    """
    run = results.run
    report = _overload if run.settings["kind"] == OVERLOAD else _fairness
    parts = [*report(results), _server(run)]
    return "\n\n".join(parts) + "\n"


def _overload(results: Results) -> list[str]:
    run, found = results.run, curve(results.loads)
    if not found:
        raise ValueError("no overload was measured between two peaks")
    asked = run.settings
    how = (
        f"An open loop with Poisson arrivals, {asked['texts_per_request']} short texts a call, "
        f"deadline {asked['timeout_s']:g} s, {asked['seconds']:g} s each, {asked['rounds']} "
        f"rounds. "
        f"The peak is what {asked['callers']} callers in a closed loop got answered; it was "
        f"measured before and after each open loop, for the machine drifts, and *offered* and "
        f"*goodput* (answered in time) are over the mean of these two: median, and spread over "
        f"the rounds. Times are of accepted calls, from when each was due to its answer, all "
        f"rounds together."
    )
    shared = (
        f"The load tester ran on the same {run.threads} CPUs: *client CPUs* is what it took of "
        f"them, and *sent late* the 99th percentile of how far it fell behind its schedule, in "
        f"the worst round."
    )
    codes = list(dict.fromkeys(code for point in found for code in point.shares))
    answers = table(("offered", *codes), [_share_row(point, codes) for point in found])
    return [
        f"# Overload of {run.model_id}",
        when_and_where(run),
        how,
        shared,
        table(_CURVE, [_curve_row(point) for point in found]),
        f"What came of the calls:\n\n{answers}",
        _verdict(found, deadline_ms=1000 * asked["timeout_s"]),
    ]


def _curve_row(point: CurvePoint) -> list[str]:
    return [
        f"{point.offered:.2f}",
        f"{point.goodput.median:.2f}",
        _range(point.goodput),
        _ms(point.p50_ms),
        _ms(point.p99_ms),
        f"{point.client_cpus:.2f}",
        f"{point.others_cpus:.2f}",
        f"{point.lag_p99_ms:.1f}",
    ]


def _share_row(point: CurvePoint, codes: Sequence[str]) -> list[str]:
    shares = (point.shares.get(code, 0.0) for code in codes)
    return [f"{point.offered:.2f}", *(f"{100 * share:.1f} %" for share in shares)]


def _verdict(found: Sequence[CurvePoint], *, deadline_ms: float) -> str:
    beyond = [point for point in found if point.factor >= 2]
    if not beyond:
        return "No overload of twice the peak or more was measured."
    goodput = min(point.goodput.median for point in beyond)
    p99s_ms = [point.p99_ms for point in beyond if point.p99_ms is not None]
    slowest = f"{max(p99s_ms):,.0f} ms" if p99s_ms else "unknown: none was accepted"
    return (
        f"From twice the peak on: goodput at least {goodput:.2f} of it, p99 of accepted calls at "
        f"most {slowest}, deadline {deadline_ms:,.0f} ms."
    )


def _fairness(results: Results) -> list[str]:
    run, asked = results.run, results.run.settings
    lines = trickle_lines(results.loads)
    how = (
        f"A trickle of lone short texts, {asked['rate_per_s']:g} a second at equal distances, "
        f"alone; beside a stream with {asked['in_flight']} messages of {asked['stream_texts']} "
        f"texts in flight; and beside {asked['in_flight']} callers of {asked['call_texts']} "
        f"texts a call. {asked['rounds']} interleaved rounds of {asked['seconds']:g} s each."
    )
    words = (
        "Times are from when a text was due to its answer, all rounds together. A *ratio* is "
        "over the same of the trickle alone; *min..max* is that of p99 within each round, where "
        f"p99 is of few texts. Both callers share the {run.threads} CPUs with the server, and so "
        "its own time is shown as well: what is beyond that is a caller waiting for a CPU."
    )
    return [
        f"# Fairness of {run.model_id}",
        when_and_where(run),
        how,
        words,
        table(_TRICKLE, [_trickle_row(line) for line in lines]),
    ]


def _trickle_row(line: TrickleLine) -> list[str]:
    alone = line.condition == ALONE
    return [
        line.condition,
        f"{line.count:,}",
        f"{line.failed:,}",
        _ms(line.p50_ms),
        _ms(line.p99_ms),
        f"{line.p50_ratio:.2f}",
        f"{line.p99_ratio:.2f}",
        "-" if line.round_p99_ratios is None else _range(line.round_p99_ratios),
        _ms(line.server_p99_ms),
        f"{line.server_p99_ratio:.2f}",
        "-" if alone else f"{line.bulk_texts_per_s:,.0f}",
    ]


def _server(run: Run) -> str:
    asked = run.settings
    versions = ", ".join(f"{name} {version}" for name, version in asked["versions"].items())
    flags = " ".join(asked["server_flags"]) or "its defaults"
    return f"Server: {asked['precision']} on {asked['provider']}, {flags}; {versions}."


def _range(spread: Spread) -> str:
    return f"{spread.low:.2f}..{spread.high:.2f}"


def _ms(value_ms: float | None) -> str:
    return "-" if value_ms is None else f"{value_ms:,.1f}"
