"""Whole load tests against a small server over real sockets."""

import asyncio
import io
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

from unitvec_loadtest.connection import ServerUnreachableError
from unitvec_loadtest.corpus import load_corpus
from unitvec_loadtest.report import Report, Step
from unitvec_loadtest.results import Outcome
from unitvec_loadtest.settings import Arrivals, Rpc, Settings
from unitvec_loadtest.tester import EveryCallFailsError, LoadTest, ReferencesError

ALL_RPCS = pytest.mark.parametrize("rpc", list(Rpc), ids=lambda rpc: rpc.value)


def settings_for(target: str, **values: object) -> Settings:
    """Settings for short tests: two texts a request and no warm-up."""
    return Settings(
        **{"target": target, "texts_per_request": 2, "warmup_s": 0, "timeout_s": 20, **values}
    )


async def run_test(target: str, **values: object) -> Report:
    """Runs a short test."""
    return await LoadTest(settings_for(target, **values)).run()


def errors_of(report: Report) -> dict[str, int]:
    """Errors by the name of their code."""
    return {error.outcome.name: error.count for error in report.summary.errors}


@ALL_RPCS
@pytest.mark.parametrize("pace", [{"concurrency": 5}, {"rate_per_s": 500.0}], ids=str)
async def test_every_request_is_sent_once_and_counted(small_server, rpc, pace) -> None:
    """The server saw `count` requests with the texts of the corpus in order, and all are ok."""
    report = await run_test(small_server.target, rpc=rpc, count=60, seed=3, verify=True, **pace)
    summary, corpus = report.summary, load_corpus(seed=3)
    assert (summary.sent, summary.succeeded, errors_of(report)) == (60, 60, {})
    sent = Counter(small_server.servicer.texts[len(set(corpus.texts)) :])
    assert sent == Counter(corpus.draw(0, count=120))
    tokens = sum(len(text.split()) + 2 for text in sent.elements())
    assert report.columns.tokens.sum() == tokens
    assert summary.texts_per_s == pytest.approx(2 * summary.requests_per_s)


@ALL_RPCS
async def test_failures_are_data(small_server, rpc) -> None:
    """Every fifth request is refused: each is counted, with a message, and the run goes on."""
    small_server.servicer.fail_when = lambda call: call % 5 == 0
    report = await run_test(small_server.target, rpc=rpc, count=50, concurrency=3)
    assert (report.summary.sent, report.summary.succeeded) == (50, 40)
    assert errors_of(report) == {"RESOURCE_EXHAUSTED": 10}
    assert report.summary.errors[0].example == "queue is full at 5"
    assert small_server.servicer.calls == 50


@pytest.mark.parametrize("channels", [1, 3])
@ALL_RPCS
async def test_channels_are_connections(small_server, rpc, channels: int) -> None:
    """Requests come over as many connections as channels were asked for."""
    await run_test(small_server.target, rpc=rpc, count=30, channels=channels)
    assert len(small_server.servicer.peers) == channels
    assert small_server.servicer.streams == (channels if rpc is Rpc.STREAM else 0)


@ALL_RPCS
async def test_the_token_goes_with_every_call(small_server, rpc) -> None:
    """Including those of --verify and the opening of streams."""
    await run_test(small_server.target, rpc=rpc, count=5, token="s3cret", verify=True)
    assert set(small_server.servicer.tokens) == {"Bearer s3cret"}


@ALL_RPCS
async def test_wrong_answers_are_found(small_server, rpc) -> None:
    """With --verify a mixed-up answer is a failure; without it only the form is checked."""
    references = len(set(load_corpus().texts))
    small_server.servicer.wrong_when = lambda call: call > references and call % 4 == 0
    report = await run_test(small_server.target, rpc=rpc, count=40, verify=True)
    assert errors_of(report) == {"WRONG_ANSWER": 10}
    assert "sent alone" in report.summary.errors[0].example
    report = await run_test(small_server.target, rpc=rpc, count=40)
    assert errors_of(report) == {}


@ALL_RPCS
async def test_a_stalled_server_is_waited_for_up_to_the_deadline(small_server, rpc) -> None:
    """Requests that get no answer end as DEADLINE_EXCEEDED, and the run with them."""
    small_server.servicer.gate.clear()
    report = await run_test(small_server.target, rpc=rpc, count=8, concurrency=8, timeout_s=0.2)
    assert errors_of(report) == {"DEADLINE_EXCEEDED": 8}
    assert report.summary.latency is None
    assert report.summary.latency_all is not None


