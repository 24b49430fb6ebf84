"""One local Ray for all tests of this room, and small data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import keep_fused_artifact
from tests.models import FUSED_BERT
from unitvec_bulk.cluster import Cluster, connected


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray of this process, with two CPUs."""
    with connected(Cluster(cpus=2)) as ray:
        yield ray


@pytest.fixture(scope="session")
def fused_artifact() -> Path:
    """A BERT artifact with plain and fused graphs: 128 dimensions, 64 tokens."""
    return keep_fused_artifact(FUSED_BERT)
