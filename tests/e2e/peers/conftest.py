"""What tests of several APIs share."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import Server, serving
from unitvec_protos.v1 import embedding_pb2 as pb


@pytest.fixture(scope="session")
def prompted_server(prompted_artifact: Path) -> Iterator[Server]:
    """The tiny model with prompts, default options; shared by tests that do not harm it."""
    with serving("--model", str(prompted_artifact)) as server:
        yield server


class Refusal(NamedTuple):
    """How a call failed."""

    code: grpc.StatusCode
    reason: str
    field: str
    details: str


def refusal(call: Callable[[], object]) -> Refusal:
    """How a call fails that must, by its status and our details of it."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    ours = pb.Error.FromString(dict(error.trailing_metadata())["unitvec-error-bin"])
    return Refusal(error.code(), ours.reason, ours.field, error.details())


def read_metric(server: Server, name: str, **labels: str) -> float:
    """The sum of the samples with these labels and any others, of a server that has metrics."""
    said = [str(entry["message"]) for entry in server.process.logs]
    [url] = [line.split()[-1] for line in said if line.startswith("metrics on ")]
    with urllib.request.urlopen(url, timeout=60) as response:
        families = text_string_to_metric_families(response.read().decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