async def test_an_open_loop_keeps_its_schedule(small_server) -> None:
    """No coordinated omission: a request that had to wait has the wait in its latency.

    A million a second with room for one in flight: each is due a microsecond after the last
    and sent when that has ended, so every latency holds all the calls before it.
    """
    report = await run_test(small_server.target, rate_per_s=1e6, count=50, max_in_flight=1)
    columns = report.columns
    assert columns.due_ns.tolist() == [n * 1000 for n in range(50)]
    assert (columns.sent_ns[1:] >= columns.done_ns[:-1]).all()
    assert (np.diff(columns.latency_ns) > 0).all()
    service_ns = columns.done_ns - columns.sent_ns
    assert (columns.latency_ns >= service_ns.cumsum() - columns.due_ns).all()
    assert report.summary.rate_per_s < report.summary.asked_rate_per_s


async def test_what_is_a_timeout_late_is_given_up(small_server) -> None:
    """A sender that cannot keep up says so, request by request, and ends."""
    small_server.servicer.gate.clear()
    report = await run_test(
        small_server.target, rate_per_s=1000.0, count=50, max_in_flight=1, timeout_s=0.1
    )
    errors = errors_of(report)
    assert errors["NOT_SENT"] + errors["DEADLINE_EXCEEDED"] == report.summary.sent == 50
    assert errors["NOT_SENT"] > 40
    # A call may end before a busy machine has shown it to the server.
    assert small_server.servicer.calls <= errors["DEADLINE_EXCEEDED"]


async def test_warm_up_is_sent_and_not_counted(small_server) -> None:
    """The server sees more requests than the report."""
    report = await run_test(
        small_server.target, rate_per_s=200.0, warmup_s=0.1, count=10, arrivals=Arrivals.POISSON
    )
    assert report.summary.sent == 10
    assert small_server.servicer.calls == len(report.columns.due_ns) > 10
    assert not report.columns.measured[report.columns.due_ns < 100_000_000].any()


async def test_a_stream_that_ends_is_opened_again(small_server) -> None:
    """Messages that the end left without an answer fail with its status; later ones go on."""
    small_server.servicer.end_stream_after = 10
    report = await run_test(small_server.target, rpc=Rpc.STREAM, count=35, concurrency=1)
    assert report.summary.sent == 35
    # A message may be on its way when its stream ends: at most one for each of three ends.
    assert set(errors_of(report)) <= {"UNAVAILABLE"}
    assert report.summary.failed <= 3
    assert small_server.servicer.streams == 4


async def test_all_that_wait_on_a_broken_stream_are_told(small_server) -> None:
    """The server goes away with eight messages unanswered: eight failures, no hang."""
    servicer = small_server.servicer
    servicer.gate.clear()
    test = LoadTest(settings_for(small_server.target, rpc=Rpc.STREAM, count=8, concurrency=8))
    running = asyncio.create_task(test.run())
    await servicer.reached(1)
    await small_server.server.stop(None)
    report = await running
    assert report.summary.sent == report.summary.failed == 8


@pytest.mark.parametrize("pace", [{"concurrency": 4}, {"rate_per_s": 100.0}], ids=str)
async def test_stop_ends_the_run_and_reports(small_server, pace) -> None:
    """What was in flight is waited for and counted."""
    servicer = small_server.servicer
    test = LoadTest(settings_for(small_server.target, duration_s=3600, **pace))
    running = asyncio.create_task(test.run())
    await servicer.reached(20)
    test.stop()
    report = await running
    assert report.interrupted
    assert report.summary.sent == report.summary.succeeded == servicer.calls
    assert report.summary.window_s < 3600


async def test_stop_before_the_start(small_server) -> None:
    """A test stopped while it connects sends nothing and still reports."""
    test = LoadTest(settings_for(small_server.target, rate_per_s=10.0))
    test.stop()
    report = await test.run()
    assert (report.interrupted, report.summary.sent, small_server.servicer.calls) == (True, 0, 0)


async def test_search_finds_the_limit(small_server) -> None:
    """A server that holds everything: the search ends, confirmed, at --max-rate."""
    steps: list[Step] = []
    settings = settings_for(
        small_server.target,
        find_max=True,
        p99_ms=19_000,
        rate_per_s=20.0,
        max_rate_per_s=50.0,
        step_s=0.2,
        duration_s=0.3,
    )
    report = await LoadTest(settings, on_step=steps.append).run()
    assert report.search is not None
    assert report.search.found_rate_per_s == 50
    assert [step.rate_per_s for step in steps] == [20, 40, 50, 50]
    assert report.search.steps == tuple(steps)
    assert report.summary.sent == 15


