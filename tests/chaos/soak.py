"""Minutes of everything at once: does it still weigh what it did?"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from tests.chaos.expected import Known
from tests.chaos.faults import cancel_many, poisonous, settle, vanish
from tests.chaos.load import MIXED, Callers, embed_batch
from tests.chaos.pressure import PREFACE, open_stub
from tests.chaos.replica import FAULTY, Replica, Weight, replicas
from tests.chaos.stage import Outcome, Stage
from tests.chaos.tally import Tally
from unitvec_client import AsyncClient, InvalidArgumentError, ModelNotFoundError
from unitvec_protos.v1 import embedding_pb2 as pb

MAX_GROWTH = 0.02
"""Of resident memory, after warm-up."""
MAX_MORE_THREADS = 2
MAX_MORE_DESCRIPTORS = 16
WARM_UP_S = 300.0
"""Or a quarter of the time, where that is less."""
_SAMPLE_S = 1.0
_FAULT_PAUSE_S = 3.0


@dataclass
class Scales:
    """Weights of a process over time.

    Attributes:
        samples: (seconds since the start, weight), a second apart.
    """

    samples: list[tuple[float, Weight]] = field(default_factory=list)

    def between(self, start_s: float, end_s: float) -> Weight:
        """Medians of the samples of this time: a single sample catches a batch in flight."""
        chosen = [weight for at_s, weight in self.samples if start_s <= at_s < end_s]
        return Weight(
            *(int(statistics.median(getattr(weight, name) for weight in chosen)) for name in _PARTS)
        )


_PARTS = ("rss_bytes", "descriptors", "threads")


async def soak(stage: Stage, *, minutes: float) -> Outcome:
    """Mixed traffic and faults for this long; at the end it weighs what it did when warm."""
    outcome = Outcome(f"soak of {minutes:g} minutes")
    bad = Tally(tolerated=frozenset({"INFERENCE_FAILED"}))
    scales = Scales()
    async with replicas(replace(stage.launch, module=FAULTY)) as (server,):
        ended = asyncio.Event()
        started_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_sample(server, scales, ended, stage))
            tasks.create_task(_cause_faults(server, stage, ended))
            tasks.create_task(_send(server, stage, outcome, bad=bad, ended=ended))
            await asyncio.sleep(minutes * 60)
            ended.set()
        _judge(scales, outcome, total_s=time.monotonic() - started_s)
        idle = scales.samples[0][1].descriptors
        await settle(server, descriptors=idle)
        outcome.figures["descriptors_idle_growth"] = server.weigh().descriptors - idle
        outcome.check(
            kept=server.weigh().descriptors <= idle + MAX_MORE_DESCRIPTORS,
            promise="descriptors were not given back",
        )
        status = await server.end()
        outcome.check(kept=status == 0, promise=f"it ended with {status}")
    outcome.figures |= {"bad_requests": bad.sent, "samples": len(scales.samples)}
    outcome.check(
        kept=not (bad.wrong or bad.lost), promise=f"bad requests were not refused as such: {bad}"
    )
    return outcome


async def _send(
    server: Replica, stage: Stage, outcome: Outcome, *, bad: Tally, ended: asyncio.Event
) -> None:
    kinds = {**MIXED, embed_batch: 1}
    async with AsyncClient(server.target) as client:
        honest = Callers(client, stage.known, outcome.tally, stage.scale.callers, kinds, stage.seed)
        rude = Callers(client, stage.known, bad, 2, {poisonous: 1, malformed: 3}, stage.seed)
        async with honest, rude:
            await ended.wait()


async def malformed(client: AsyncClient, known: Known, choice: random.Random) -> bool:
    """A request that must be refused for what it is."""
    requests: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: client.embed("a", model="no such model"),
        lambda: client.embed("a", dimensions=100_000),
        lambda: client.embed("a", prompt_name="no such prompt"),
        lambda: client.embed("long " * 2_000, truncate="error"),
    )
    await asyncio.sleep(0.05)  # the loud are few
    try:
        await choice.choice(requests)()
    except (InvalidArgumentError, ModelNotFoundError):
        return True
    return False


async def _sample(server: Replica, scales: Scales, ended: asyncio.Event, stage: Stage) -> None:
    started_s = time.monotonic()
    while not ended.is_set():
        weight, at_s = server.weigh(), time.monotonic() - started_s
        scales.samples.append((at_s, weight))
        if len(scales.samples) % 60 == 1:
            stage.note(
                f"{at_s:6.0f} s: {weight.rss_bytes / 2**20:.1f} MiB, "
                f"{weight.descriptors} descriptors, {weight.threads} threads"
            )
        await _wait(ended, _SAMPLE_S)


async def _cause_faults(server: Replica, stage: Stage, ended: asyncio.Event) -> None:
    """One fault after another, in turn, with pauses."""
    faults = (
        lambda: vanish(server.target),
        lambda: cancel_many(server.target, stage, count=30),
        lambda: _freeze(server),
        lambda: _read_slowly(server, stage, ended),
        lambda: _greet(server),
    )
    number = 0
    while not ended.is_set():
        await faults[number % len(faults)]()
        number += 1
        await _wait(ended, _FAULT_PAUSE_S)


async def _freeze(server: Replica) -> None:
    server.send(signal.SIGSTOP)
    await asyncio.sleep(1.0)
    server.send(signal.SIGCONT)


async def _read_slowly(server: Replica, stage: Stage, ended: asyncio.Event) -> None:
    """A stream that sends and does not read, then goes away."""
    async with open_stub(server.target) as stub:
        call = stub.StreamEmbed()

        async def flood() -> None:
            while True:
                await call.write(
                    pb.StreamEmbedRequest(request=pb.EmbedRequest(texts=stage.known.texts[:8]))
                )

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await flood()
        call.cancel()


async def _greet(server: Replica) -> None:
    """Connections that greet and leave."""
    for greeting in (b"", PREFACE[:10], PREFACE, PREFACE + bytes(100)):
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(greeting)
        writer.close()


async def _wait(ended: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ended.wait()


def _judge(scales: Scales, outcome: Outcome, *, total_s: float) -> None:
    """Compares the tenth of the time that follows the warm-up with the last tenth."""
    warm_s, span_s = min(WARM_UP_S, total_s / 4), total_s / 10
    warm = scales.between(warm_s, warm_s + span_s)
    last = scales.between(total_s - span_s, total_s)
    growth = last.rss_bytes / warm.rss_bytes - 1
    outcome.figures |= {
        "rss_warm_mib": warm.rss_bytes / 2**20,
        "rss_last_mib": last.rss_bytes / 2**20,
        "rss_growth": growth,
        "descriptors_growth": last.descriptors - warm.descriptors,
        "threads_growth": last.threads - warm.threads,
    }
    more = last.descriptors - warm.descriptors
    outcome.check(kept=growth < MAX_GROWTH, promise=f"memory grew by {growth:.1%}")
    outcome.check(kept=more <= MAX_MORE_DESCRIPTORS, promise=f"{more} more descriptors")
    threads = last.threads - warm.threads
    outcome.check(kept=threads <= MAX_MORE_THREADS, promise=f"{threads} more threads")
