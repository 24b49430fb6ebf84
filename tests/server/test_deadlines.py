"""Can it be done in time? Tables of what is refused, what is not, and what is left at its turn."""

from __future__ import annotations

import math

import pytest

from unitvec_server.errors import DeadlineExpired, Overloaded
from unitvec_server.policy.batching import Batcher, BatchLimits
from unitvec_server.policy.deadlines import NO_WARM_RUN, Deadlines, Forecast, RunSpeed, WarmRun
from unitvec_server.policy.items import Item


class Queue:
    """A model's queue, one worker, measured at this speed."""

    def __init__(self, tokens_per_s: float = 0.0) -> None:
        self.speed = RunSpeed(1)
        if tokens_per_s:
            self.speed.record(tokens=10, busy_s=10 / tokens_per_s)
        self.deadlines = Deadlines(self.speed, 64)
        self.batcher = Batcher(BatchLimits(64), self.deadlines)

    def wait(self, *lengths: int) -> None:
        """Texts of these lengths wait, each a request of its own."""
        for length in lengths:
            self.batcher.add([Item(length, object())])

    def check(self, tokens: int, *, left_s: float) -> None:
        """A new request of one text."""
        self.deadlines.check([tokens], flow="new", left_s=left_s, queue=self.batcher)

    def check_estimate(self, lengths: list[int], *, left_s: float, flow: object = "new") -> None:
        """A new request of these lengths."""
        self.deadlines.check_estimate(lengths, flow=flow, left_s=left_s, queue=self.batcher)


class TestDoor:
    """What is refused before it waits in vain, and what is not."""

    def test_nothing_is_refused_before_anything_was_measured(self) -> None:
        queue = Queue()
        queue.wait(*[100] * 1000)
        queue.check(10**9, left_s=0.001)
        queue.check_estimate([1000], left_s=0.001)

    def test_none_is_never_refused(self) -> None:
        queue = Queue(tokens_per_s=1.0)
        queue.wait(*[100] * 1000)
        queue.check(10**9, left_s=math.inf)
        queue.check_estimate([10**9], left_s=math.inf)

    def test_what_could_not_be_done_alone(self) -> None:
        """Half of the measured time is granted: full batches are faster than lone texts."""
        queue = Queue(tokens_per_s=100)
        queue.check(200, left_s=1.01)
        with pytest.raises(DeadlineExpired, match=r"at least 1\.00 s.*in 0\.99 s"):
            queue.check(200, left_s=0.99)

    def test_what_comes_after_too_much(self) -> None:
        """The delay is until it would be in time."""
        queue = Queue(tokens_per_s=100)
        queue.wait(*[10] * 100)  # 10 s of work; a run of 0.64 s may be under way
        needed_s = 0.64 + 1.5 * 0.1 + 2 * 10
        queue.check_estimate([10], left_s=needed_s + 0.01)
        with pytest.raises(Overloaded, match="try another server") as caught:
            queue.check_estimate([10], left_s=4.0)
        assert caught.value.retry_delay_s == pytest.approx(needed_s - 4.0)

    def test_the_worked_case(self) -> None:
        """As it is told above the code."""
        speed = RunSpeed(2)
        speed.record(tokens=8000, busy_s=2.0)
        deadlines = Deadlines(speed, 256)
        batcher = Batcher(BatchLimits(256), deadlines)
        for _ in range(40):
            flow = object()
            batcher.add([Item(20, flow) for _ in range(16)])
        case = {"flow": "new", "queue": batcher}
        with pytest.raises(Overloaded) as caught:
            deadlines.check([20] * 16, left_s=2.0, **case)
        assert caught.value.retry_delay_s == pytest.approx(1.324)
        deadlines.check([20] * 16, left_s=4.0, **case)

    def test_an_estimate_that_could_never_be_done_is_left_to_the_true_count(self) -> None:
        queue = Queue(tokens_per_s=100)
        queue.wait(*[10] * 100)
        queue.check_estimate([10**6], left_s=4.0)
        with pytest.raises(DeadlineExpired):
            queue.check(10**6, left_s=4.0)

    def test_a_lone_text_is_not_behind_all_of_a_bulk_request(self) -> None:
        """Its turn comes before most of that; that of another text of the stream does not."""
        queue = Queue(tokens_per_s=100)
        queue.batcher.add([Item(10, "bulk") for _ in range(10_000)])
        queue.check_estimate([10], left_s=1.0)
        with pytest.raises(Overloaded):
            queue.check_estimate([10], flow="bulk", left_s=900)

    def test_a_large_request_counts_on_those_that_will_overtake_it(self) -> None:
        """Half of the work of late came in requests smaller than this one, and will again."""
        queue = Queue(tokens_per_s=100)
        queue.wait(*[10] * 2000)
        for _ in range(300):
            queue.batcher.next_batch(now_s=0.0, free_workers=1)
            queue.wait(*[1] * 30)
        overtaking = queue.deadlines.forecast.overtaking(1000)
        assert 0.4 < overtaking < 0.6
        assert queue.deadlines.forecast.overtaking(1) == 0
        waiting = queue.batcher.waiting_tokens
        needed_s = 0.64 + (1.5 * 10 + 2 * waiting / 100) / (1 - overtaking)
        queue.check_estimate([10] * 100, left_s=needed_s + 0.1)
        with pytest.raises(Overloaded):
            queue.check_estimate([10] * 100, left_s=needed_s - 0.1)

    def test_lately_slow_is_not_held_against_it(self) -> None:
        """The better of the speeds of late and of a longer past counts."""
        queue = Queue(tokens_per_s=1000)
        for _ in range(20):
            queue.speed.record(tokens=1000, busy_s=10)
        queue.check(1000, left_s=1.0)

    def test_the_run_under_way_counts_where_others_wait(self) -> None:
        """A batch of 64 tokens, or of all where that is less, and one and a half times its own."""
        queue = Queue(tokens_per_s=100)
        queue.check_estimate([64], left_s=0.65)
        queue.wait(*[10] * 10)
        queue.check(64, left_s=10.0)
        with pytest.raises(Overloaded):
            queue.check(64, left_s=2.7)
        with pytest.raises(Overloaded) as caught:
            queue.check_estimate([10], left_s=2.7)
        assert caught.value.retry_delay_s == pytest.approx(0.64 + 1.5 * 0.1 + 2 - 2.7)


