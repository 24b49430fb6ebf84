"""`unitvec-serve` whose model fails on purpose. For chaos only: no option turns this on.

A batch that holds the word `POISON` always fails. Any other batch of several texts fails once in
`FLAKY_EVERY`, and not when its texts are run again.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from unitvec_server.engine import loading
from unitvec_server.engine.model_queue import Encodes, Rows
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.flags import read_config
from unitvec_server.server import main

POISON = "zqxj"
FLAKY_EVERY = 23


class FaultyEncoder:
    """Fails on poison always, and on anything now and then.

    Args:
        encoder: Does the work, where it is done.
        poison: Token ids of the poison.
    """

    def __init__(self, encoder: Encodes, poison: list[int]) -> None:
        self.dim = encoder.dim
        self._encoder = encoder
        self._poison = poison
        self._batches = itertools.count(1)

    def encode(self, rows: Rows) -> npt.NDArray[np.float32]:
        """As `Encoder.encode`, where it does not fail."""
        if any(self._is_poisoned(row.tolist()) for row in rows):
            raise ValueError("poisoned")
        if len(rows) > 1 and next(self._batches) % FLAKY_EVERY == 0:
            raise RuntimeError("a batch that fails once")
        return self._encoder.encode(rows)

    def _is_poisoned(self, ids: list[int]) -> bool:
        length = len(self._poison)
        return any(ids[at : at + length] == self._poison for at in range(len(ids) - length + 1))


class FaultyScheduler(Scheduler):
    """Takes warm encoders, and makes them faulty: a server that fails earlier never serves."""

    def __init__(self, encoders: Mapping[str, Encodes], **options: Any) -> None:
        poison = poison_ids()
        faulty = {name: FaultyEncoder(encoder, poison) for name, encoder in encoders.items()}
        super().__init__(faulty, **options)


def poison_ids() -> list[int]:
    """Token ids of the poison for the model that the command line names."""
    folder = read_config(sys.argv[1:]).model[0].folder
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return list(tokenizer.encode(POISON, add_special_tokens=False).ids)


if __name__ == "__main__":
    vars(loading)["Scheduler"] = FaultyScheduler  # the seam: where servers get theirs
    sys.exit(main())