async def test_search_does_not_take_errors(small_server) -> None:
    """A fast server that fails holds no rate."""
    small_server.servicer.fail_when = lambda call: True
    report = await run_test(
        small_server.target, find_max=True, p99_ms=1000, rate_per_s=100.0, step_s=0.05
    )
    assert report.search is not None
    assert report.search.found_rate_per_s is None
    assert {step.held for step in report.search.steps} == {False}
    reasons = {step.reason for step in report.search.steps if step.sent}
    assert all("failed" in reason for reason in reasons)


async def test_verify_needs_its_references(small_server) -> None:
    """A server that refuses the references ends the test with the status in the message."""
    small_server.servicer.fail_when = lambda call: call == 7
    with pytest.raises(ReferencesError, match="RESOURCE_EXHAUSTED: queue is full at 7"):
        await run_test(small_server.target, count=1, verify=True)


async def test_no_server() -> None:
    """Where nobody listens the test says so."""
    with pytest.raises(ServerUnreachableError, match=r"127\.0\.0\.1:1 "):
        await run_test("127.0.0.1:1", count=1, timeout_s=0.2)


class Terminal(io.StringIO):
    """Sets an event when the first line of progress is written."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = asyncio.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "req/s" in text:
            self.shown.set()
        return super().write(text)


async def test_progress_line(small_server) -> None:
    """While a run goes on one line is rewritten; it is wiped at the end."""
    terminal = Terminal()
    test = LoadTest(settings_for(small_server.target, duration_s=3600), progress=terminal)
    running = asyncio.create_task(test.run())
    await terminal.shown.wait()
    test.stop()
    await running
    shown = terminal.getvalue()
    assert shown.startswith("\r")
    assert shown.endswith("\r\x1b[K")
    assert "0 errors" in shown
    assert "p99" in shown


async def test_texts_come_from_the_file(small_server, tmp_path: Path) -> None:
    """The server gets the texts of the file, all of them equally often."""
    path = tmp_path / "texts.txt"
    path.write_text("one\n\ntwo words\nthree more words\n", "utf-8")
    report = await run_test(small_server.target, texts=path, texts_per_request=1, count=30)
    texts = Counter(small_server.servicer.texts)
    assert texts == {"one": 10, "two words": 10, "three more words": 10}
    assert Counter(report.columns.tokens.tolist()) == {3: 10, 4: 10, 5: 10}
    assert np.all(report.columns.outcome == Outcome.OK)


@ALL_RPCS
@pytest.mark.parametrize("pace", [{"concurrency": 3}, {"rate_per_s": 200.0}], ids=str)
async def test_an_error_that_every_call_gets_ends_the_run(small_server, rpc, pace) -> None:
    """An hour's run with a wrong token ends with what the server says of it."""
    small_server.servicer.refuse_all = (grpc.StatusCode.UNAUTHENTICATED, "no valid token")
    with pytest.raises(EveryCallFailsError, match="gets UNAUTHENTICATED: no valid token"):
        await run_test(small_server.target, rpc=rpc, duration_s=3600, **pace)
    assert small_server.servicer.calls < 1000


async def test_a_server_that_stays_unavailable_ends_the_run(small_server) -> None:
    """Not at once: it may be starting."""
    small_server.servicer.refuse_all = (grpc.StatusCode.UNAVAILABLE, "nobody is behind the proxy")
    small_server.servicer.refuse_when = lambda call: call <= 50
    report = await run_test(small_server.target, count=60)
    assert errors_of(report) == {"UNAVAILABLE": 50}
    small_server.servicer.refuse_when = lambda call: True
    with pytest.raises(EveryCallFailsError, match="UNAVAILABLE: nobody is behind the proxy"):
        await run_test(small_server.target, duration_s=3600)


async def test_errors_after_a_success_do_not_end_the_run(small_server) -> None:
    """They are what a load test counts."""
    small_server.servicer.refuse_all = (grpc.StatusCode.INTERNAL, "a bug")
    small_server.servicer.refuse_when = lambda call: call > 1
    report = await run_test(small_server.target, count=40)
    assert errors_of(report) == {"INTERNAL": 39}


async def test_refusals_by_load_do_not_end_the_run(small_server) -> None:
    """Even if there is nothing else."""
    small_server.servicer.fail_when = lambda call: True
    report = await run_test(small_server.target, count=40, concurrency=2)
    assert errors_of(report) == {"RESOURCE_EXHAUSTED": 40}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "unitvec 1.2, two in int8 on cpu (org/two, revision c5f2, 8 dimensions)"),
        ("one", "unitvec 1.2, one in fp32 (org/one, 8 dimensions)"),
        ("none", "None"),
    ],
)
async def test_the_report_names_the_model_that_was_called(small_server, asked, said) -> None:
    """The default one, where none is named; a server that does not know it says so to calls."""
    report = await run_test(small_server.target, count=3, model=asked)
    assert str(report.served) == said
