"""The watchdog: what it notices, when, and what leaves it calm. Time is the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from unitvec_server.engine.watchdog import Run, Watchdog, WatchedPool, Worker
from unitvec_server.errors import InferenceFailed

STUCK_AFTER_S = 10.0
LOOK_S = 0.5


class Ward:
    """Two workers and the clock of whoever watches them."""

    def __init__(self) -> None:
        self.workers = [Worker("encode-0"), Worker("encode-1")]
        self.expected_run_s = 0.0
        self.waiting_texts = 0
        self.given_up: list[Run] = []
        self.now_s = 0.0
        self.waited_part = 0.0
        self.pool = WatchedPool(2, name="split")
        self.watchdog = Watchdog(
            self,
            pools=[self.pool],
            stuck_after_s=STUCK_AFTER_S,
            clock_s=lambda: self.now_s,
            waited_s=lambda thread_id: self.waited_part * self.now_s,
        )

    def expected_s(self, run: Run) -> float:
        return self.expected_run_s

    def give_up(self, run: Run) -> None:
        self.given_up.append(run)

    def watch(self, seconds: float) -> str:
        """Looks every half second: the first fault."""
        for _ in range(int(seconds / LOOK_S)):
            self.now_s += LOOK_S
            if fault := self.watchdog.look():
                return fault
        return ""


@pytest.fixture
def ward() -> Iterator[Ward]:
    ward = Ward()
    with ward.pool:
        yield ward


def test_idle_workers_are_fine(ward: Ward) -> None:
    assert ward.watch(1000) == ""


def test_a_run_that_hangs(ward: Ward) -> None:
    """It is named, and its callers are told."""
    ward.workers[1].run = run = Run(256, None)
    assert ward.watch(STUCK_AFTER_S) == ""
    assert "encode-1 hangs: a run of 256 tokens takes 10 s" in ward.watch(1)
    assert ward.given_up == [run]


def test_run_after_run_is_fine(ward: Ward) -> None:
    """However alike they are, and however long it goes on."""
    for _ in range(100):
        ward.workers[0].run = Run(256, None)
        assert ward.watch(STUCK_AFTER_S - 1) == ""
    assert ward.given_up == []


def test_a_slow_model_has_as_much_longer(ward: Ward) -> None:
    """20 times as long as expected."""
    ward.expected_run_s = 4.0
    ward.workers[0].run = Run(8192, None)
    assert ward.watch(79) == ""
    assert "hangs" in ward.watch(3)


def test_time_spent_waiting_for_a_cpu_does_not_count(ward: Ward) -> None:
    """Where others leave a worker a tenth of a CPU, a run takes ten times as long."""
    ward.workers[0].thread = threading.current_thread()
    ward.workers[0].run = Run(8192, None)
    ward.waited_part = 0.9
    assert ward.watch(10 * STUCK_AFTER_S - 1) == ""
    assert "hangs: a run of 8192 tokens takes 10 s" in ward.watch(10)


def test_nor_does_it_for_threads_of_pools(ward: Ward) -> None:
    begun, let_go = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        let_go.wait()

    ward.pool.submit(hang)
    begun.wait()
    ward.waited_part = 0.5
    assert ward.watch(2 * STUCK_AFTER_S - 1) == ""
    assert "thread split_0 hangs: it takes 10 s" in ward.watch(2)
    let_go.set()


def test_a_thread_of_a_pool_that_hangs(ward: Ward) -> None:
    """The other one may work on."""
    begun, let_go = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        let_go.wait()

    hanging = ward.pool.submit(hang)
    begun.wait()
    for _ in range(10):
        assert ward.pool.submit(int, "7", base=8).result() == 7
        assert ward.watch(STUCK_AFTER_S / 10) == ""
    assert "thread split_0 hangs: it takes 10 s" in ward.watch(1)
    assert isinstance(hanging.exception(), InferenceFailed)
    let_go.set()


def test_task_after_task_is_fine(ward: Ward) -> None:
    """However long it goes on, whether they succeed or fail."""
    for _ in range(100):
        begun, let_go = threading.Event(), threading.Event()

        def work(begun: threading.Event = begun, let_go: threading.Event = let_go) -> None:
            begun.set()
            let_go.wait()
            raise ValueError

        task = ward.pool.submit(work)
        begun.wait()
        assert ward.watch(STUCK_AFTER_S - 1) == ""
        let_go.set()
        assert isinstance(task.exception(), ValueError)
    assert ward.watch(100) == ""


def test_a_process_that_was_stopped_has_not_hung(ward: Ward) -> None:
    """SIGSTOP, or a laptop that slept: time counts by looks."""
    ward.workers[0].run = Run(256, None)
    assert ward.watch(1) == ""
    for _ in range(5):
        ward.now_s += 3600
        assert ward.watch(LOOK_S) == ""
    ward.workers[0].run = None
    assert ward.watch(100) == ""


def test_a_dead_worker_at_the_next_look(ward: Ward) -> None:
    ward.workers[0].fault = "worker encode-0 died of MemoryError"
    assert ward.watch(LOOK_S) == "worker encode-0 died of MemoryError"


def test_a_thread_that_ended_without_a_word(ward: Ward) -> None:
    ward.workers[1].thread = thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert ward.watch(LOOK_S) == "worker encode-1 ended"


def test_texts_that_no_worker_takes(ward: Ward) -> None:
    ward.waiting_texts = 3
    assert ward.watch(STUCK_AFTER_S - 1) == ""
    assert ward.watch(2) == "3 texts wait and no worker takes them"


def test_texts_that_wait_for_busy_workers_are_fine(ward: Ward) -> None:
    """One that works is enough; so is a moment without a text."""
    for _ in range(20):
        ward.waiting_texts = 3
        assert ward.watch(STUCK_AFTER_S - 1) == ""
        ward.workers[0].run = Run(1, None)
        assert ward.watch(1) == ""
        ward.workers[0].run = None


async def test_waits_for_the_fault(ward: Ward) -> None:
    ward.workers[0].fault = "broken"
    assert await ward.watchdog.wait_for_fault() == "broken"
