"""What a job may be asked for."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from unitvec_bulk.errors import UsageError
from unitvec_bulk.options import EmbedOptions


def test_whole_numbers_may_be_numpy_s() -> None:
    options = EmbedOptions(
        dimensions=np.int64(20),  # type: ignore[arg-type]
        window_tokens=np.int32(64),  # type: ignore[arg-type]
        overlap_tokens=np.uint8(8),  # type: ignore[arg-type]
    )
    assert options == EmbedOptions(dimensions=20, window_tokens=64, overlap_tokens=8)
    assert json.loads(json.dumps(dataclasses.asdict(options)))["dimensions"] == 20


@pytest.mark.parametrize("wrong", [1.5, np.float32(2), "3", [4]])
def test_other_numbers_are_refused_by_name(wrong: Any) -> None:
    for name in ("dimensions", "window_tokens", "overlap_tokens", "max_text_bytes"):
        with pytest.raises(UsageError, match=f"{name} must be a whole number"):
            EmbedOptions(**{name: wrong})
