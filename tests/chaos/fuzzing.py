"""Hostile calls against a live server, which must answer each and go on serving."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.expected import Known
from tests.chaos.replica import Replica, replicas
from tests.chaos.schedules import SCHEDULES, bind
from tests.chaos.stage import Outcome, Stage
from tests.chaos.strategies import Case, field_values, mutated_messages, random_bytes
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc

ANSWERS = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""What hostile input may be answered with. All else is a fault of ours, or silence."""
MAX_GROWTH = 0.04
"""Of resident memory, after a fifth of the cases: 4 MiB of a tiny model's 100; 2 come and go."""
_TIMEOUT_S = 60.0
_CHECK_EVERY = 500
_ROUND = 1_000

KINDS: tuple[Callable[[], st.SearchStrategy[Case]], ...] = (
    random_bytes,
    mutated_messages,
    mutated_messages,
    mutated_messages,
    field_values,
)


class Target:
    """A server under fire.

    Args:
        address: host:port.
        known: What it must go on answering.
    """

    def __init__(self, address: str, known: Known) -> None:
        self.channel = grpc.insecure_channel(address)
        self.known = known
        self.codes: Counter[str] = Counter()
        self.cases = 0
        self._stub = pb_grpc.EmbeddingServiceStub(self.channel)

    def attack(self, case: Case) -> None:
        """Makes a call and holds its outcome against the contract.

        Raises:
            AssertionError: It was answered as it must not be.
        """
        self.codes[answer(self.channel, case).name] += 1
        self.count()

    def count(self) -> None:
        """Counts a case, and looks now and then whether honest callers are served."""
        self.cases += 1
        if self.cases % _CHECK_EVERY == 0:
            assert self.is_right(), f"a wrong vector after {self.cases} cases"

    def is_right(self) -> bool:
        """Whether a known text still has its vector."""
        index = self.cases % len(self.known.texts)
        request = pb.EmbedRequest(texts=[self.known.texts[index]])
        reply = self._stub.Embed(request, timeout=_TIMEOUT_S)
        vectors = np.frombuffer(reply.embeddings.data, "<f4").reshape(1, -1)
        return self.known.are_vectors(vectors, [index])


@contextmanager
def target(address: str, known: Known) -> Iterator[Target]:
    """A target whose channel is closed at the end."""
    under_fire = Target(address, known)
    try:
        yield under_fire
    finally:
        under_fire.channel.close()


def answer(channel: grpc.Channel, case: Case) -> grpc.StatusCode:
    """Sends the bytes of a case as they are and returns the status.

    Raises:
        AssertionError: The status is none of `ANSWERS`.
        google.protobuf.message.DecodeError: A reply is no message of its type.
    """
    method = case.method
    path = f"/{method.containing_service.full_name}/{method.name}"
    read = GetMessageClass(method.output_type).FromString
    try:
        if method.client_streaming:
            stream: Any = channel.stream_stream(path, response_deserializer=read)
            for _ in stream(iter(case.bodies), timeout=_TIMEOUT_S):
                pass
        else:
            unary: Any = channel.unary_unary(path, response_deserializer=read)
            unary(case.bodies[0], timeout=_TIMEOUT_S)
    except grpc.RpcError as exc:
        code = exc.code()
        assert isinstance(code, grpc.StatusCode)
        if code not in ANSWERS:
            message = f"{code.name}: {exc.details()} {exc.debug_error_string()}: {case}"
            raise AssertionError(message) from exc
        return code
    return grpc.StatusCode.OK


def attack_with(
    strategy: st.SearchStrategy[Case], under_fire: Target, *, cases: int, number: int
) -> None:
    """Lets Hypothesis choose this many cases; a failing one is made as small as can be."""

    @_settings(cases)
    @seed(number)
    @given(strategy)
    def attack(case: Case) -> None:
        under_fire.attack(case)

    attack()


def play_schedules(under_fire: Target, *, cases: int) -> None:
    """Lets Hypothesis choose orders of sending, reading, finishing and cancelling on streams."""
    for machine in SCHEDULES:
        bound = bind(machine, under_fire.channel, under_fire.known, under_fire.count)
        run_state_machine_as_test(bound, settings=_settings(cases // len(SCHEDULES)))


def _settings(cases: int) -> settings:
    return settings(
        max_examples=max(1, cases),
        stateful_step_count=20,
        deadline=None,
        database=None,
        # Runs of a fixed number of cases: no time is spent on explaining a failure.
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


async def fuzz(stage: Stage, *, cases: int) -> Outcome:
    """All kinds of hostile input in turn, in rounds, until there were this many cases."""
    outcome = Outcome(f"fuzzing, {cases:,} cases")
    async with replicas(stage.launch) as (server,):
        with target(server.target, stage.known) as under_fire:
            try:
                await asyncio.to_thread(
                    _fuzz, under_fire, server, stage, cases=cases, outcome=outcome
                )
            finally:
                for line in server.error_lines:
                    stage.note(f"the server said: {line}")
            outcome.check(kept=under_fire.is_right(), promise="wrong after the last case")
            outcome.tally.sent = outcome.tally.right = under_fire.cases
            outcome.figures |= {f"{name}_count": n for name, n in under_fire.codes.items()}
        status = await server.end()
        outcome.check(kept=status == 0, promise=f"the server ended with {status}")
    return outcome


def _fuzz(
    under_fire: Target, server: Replica, stage: Stage, *, cases: int, outcome: Outcome
) -> None:
    warm = server.weigh()
    started_s, number, round_cases = time.monotonic(), stage.seed, min(_ROUND, max(1, cases // 20))
    while under_fire.cases < cases:
        if under_fire.cases < cases / 5:
            warm = server.weigh()
        for kind in KINDS:
            number += 1
            attack_with(kind(), under_fire, cases=round_cases, number=number)
        play_schedules(under_fire, cases=round_cases // 10)
        elapsed_s = time.monotonic() - started_s
        rss_mib = server.weigh().rss_bytes / 2**20
        stage.note(f"{elapsed_s:6.0f} s: {under_fire.cases:,} cases, {rss_mib:.1f} MiB")
    last = server.weigh()
    outcome.weigh(warm, last)
    growth = last.rss_bytes / warm.rss_bytes - 1
    outcome.figures["rss_growth"] = growth
    outcome.check(kept=growth < MAX_GROWTH, promise=f"memory grew by {growth:.1%}")