# Tokens of the request, time left, whether it is begun, tokens that wait, whether it is late.
# At 100 tokens a second a run of 64 tokens takes 0.64 s.
TURNS = [
    (10, 0.0, False, 1000, True),  # past its deadline
    (10, -1.0, True, 10, True),  # however little it delays
    (10, 0.63, False, 1000, True),  # the run alone takes longer
    (10, 0.65, False, 1000, False),
    (100, 1.49, False, 1000, True),  # what is begun should be finished: 1.5 times its time
    (100, 1.51, False, 1000, False),
    (100, 0.99, True, 1000, True),  # what was begun needs no margin
    (100, 1.01, True, 1000, False),
    (100, 0.1, False, 100, False),  # it delays nobody, so it may try
    (0, 0.1, False, 100, False),  # others run its texts anyway
    (10**9, math.inf, False, 10**10, False),
]


@pytest.mark.parametrize(("tokens", "left_s", "is_begun", "waiting_tokens", "is_late"), TURNS)
def test_at_its_turn(
    tokens: int, left_s: float, is_begun: bool, waiting_tokens: int, is_late: bool
) -> None:
    deadlines = Queue(tokens_per_s=100).deadlines
    case = {"left_s": left_s, "is_begun": is_begun, "waiting_tokens": waiting_tokens}
    assert deadlines.is_late(tokens, **case) is is_late


@pytest.mark.parametrize(
    ("left_s", "tokens"), [(math.inf, math.inf), (10.0, 250), (2.56, 64), (0.1, 64)]
)
def test_a_batch_is_chosen_from_a_quarter_of_what_can_be_done(left_s: float, tokens: float) -> None:
    """And from a batch at least."""
    assert Queue(tokens_per_s=100).deadlines.near_tokens(left_s) == tokens


class TestRunSpeed:
    """The one record of how fast runs are."""

    def test_unmeasured(self) -> None:
        speed = RunSpeed(1)
        assert speed.seconds_for(1000) == 0.0
        assert speed.best_tokens_per_s == math.inf

    def test_counts_all_workers(self) -> None:
        speed = RunSpeed(4)
        speed.record(tokens=100, busy_s=1.0)
        assert speed.seconds_for(800) == pytest.approx(2.0)

    def test_forgets_by_work_done(self) -> None:
        speed = RunSpeed(1)
        speed.record(tokens=100, busy_s=1.0)
        for _ in range(20):
            speed.record(tokens=20_000, busy_s=20.0)
        assert speed.tokens_per_s == pytest.approx(1000, rel=1e-3)

    def test_best_is_of_late_or_of_a_longer_past(self) -> None:
        """After 20,000 slow tokens the speed of late is half of it, that of the past 0.93."""
        speed = RunSpeed(1)
        speed.record(tokens=100, busy_s=1.0)
        speed.record(tokens=20_000, busy_s=1e9)
        assert speed.tokens_per_s == pytest.approx(50, abs=0.1)
        assert speed.best_tokens_per_s == pytest.approx(100 * 0.5**0.1, abs=0.1)
        speed.record(tokens=200_000, busy_s=200.0)
        assert speed.best_tokens_per_s == speed.tokens_per_s == pytest.approx(1000, rel=0.01)

    def test_survives_a_clock_that_stands_still(self) -> None:
        speed = RunSpeed(1)
        speed.record(tokens=100, busy_s=0.0)
        assert speed.tokens_per_s > 0


def test_a_forecast_never_takes_all_of_the_machine() -> None:
    forecast = Forecast(64)
    for _ in range(1000):
        forecast.note_arrival(1)
    assert forecast.overtaking(1000) == 0.8
    forecast.clear()
    assert forecast.overtaking(1000) == 0


def test_a_long_run_is_foreseen_by_the_square_of_its_length() -> None:
    warm = WarmRun(length=100, s_per_token=0.5)
    assert warm.most_s(10) == 5.0
    assert warm.most_s(100) == 50.0
    assert warm.most_s(400) == 800.0
    assert NO_WARM_RUN.most_s(8192) == 0.0
