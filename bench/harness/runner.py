"""Rounds of all contenders in turn, in one run: what disturbs one round disturbs all of it."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.contenders import REFERENCE, Contender, WorkerSpec
from bench.harness.adapter import Vectors
from bench.harness.environments import EnvironmentMissing
from bench.harness.process import Worker, WorkerFailed
from bench.quality import compare, equal_rows, max_abs_diff, top_k_overlap
from bench.results import Bits, Loaded, Measurement, Quality, Record, Skipped
from bench.workloads import RetrievalTask, Workload

_ANSWER_TIMEOUT_S = 600.0
_T = TypeVar("_T")

Launch = Callable[[WorkerSpec], Worker]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        contenders: Who, the reference first.
        workloads: On which texts.
        retrieval: On which texts quality is measured.
        rounds: How often, the warm-up not counted.
        min_s: Least time of a measurement; passes are repeated to fill it.
        work_folder: Takes the vectors that contenders hand over.
        lone_texts: Documents that are embedded alone as well, to compare bits; 0 for no comparison.
    """

    contenders: tuple[Contender, ...]
    workloads: tuple[Workload, ...]
    retrieval: RetrievalTask
    rounds: int
    min_s: float
    work_folder: Path
    lone_texts: int = 0


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What a contender returned for some texts."""

    vectors: Vectors
    numbers: dict[str, Any]


class Runner:
    """Runs a plan.

    Args:
        plan: What to measure.
        launch: Starts a worker.
        say: Takes one line about what is being done.

    Raises:
        WorkerFailed: The reference fails; anyone else is skipped.
    """

    def __init__(self, plan: Plan, *, launch: Launch, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._launch = launch
        self._say = say
        self._workers: dict[WorkerSpec, Worker] = {}
        self._present = list(plan.contenders)
        self._expected: dict[str, Vectors] = {}

    def run(self) -> Iterator[Record]:
        """Loads everyone, checks their vectors, then measures round by round."""
        with contextlib.ExitStack() as stack:
            yield from self._load_all(stack)
            yield from self._check_all()
            for number in range(self._plan.rounds + 1):
                for workload in self._plan.workloads:
                    self._say(f"round {number} of {self._plan.rounds}: {workload.name}")
                    yield from self._measure_all(workload, number)

    def _load_all(self, stack: contextlib.ExitStack) -> Iterator[Record]:
        for contender in self._plan.contenders:
            try:
                yield self._load(contender, stack)
            except (WorkerFailed, EnvironmentMissing) as exc:
                yield self._drop(contender, exc)

    def _load(self, contender: Contender, stack: contextlib.ExitStack) -> Loaded:
        spec = contender.worker
        if spec not in self._workers:
            self._say(f"loading {contender.name}")
            self._workers[spec] = self._launch(spec)
            stack.callback(self._workers[spec].close)
        worker = self._workers[spec]
        return Loaded(
            contender=contender.name,
            title=contender.title,
            kind=contender.kind,
            variant=contender.variant,
            environment=spec.environment,
            versions=worker.versions,
            load_s=worker.load_s,
        )

    def _drop(self, contender: Contender, exc: Exception) -> Skipped:
        if contender.name == REFERENCE:
            raise exc
        self._present.remove(contender)
        self._say(f"skipped {contender.name}: {exc}")
        return Skipped(contender.name, str(exc))

    def _check_all(self) -> Iterator[Record]:
        expected: tuple[Vectors, Vectors] | None = None
        for contender in list(self._present):
            self._say(f"checking {contender.name}")
            try:
                queries, documents = self._retrieve(contender)
                expected = expected or (queries, documents)  # the reference is first
                overlap = top_k_overlap((queries, documents), expected)
                difference = self._batch_difference(contender, documents)
                bits = self._compare_bits(contender, documents)
            except (WorkerFailed, ValueError) as exc:
                yield self._drop(contender, exc)
            else:
                yield Quality(contender.name, overlap, len(queries), len(documents), difference)
                yield from bits

    def _retrieve(self, contender: Contender) -> tuple[Vectors, Vectors]:
        task = self._plan.retrieval
        return self._embed(contender, task.queries), self._embed(contender, task.documents)

    def _batch_difference(self, contender: Contender, vectors: Vectors) -> float:
        """Embeds half of the documents in another order, which gives each other mates."""
        order = random.Random(0).sample(range(len(vectors)), (len(vectors) + 1) // 2)
        again = self._embed(contender, [self._plan.retrieval.documents[i] for i in order])
        return max_abs_diff(again, vectors[order])

    def _compare_bits(self, contender: Contender, vectors: Vectors) -> list[Bits]:
        """Embeds the documents again, first all of them, then some that are sent alone."""
        texts, lone = self._plan.retrieval.documents, self._plan.lone_texts
        if not lone:
            return []
        again = self._embed(contender, texts)
        alone = np.concatenate([self._embed(contender, [text]) for text in texts[:lone]])
        return [
            Bits(
                contender=contender.name,
                texts=len(texts),
                equal_again=equal_rows(again, vectors),
                lone_texts=len(alone),
                equal_alone=equal_rows(alone, vectors[:lone]),
            )
        ]

    def _embed(self, contender: Contender, texts: Sequence[str]) -> Vectors:
        return self._ask(contender, Workload("check", tuple(texts)), min_s=0.0).vectors

    def _measure_all(self, workload: Workload, number: int) -> Iterator[Record]:
        answers: list[tuple[Contender, _Answer]] = []
        for contender in rotate(self._entrants(workload), number):
            try:
                answer = self._ask(contender, workload, min_s=self._plan.min_s)
                if contender.name == REFERENCE:
                    self._expected.setdefault(workload.name, answer.vectors)
                compare(answer.vectors, self._expected[workload.name])
            except (WorkerFailed, ValueError) as exc:
                yield self._drop(contender, exc)
            else:
                answers.append((contender, answer))
        base = next(_texts_per_s(answer) for entry, answer in answers if entry.name == REFERENCE)
        for contender, answer in answers:
            yield self._measurement(contender, workload, answer, number, base)

    def _entrants(self, workload: Workload) -> list[Contender]:
        return [entry for entry in self._present if workload.single or not entry.only_single]

    def _ask(self, contender: Contender, workload: Workload, *, min_s: float) -> _Answer:
        path = self._plan.work_folder / "vectors.npy"
        command = {
            "texts": workload.texts,
            "call": dataclasses.asdict(contender.call_for(single=workload.single)),
            "min_s": min_s,
            "vectors_path": str(path),
        }
        numbers = self._workers[contender.worker].ask(command, timeout_s=_ANSWER_TIMEOUT_S)
        vectors = np.load(path)
        path.unlink()
        return _Answer(vectors, numbers | {"texts": len(workload.texts)})

    def _measurement(
        self, contender: Contender, workload: Workload, answer: _Answer, number: int, base: float
    ) -> Measurement:
        numbers, cosines = answer.numbers, compare(answer.vectors, self._expected[workload.name])
        texts_per_s = _texts_per_s(answer)
        return Measurement(
            contender=contender.name,
            workload=workload.name,
            round=number,
            texts_per_s=texts_per_s,
            tokens_per_s=texts_per_s * numbers["tokens"] / numbers["texts"],
            ratio=texts_per_s / base,
            cosine_mean=cosines.mean,
            cosine_p1=cosines.p1,
            cosine_min=cosines.min,
            **numbers,
        )


def rotate(entries: Sequence[_T], number: int) -> list[_T]:
    """Starts one place further on in each round; in round 0 with the first."""
    start = number % max(1, len(entries))
    return [*entries[start:], *entries[:start]]


def _texts_per_s(answer: _Answer) -> float:
    numbers = answer.numbers
    return float(numbers["passes"] * numbers["texts"] / numbers["seconds"])
