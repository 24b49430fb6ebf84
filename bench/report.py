"""Raw results -> Markdown. Every figure is computed here from the lines of one run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.contenders import REFERENCE
from bench.results import Quality, Results, Run
from bench.summary import Line, Spread, lines, ratios, workloads
from bench.workloads import TITLES

_DISTURBED_CPUS = 0.15
"""Work of others on the machine, in CPUs, above which a line is marked."""

_SPEED = ("contender", "texts/s", "tokens/s", "ratio", "min..max", "CPUs", "RSS MiB")
_LATENCY = ("p50 ms", "p99 ms")
_COSINE = ("cosine mean", "p1", "min")
_CHECK = ("contender", "top-10 overlap", "largest change with other batch mates")
_BITS = ("contender", "again", "alone")
_LAYER = ("layer", "texts/s", "of bare session", "min..max")


def report_markdown(results: Results) -> str:
    """The whole report."""
    parts = [
        _heading(results),
        *(_speed_section(results, workload) for workload in workloads(results)),
        _quality_section(results),
        _bits_section(results),
        layers_markdown(results),
        _contender_section(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def layers_markdown(results: Results) -> str:
    """For each precision, what remains of the bare session's throughput at each layer."""
    variants = dict.fromkeys(entry.variant for entry in results.loaded if entry.variant)
    tables = [
        f"### {variant}, {workload}\n\n{table}"
        for variant in variants
        for workload in workloads(results)
        if (table := _layer_table(results, variant, workload))
    ]
    if not tables:
        return ""
    return "\n\n".join(["## Layers: where throughput goes", *tables])


def _heading(results: Results) -> str:
    run = results.run
    texts = ", ".join(f"{name} {count}" for name, count in run.settings["workloads"].items())
    how = (
        f"Each contender, with its client and server if it has them, was held to {run.threads} "
        f"CPUs by affinity and thread settings. {run.settings['rounds']} interleaved rounds after "
        f"one of warm-up, each measurement at least {run.settings['min_s']:g} s; all others were "
        f"stopped meanwhile. Texts in a pass: {texts}."
    )
    words = (
        f"*ratio* is throughput in texts over that of {REFERENCE} in the same round: median and "
        f"spread over the rounds. *CPUs* is processor time over time, *RSS* the peak of "
        f"client and server together. Cosines are to the vectors of {REFERENCE}, the worst "
        f"round's. `~` marks lines in whose time more than {_DISTURBED_CPUS:g} CPUs were "
        f"busy with something else."
    )
    return "\n\n".join([f"# Benchmark of {run.model_id}", when_and_where(run), how, words])


def when_and_where(run: Run) -> str:
    """One line: date, commit and machine."""
    machine = run.machine
    memory_gib = machine["memory_bytes"] / 2**30
    return (
        f"{run.started}, commit {run.commit}. {machine['cpu']}, {machine['usable_cpus']} of "
        f"{machine['cpus']} CPUs usable, {memory_gib:.0f} GiB, {' '.join(machine['flags'])}."
    )


def _speed_section(results: Results, workload: str) -> str:
    single = workload == "single"
    header = (*_SPEED, *(_LATENCY if single else ()), *_COSINE)
    rows = [_speed_row(line, single=single) for line in lines(results, workload)]
    return f"## {TITLES[workload]}\n\n{table(header, rows)}"


def _speed_row(line: Line, *, single: bool) -> list[str]:
    disturbed = " ~" if line.others_cpus > _DISTURBED_CPUS else ""
    latency = [f"{line.p50_ms:.2f}", f"{line.p99_ms:.2f}"] if single else []
    return [
        line.contender + disturbed,
        f"{line.texts_per_s.median:,.0f}",
        f"{line.tokens_per_s:,.0f}",
        f"{line.ratio.median:.2f}",
        _range(line.ratio),
        f"{line.cpus:.2f}",
        f"{line.peak_rss_bytes / 2**20:,.0f}",
        *latency,
        *map(cosine, (line.cosine_mean, line.cosine_p1, line.cosine_min)),
    ]


def _quality_section(results: Results) -> str:
    if not results.quality:
        return ""
    first = results.quality[0]
    rows = [_quality_row(entry) for entry in results.quality]
    return (
        "## Quality\n\n"
        f"*top-10 overlap*: part of the ten best documents of {REFERENCE} that are found as "
        f"well; {first.queries} queries, {first.documents} documents.\n\n{table(_CHECK, rows)}"
    )


def _quality_row(entry: Quality) -> list[str]:
    return [entry.contender, f"{entry.top10_overlap:.3f}", f"{entry.batch_max_abs_diff:.1e}"]


def _bits_section(results: Results) -> str:
    if not results.bits:
        return ""
    rows = [
        [
            entry.contender,
            f"{entry.equal_again} of {entry.texts}",
            f"{entry.equal_alone} of {entry.lone_texts}",
        ]
        for entry in results.bits
    ]
    return (
        "## Bits\n\nTexts whose vector was the same to the last bit when all were embedded "
        f"*again*, and when each was sent *alone*.\n\n{table(_BITS, rows)}"
    )


def _layer_table(results: Results, variant: str, workload: str) -> str:
    names = [entry.contender for entry in results.loaded if entry.variant == variant]
    base = f"session-{variant}"
    by_name = {line.contender: line for line in lines(results, workload)}
    if base not in by_name:
        return ""
    single = workload == "single"
    rows = [
        _layer_row(by_name[name], by_name[base], shares, single=single)
        for name in names
        if name in by_name and (shares := ratios(results, workload, of=name, to=base))
    ]
    return table((*_LAYER, *(("p50 ms", "over session") if single else ())), rows)


def _layer_row(line: Line, base: Line, shares: Spread, *, single: bool) -> list[str]:
    latency = [f"{line.p50_ms:.2f}", f"{line.p50_ms - base.p50_ms:+.2f}"] if single else []
    return [
        line.contender,
        f"{line.texts_per_s.median:,.0f}",
        f"{shares.median:.2f}",
        _range(shares),
        *latency,
    ]


def _contender_section(results: Results) -> str:
    skipped = {entry.contender: entry.reason for entry in results.skipped}
    rows = [
        [entry.contender, entry.title, _versions(entry.versions), f"{entry.load_s:.1f}"]
        for entry in results.loaded
    ]
    header = ("name", "what", "versions", "loaded in s")
    parts = ["## Contenders", table(header, rows, words=3)]
    if skipped:
        reasons = [f"- {name}: {' '.join(reason.split())}" for name, reason in skipped.items()]
        parts.append("Skipped:\n\n" + "\n".join(reasons))
    return "\n\n".join(parts)


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _range(spread: Spread) -> str:
    return f"{spread.low:.2f}..{spread.high:.2f}"


def cosine(value: float) -> str:
    """Four digits; more where they would all be nines."""
    return f"{value:.4f}" if value < 0.9999 else f"{value:.7f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A Markdown table, the first `words` columns to the left and numbers to the right."""
    marks = ["---" if index < words else "---:" for index in range(len(header))]
    every = [header, marks, *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in every)
