"""One model in the scheduler: models that are broken for good."""

from __future__ import annotations

import numpy as np
import pytest

from tests.server.encoders import DIM, Sums
from unitvec_server.engine.model_queue import EncoderBroken, ModelQueue, Rows
from unitvec_server.policy.batching import BatchLimits


def model_queue(encoder: Sums) -> ModelQueue:
    """The queue of a model of one worker."""
    return ModelQueue(0, encoder, BatchLimits(64), 1)


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
        made = model_queue(Breakable())
        for _ in range(100):
            made.probe()

    def test_two_failures_are_no_reason_to_ask(self) -> None:
        encoder = Breakable()
        encoder.broken = True
        made = model_queue(encoder)
        made.probe()
        made.probe()

    def test_a_model_that_fails_on_everything(self) -> None:
        encoder = Breakable()
        encoder.broken = True
        made = model_queue(encoder)
        made.probe()
        made.probe()
        with pytest.raises(EncoderBroken) as caught:
            made.probe()
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_a_model_that_returns_nonsense(self) -> None:
        class Misshapen(Sums):
            def encode(self, rows: Rows) -> np.ndarray:
                return np.zeros((len(rows), DIM + 1), np.float32)

        made = model_queue(Misshapen())
        made.probe()
        made.probe()
        with pytest.raises(EncoderBroken):
            made.probe()
