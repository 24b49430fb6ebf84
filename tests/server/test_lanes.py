"""One model in the scheduler: work that cannot be in time, and models that are broken for good."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.server.encoders import DIM, Sums
from unitvec_server.engine.model_queue import EncoderBroken, Lane, Rows
from unitvec_server.errors import DeadlineExpired, Overloaded
from unitvec_server.policy.batching import BatchLimits, BatchQueue
from unitvec_server.policy.items import Item


def lane(*, tokens_per_s: float = 0.0, encoder: Sums | None = None) -> Lane:
    """A lane whose model was measured at this speed."""
    made = Lane(0, encoder or Sums(), BatchQueue(BatchLimits(64)), 1)
    if tokens_per_s:
        made.record(tokens=10, busy_s=10 / tokens_per_s)
    return made


def items(*lengths: int, flow: object = None) -> list[Item]:
    """A request of texts of these lengths."""
    flow = flow or object()
    return [Item(length, flow) for length in lengths]


def wait(made: Lane, *lengths: int) -> None:
    """Texts of these lengths wait, each a request of its own."""
    for length in lengths:
        made.queue.add(items(length))


class TestDeadlines:
    """What is refused before it waits in vain, and what is not."""

    def test_nothing_is_refused_before_anything_was_measured(self) -> None:
        made = lane()
        wait(made, *[100] * 1000)
        made.check_possible(10**9, remaining_s=0.001)
        made.check_turn([1000], flow="new", remaining_s=0.001)

    def test_none_is_never_refused(self) -> None:
        made = lane(tokens_per_s=1.0)
        wait(made, *[100] * 1000)
        made.check_possible(10**9, remaining_s=math.inf)
        made.check_turn([10**9], flow="new", remaining_s=math.inf)

    def test_what_could_not_be_done_alone(self) -> None:
        """Half of the measured time is granted: full batches are faster than lone texts."""
        made = lane(tokens_per_s=100)
        made.check_possible(200, remaining_s=1.01)
        with pytest.raises(DeadlineExpired, match=r"at least 1\.00 s.*in 0\.99 s"):
            made.check_possible(200, remaining_s=0.99)

    def test_what_comes_after_too_much(self) -> None:
        """The delay is until it would be in time."""
        made = lane(tokens_per_s=100)
        wait(made, *[10] * 100)  # 10 s of work; a run of 0.64 s may be under way
        needed_s = 0.64 + 1.5 * 0.1 + 2 * 10
        made.check_turn([10], flow="new", remaining_s=needed_s + 0.01)
        with pytest.raises(Overloaded, match="try another server") as caught:
            made.check_turn([10], flow="new", remaining_s=4.0)
        assert caught.value.retry_delay_s == pytest.approx(needed_s - 4.0)

    def test_a_lone_text_is_not_behind_all_of_a_bulk_request(self) -> None:
        """Its turn comes before most of that; that of another text of the stream does not."""
        made = lane(tokens_per_s=100)
        made.queue.add(items(*[10] * 10_000, flow="bulk"))
        made.check_turn([10], flow="new", remaining_s=1.0)
        with pytest.raises(Overloaded):
            made.check_turn([10], flow="bulk", remaining_s=900)

    def test_a_large_request_counts_on_those_that_will_overtake_it(self) -> None:
        """Half of the work of late came in requests smaller than this one, and will again."""
        made = lane(tokens_per_s=100)
        wait(made, *[10] * 2000)
        for _ in range(300):
            made.queue.next_batch(now_s=0.0, free_workers=1)
            wait(made, *[1] * 30)
        overtaken = made.queue.overtaken(1000)
        assert 0.4 < overtaken < 0.6
        assert made.queue.overtaken(1) == 0
        waiting = made.queue.waiting_tokens
        needed_s = 0.64 + (1.5 * 10 + 2 * waiting / 100) / (1 - overtaken)
        made.check_turn([10] * 100, flow="new", remaining_s=needed_s + 0.1)
        with pytest.raises(Overloaded):
            made.check_turn([10] * 100, flow="new", remaining_s=needed_s - 0.1)

    def test_lately_slow_is_not_held_against_it(self) -> None:
        """The better of the rates of late and of a longer past counts."""
        made = lane(tokens_per_s=1000)
        for _ in range(20):
            made.record(tokens=1000, busy_s=10)
        made.check_possible(1000, remaining_s=1.0)

    def test_the_run_under_way_counts_where_others_wait(self) -> None:
        """A batch of 64 tokens, or of all where that is less, and one and a half times its own."""
        made = lane(tokens_per_s=100)
        made.check_turn([64], flow="new", remaining_s=0.65)
        wait(made, *[10] * 10)
        with pytest.raises(Overloaded) as caught:
            made.check_turn([10], flow="new", remaining_s=2.7)
        assert caught.value.retry_delay_s == pytest.approx(0.64 + 1.5 * 0.1 + 2 - 2.7)


class Breakable(Sums):
    """Works until it is broken."""

    broken = False

    def encode(self, rows: Rows) -> np.ndarray:
        if self.broken:
            raise RuntimeError("device lost")
        return super().encode(rows)


class TestProbe:
    """After failures: the text, or the model?"""

    def test_poisoned_texts_prove_nothing(self) -> None:
        made = lane(encoder=Breakable())
        for _ in range(100):
            made.probe()

    def test_two_failures_are_no_reason_to_ask(self) -> None:
        encoder = Breakable()
        encoder.broken = True
        made = lane(encoder=encoder)
        made.probe()
        made.probe()

    def test_a_model_that_fails_on_everything(self) -> None:
        encoder = Breakable()
        encoder.broken = True
        made = lane(encoder=encoder)
        made.probe()
        made.probe()
        with pytest.raises(EncoderBroken) as caught:
            made.probe()
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_a_model_that_returns_nonsense(self) -> None:
        class Misshapen(Sums):
            def encode(self, rows: Rows) -> np.ndarray:
                return np.zeros((len(rows), DIM + 1), np.float32)

        made = lane(encoder=Misshapen())
        made.probe()
        made.probe()
        with pytest.raises(EncoderBroken):
            made.probe()
