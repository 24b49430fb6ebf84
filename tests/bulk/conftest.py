"""One local Ray for all tests of this room, and small data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from unitvec_bulk.cluster import Cluster, connected


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray of this process, with two CPUs."""
    with connected(Cluster(cpus=2)) as ray:
        yield ray
