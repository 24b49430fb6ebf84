"""Clients that are closed, forked or used in another event loop while something goes on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from unitvec_protos.v1 import embedding_pb2 as pb

# A wait of this time, in seconds, would outlast the test's own time limit.
NEVER_S = 3600.0
CALLS = {
    "one request": lambda client: client.embed("a"),
    "several requests": lambda client: client.embed(["a"] * 100),
    "a stream": lambda client: list(client.embed_stream(["a"])),
    "a search": lambda client: client.search("a", ["b"]),
}


@dataclass(frozen=True)
class Patient(uv.RetryPolicy):
    """Waits for an hour after a refusal, and tells when it begins to."""

    begun: threading.Event = field(default_factory=threading.Event)

    def backoff_bound_s(self, failures: int) -> float:
        self.begun.set()
        return 0.0


@pytest.fixture
def patient(fake: Any, make_fault: Any) -> Patient:
    """All calls are told to come back after an hour."""
    error = pb.Error(code=8, reason="OVERLOADED", retry_delay_ms=int(NEVER_S * 1000))
    for method in ("Embed", "StreamEmbed", "StreamSimilarity"):
        fault = make_fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", error)
        fake.servicer.fail(method, *[fault] * 9)
    return Patient()


@pytest.mark.parametrize("kind", CALLS)
def test_close_ends_a_call_that_waits_to_be_sent_again(
    fake: Any, patient: Patient, kind: str
) -> None:
    client = uv.Client(fake.target, retry=patient, timeout_s=2 * NEVER_S)
    with ThreadPoolExecutor(1) as threads:
        call: Future[Any] = threads.submit(CALLS[kind], client)
        assert patient.begun.wait(60)
        client.close()
        with pytest.raises(uv.CallCancelledError, match="the client was closed"):
            call.result(timeout=60)


@pytest.fixture
def held(fake: Any) -> Iterator[threading.Event]:
    """Calls that arrive are not answered during the test; the event tells of the first."""
    arrived, release = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        release.wait()

    fake.servicer.before_reply = hold
    yield arrived
    release.set()


@pytest.mark.parametrize("kind", ["one request", "several requests"])
def test_close_ends_a_call_in_flight(fake: Any, held: threading.Event, kind: str) -> None:
    client = uv.Client(fake.target, timeout_s=NEVER_S)
    with ThreadPoolExecutor(1) as threads:
        call: Future[Any] = threads.submit(CALLS[kind], client)
        assert held.wait(60)
        client.close()
        with pytest.raises(uv.CallCancelledError, match="the client was closed"):
            call.result(timeout=60)


INTERRUPTED = """
import sys, unitvec_client as uv
client = uv.Client(sys.argv[1], timeout_s=3600)
try:
    client.embed("a")
except KeyboardInterrupt:
    print("interrupted", flush=True)
client.close()
print("closed", flush=True)
"""


def test_ctrl_c_ends_a_call_in_flight(fake: Any, held: threading.Event) -> None:
    command = [sys.executable, "-c", INTERRUPTED, fake.target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert held.wait(60)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert output.split() == ["interrupted", "closed"]
    assert process.returncode == 0


@pytest.mark.parametrize("kind", CALLS)
async def test_close_ends_a_task_that_waits_to_be_sent_again(
    fake: Any, patient: Patient, kind: str
) -> None:
    client = uv.AsyncClient(fake.target, retry=patient, timeout_s=2 * NEVER_S)

    async def call() -> Any:
        if kind == "a stream":
            return [item async for item in client.embed_stream(["a"])]
        return await CALLS[kind](client)

    task = asyncio.create_task(call())
    assert await asyncio.to_thread(patient.begun.wait, 60)
    await client.close()
    with pytest.raises(uv.CallCancelledError, match="the client was closed"):
        await asyncio.wait_for(task, 60)


def test_an_asyncio_client_stays_in_its_loop(fake: Any) -> None:
    client = uv.AsyncClient(fake.target)
    asyncio.run(use_and_leave(client))
    with pytest.raises(uv.ClientClosedError, match="another event loop"):
        asyncio.run(use_and_leave(client))

    async def stream() -> list[Any]:
        return [item async for item in client.embed_stream(["a"])]

    with pytest.raises(uv.UnitvecError, match="another event loop"):
        asyncio.run(stream())
    asyncio.run(client.close())  # It has nothing here that it could close.


async def use_and_leave(client: uv.AsyncClient) -> np.ndarray:
    return await client.embed("a")


FORK = """
import os, sys, unitvec_client as uv
client = uv.Client(sys.argv[1], timeout_s=50)
before = client.embed("a")
{in_flight}
process_id = os.fork()
if not process_id:
    try:
        again = client.embed("a")
        outcome = "equal" if (again == before).all() else "other vectors"
        client.close()
    except uv.UnitvecError as error:
        outcome = f"{{type(error).__name__}}: {{error}}"
    print("child:", outcome, flush=True)
    os._exit(0)
_, status = os.waitpid(process_id, 0)
print("status:", status)
print("parent:", "equal" if (client.embed("a") == before).all() else "other vectors")
{after}
"""
STREAM = "items = client.embed_stream(iter(['a'] * 99), chunk_texts=1); next(items)"


def fork(target: str, in_flight: str = "", after: str = "") -> list[str]:
    """What a process says that forks, in a process of its own, and its child."""
    done = subprocess.run(
        [sys.executable, "-c", FORK.format(in_flight=in_flight, after=after), target],
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_forked_process_connects_anew(fake: Any) -> None:
    assert fork(fake.target) == ["child: equal", "status: 0", "parent: equal"]


def test_a_process_forked_in_mid_call_says_so_at_once(fake: Any) -> None:
    child, *parent = fork(fake.target, STREAM, "print(len(list(items)))")
    assert child.startswith("child: ClientClosedError: this process was forked while")
    assert parent == ["status: 0", "parent: equal", "98"]
