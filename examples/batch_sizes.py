"""How throughput and latency depend on how many texts go into a request, and on how they travel.

The same texts go to the server in requests of 1 to 256 texts, in two ways:

- unary: one `embed` at a time; the next starts when its answer is here.
- stream: one `embed_stream` of all texts, with up to 8 requests of this size under way.

Every text of a round is new to the server, so that nothing it remembers makes it look fast.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arguments import at_least, output_file, parser
from corpora import load_glosses
from unitvec_client import Client
from waiting import waiting

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Measurement:
    """What one way of sending the texts took.

    Attributes:
        way: "unary" or "stream".
        size: Texts in a request.
        texts: How many were sent.
        total_s: From the first text sent to the last vector here, in seconds.
        latencies_s: For each request, how long it took, in seconds; none for a stream.
    """

    way: str
    size: int
    texts: int
    total_s: float
    latencies_s: tuple[float, ...] = ()

    @property
    def throughput(self) -> float:
        """Texts per second."""
        return self.texts / self.total_s


@dataclass(frozen=True)
class Summary:
    """All rounds of one way and size.

    Attributes:
        way: "unary" or "stream".
        size: Texts in a request.
        throughput: Texts per second, the median of the rounds.
        p50_ms: Median latency of a request, in milliseconds; NaN for a stream.
        p99_ms: 99th percentile of it.
    """

    way: str
    size: int
    throughput: float
    p50_ms: float
    p99_ms: float


def measure_unary(client: Client, texts: Sequence[str], size: int) -> Measurement:
    """Sends the texts in requests of `size`, one after the other."""
    latencies = []
    for start in range(0, len(texts), size):
        started_s = time.perf_counter()
        client.embed(texts[start : start + size])
        latencies.append(time.perf_counter() - started_s)
    return Measurement("unary", size, len(texts), sum(latencies), tuple(latencies))


def measure_stream(client: Client, texts: Iterable[str], size: int) -> Measurement:
    """Sends the texts as one stream, in requests of `size`."""
    started_s = time.perf_counter()
    items = list(client.embed_stream(texts, chunk_texts=size))
    total_s = time.perf_counter() - started_s
    failed = [item.error for item in items if item.error is not None]
    if failed:
        raise failed[0]
    return Measurement("stream", size, len(items), total_s)


def measure(
    client: Client, texts: Sequence[str], sizes: Sequence[int], *, rounds: int
) -> list[Measurement]:
    """Measures each size in both ways, once a round: what disturbs, disturbs all alike."""
    # Begun anywhere, so that a server remembers nothing of an earlier run either.
    numbers = itertools.count(random.randrange(10**6))
    found = []
    for _ in range(rounds):
        for size in sizes:
            found.append(measure_unary(client, make_new(texts, next(numbers)), size))
            found.append(measure_stream(client, make_new(texts, next(numbers)), size))
    return found


def make_new(texts: Sequence[str], number: int) -> list[str]:
    """Returns texts that differ from those of any other number, which ends each."""
    return [f"{text} {number}" for text in texts]


def summarize(measurements: Iterable[Measurement]) -> list[Summary]:
    """Returns one summary for each way and size, in the order in which they first came."""
    groups: dict[tuple[str, int], list[Measurement]] = {}
    for found in measurements:
        groups.setdefault((found.way, found.size), []).append(found)
    return [_summarize(way, size, group) for (way, size), group in groups.items()]


def _summarize(way: str, size: int, group: list[Measurement]) -> Summary:
    latencies_ms = [1000 * latency for found in group for latency in found.latencies_s]
    p50, p99 = np.percentile(latencies_ms, [50, 99]) if latencies_ms else (np.nan, np.nan)
    throughput = float(np.median([found.throughput for found in group]))
    return Summary(way, size, throughput, float(p50), float(p99))


def print_table(summaries: Sequence[Summary]) -> None:
    """Prints a line for each size."""
    unary = {found.size: found for found in summaries if found.way == "unary"}
    stream = {found.size: found for found in summaries if found.way == "stream"}
    print(f"{'':>16}  {'unary, one request at a time':^36}  {'stream':>12}")
    print(f"{'texts a request':>16}  {'texts/s':>8}  {'p50':>12}  {'p99':>12}  {'texts/s':>12}")
    for size, found in unary.items():
        print(
            f"{size:>16}  {found.throughput:>8,.0f}  {found.p50_ms:>9,.1f} ms"
            f"  {found.p99_ms:>9,.1f} ms  {stream[size].throughput:>12,.0f}"
        )


def draw(summaries: Sequence[Summary], path: Path) -> None:
    """Draws throughput and latency over the size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for way, marker in (("unary", "o"), ("stream", "s")):
        found = [summary for summary in summaries if summary.way == way]
        sizes = [summary.size for summary in found]
        left.plot(sizes, [summary.throughput for summary in found], marker=marker, label=way)
    unary = [summary for summary in summaries if summary.way == "unary"]
    sizes = [summary.size for summary in unary]
    right.plot(sizes, [summary.p50_ms for summary in unary], marker="o", label="p50")
    right.plot(sizes, [summary.p99_ms for summary in unary], marker="^", label="p99")
    left.set(title="Throughput", ylabel="texts per second", ylim=(0, None))
    right.set(title="Latency of a unary request", ylabel="milliseconds", yscale="log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xlabel("texts in a request")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints and draws."""
    flags = parser(__doc__)
    flags.add_argument("--count", type=at_least(1), default=512, help="texts in a round")
    flags.add_argument("--rounds", type=at_least(1), default=3, help="how often each is measured")
    flags.add_argument(
        "--sizes", type=at_least(1), nargs="+", default=list(SIZES), help="texts a request"
    )
    args = flags.parse_args(argv)
    texts = [gloss.text for gloss in load_glosses(args.count)]
    with Client(args.target) as client, waiting(f"measuring {args.rounds} rounds"):
        client.embed(texts[:64])
        summaries = summarize(measure(client, texts, sorted(set(args.sizes)), rounds=args.rounds))
    print(f"{len(texts):,} glosses of WordNet, median of {args.rounds} rounds\n")
    print_table(summaries)
    best = max(summaries, key=lambda found: found.throughput)
    lone = min(summaries, key=lambda found: (found.size, found.way == "stream"))
    print(
        f"\nMost texts per second: {best.way}, {best.size} texts a request; "
        f"{best.throughput / lone.throughput:.1f} times one text at a time."
    )
    path = output_file(args.output, "batch_sizes.png")
    draw(summaries, path)
    print(f"Picture: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
