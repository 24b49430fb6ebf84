"""A whole load test: connects, prepares, runs or searches, and computes the report."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import grpc

from unitvec_client.connection import call_metadata
from unitvec_client.console.terminal import waiting_for, working
from unitvec_loadtest.answers import MalformedMatrixError, References
from unitvec_loadtest.connection import CONNECT_TIMEOUT_S, connection_options, open_stubs
from unitvec_loadtest.corpus import Corpus, load_corpus
from unitvec_loadtest.pacer import Window
from unitvec_loadtest.progress import show_progress
from unitvec_loadtest.report import Report, SearchReport, Step
from unitvec_loadtest.runner import Load, Run
from unitvec_loadtest.search import Search, Stage
from unitvec_loadtest.senders import (
    EmbedSender,
    RequestForm,
    Sender,
    SimilaritySender,
    fetch_references,
)
from unitvec_loadtest.settings import Rpc, Settings
from unitvec_loadtest.statistics import Summary, summarize
from unitvec_loadtest.streams import StreamSender
from unitvec_loadtest.surroundings import ServedModel, ask_model

if TYPE_CHECKING:
    from unitvec_protos.v1.embedding_pb2_grpc import EmbeddingServiceAsyncStub

_SENDERS: dict[Rpc, Callable[..., Sender]] = {
    Rpc.EMBED: EmbedSender,
    Rpc.STREAM: StreamSender,
    Rpc.SIMILARITY: SimilaritySender,
}


class ReferencesError(RuntimeError):
    """The reference vectors of --verify could not be had."""


class EveryCallFailsError(RuntimeError):
    """Every call gets one and the same error, which no load causes: such as a wrong token."""


class LoadTest:
    """One load test, to be run once, on one event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_step: Callable[[Step], None] | None = None,
        progress: TextIO | None = None,
    ) -> None:
        """Reads the texts; connects to nothing yet.

        Args:
            settings: What to do.
            on_step: Called with each step of a search as it ends.
            progress: Where to keep a line that says how it is going; None for nowhere.

        Raises:
            InputError: The texts cannot be read.
        """
        self._settings = settings
        self._corpus = load_corpus(
            settings.texts,
            field=settings.field,
            input_format=settings.input_format,
            seed=settings.seed,
        )
        self._on_step = on_step
        self._progress = progress
        self._stopping = False
        self._current: Run | None = None

    async def run(self) -> Report:
        """Runs the test to its end, or to the first `stop`.

        Raises:
            ServerUnreachableError: There is no server.
            ReferencesError: --verify could not get its reference vectors.
            EveryCallFailsError: Every call gets one and the same error.
            InputError: A certificate cannot be read, or the token cannot be sent.
        """
        async with open_stubs(self._settings) as stubs:
            served = await self._ask_model(stubs[0])
            sender = await self._prepare_sender(stubs)
            try:
                measure = self._search if self._settings.find_max else self._measure
                return replace(await measure(sender), served=served)
            finally:
                await sender.close()

    def stop(self) -> None:
        """Ends the test early; what is in flight is still waited for and reported."""
        self._stopping = True
        if self._current is not None:
            self._current.stop()

    async def _ask_model(self, stub: "EmbeddingServiceAsyncStub") -> ServedModel | None:
        asked = self._settings
        timeout_s = min(CONNECT_TIMEOUT_S, asked.timeout_s)
        metadata = call_metadata(connection_options(asked))
        return await ask_model(stub, asked.model, timeout_s=timeout_s, metadata=metadata)

    async def _prepare_sender(self, stubs: "list[EmbeddingServiceAsyncStub]") -> Sender:
        asked = self._settings
        form = RequestForm(
            model=asked.model,
            dtype=asked.dtype,
            timeout_s=asked.timeout_s,
            metadata=call_metadata(connection_options(asked)),
        )
        if asked.verify:
            form = replace(form, references=await self._fetch_references(stubs[0], form))
        return _SENDERS[asked.rpc](stubs, form=form)

    async def _fetch_references(
        self, stub: "EmbeddingServiceAsyncStub", form: RequestForm
    ) -> References:
        count = len(set(self._corpus.texts))
        with contextlib.ExitStack() as shown:
            if self._progress is not None:
                what = f"embedding {count:,} texts one by one, for --verify"
                shown.enter_context(working(waiting_for(what), self._progress))
            return await _fetch_references(stub, self._corpus, form)

    async def _measure(self, sender: Sender) -> Report:
        asked = self._settings
        run = self._build_run(sender, window=asked.window, rate_per_s=asked.rate_per_s)
        return await self._finish(run)

    def _build_run(self, sender: Sender, *, window: Window, rate_per_s: float | None) -> Run:
        asked = self._settings
        load = Load(
            window=window,
            pacer=None if rate_per_s is None else asked.pacer(rate_per_s),
            workers=asked.workers,
            texts_per_request=asked.texts_per_request,
            max_in_flight=asked.max_in_flight,
            give_up_s=asked.timeout_s,
        )
        return Run(sender, self._corpus, load=load)

    async def _finish(self, run: Run) -> Report:
        """Runs one load and computes its report."""
        started_at = datetime.now(UTC)
        self._current = run
        if self._stopping:
            run.stop()
        async with _progress_line(run, self._progress):
            results = await run.run()
        if (failure := run.every_call_gets) is not None:
            raise EveryCallFailsError(f"every call gets {failure.outcome.name}: {failure.message}")
        columns = results.columns()
        pacer = run.load.pacer
        summary = summarize(
            columns,
            span=run.span,
            examples=results.examples,
            asked_rate_per_s=None if pacer is None else pacer.rate_per_s,
        )
        return Report(self._settings, started_at, summary, columns, run.span, run.interrupted)

    async def _search(self, sender: Sender) -> Report:
        asked = self._settings
        search = Search(asked.start_rate_per_s, asked.max_rate_per_s)
        steps: list[Step] = []
        while True:
            confirming = search.stage is Stage.CONFIRM
            window = asked.window if confirming else asked.step_window
            run = self._build_run(sender, window=window, rate_per_s=search.rate_per_s)
            report = await self._finish(run)
            if not report.interrupted:
                step = self._judge(search, report.summary)
                steps.append(step)
                if self._on_step is not None:
                    self._on_step(step)
                search = search.after(held=step.held)
            if report.interrupted or search.done:
                return replace(report, search=self._conclude(search, steps))

    def _judge(self, search: Search, summary: Summary) -> Step:
        reason = why_it_fails(summary, p99_ms=self._target_ms)
        return Step(
            stage=search.stage,
            rate_per_s=search.rate_per_s,
            held=not reason,
            reason=reason,
            sent=summary.sent,
            failed=summary.failed,
            p99_ms=None if summary.latency is None else summary.latency.p99_ms,
        )

    def _conclude(self, search: Search, steps: list[Step]) -> SearchReport:
        found = search.rate_per_s if search.stage is Stage.FOUND else None
        return SearchReport(self._target_ms, tuple(steps), found)

    @property
    def _target_ms(self) -> float:
        assert self._settings.p99_ms is not None  # Settings saw to it
        return self._settings.p99_ms


def why_it_fails(summary: Summary, *, p99_ms: float) -> str:
    """Says why a rate does not hold the target; empty if it does."""
    if summary.failed:
        return f"{summary.failed:,} of {summary.sent:,} requests failed"
    if summary.latency is None:
        return "no request was sent"
    if summary.latency.p99_ms > p99_ms:
        return f"p99 is over {p99_ms:g} ms"
    return ""


async def _fetch_references(
    stub: "EmbeddingServiceAsyncStub", corpus: Corpus, form: RequestForm
) -> References:
    try:
        return await fetch_references(stub, corpus, form=form)
    except grpc.aio.AioRpcError as exc:
        message = f"--verify cannot embed its references: {exc.code().name}: {exc.details()}"
        raise ReferencesError(message) from exc
    except MalformedMatrixError as exc:
        raise ReferencesError(f"--verify got a malformed reference: {exc}") from exc


@contextlib.asynccontextmanager
async def _progress_line(run: Run, stream: TextIO | None) -> AsyncIterator[None]:
    if stream is None:
        yield
        return
    line = asyncio.create_task(show_progress(run, stream=stream))
    try:
        yield
    finally:
        line.cancel()
        await asyncio.gather(line, return_exceptions=True)
