"""Coverage-guided fuzzing of the decoding edge with atheris; `make` runs it, tests do not.

    pip install atheris && python -m tests.chaos.decoding_target -max_total_time=60

Whatever bytes parse as a request, reading them raises nothing but `RequestError`.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-untyped]  # it has no stubs

with atheris.instrument_imports(include=["unitvec_server"]):
    from unitvec_server.rpc import messages

from google.protobuf.message import DecodeError

from tests.chaos.strategies import VALID, valid_bodies
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.errors import RequestError


def read_embed(request: pb.EmbedRequest) -> None:
    """As `Embed` does."""
    messages.read_options(request.options)
    messages.read_dtype(request)


def read_tokenize(request: pb.TokenizeRequest) -> None:
    """As `Tokenize` does."""
    messages.read_truncation(request.truncate)


def read_similarity(request: pb.SimilarityRequest) -> None:
    """As `Similarity` does."""
    messages.read_metric(request.metric)
    for operand in (request.pairs.a, request.pairs.b, request.cross.queries):
        read_operand(operand)


def read_operand(operand: pb.Operand) -> None:
    """One side of a comparison."""
    messages.read_options(operand.options)
    if operand.HasField("vectors"):
        messages.read_matrix(operand.vectors, field="vectors")


READERS: tuple[tuple[Any, Callable[[Any], None]], ...] = (
    (pb.EmbedRequest, read_embed),
    (pb.TokenizeRequest, read_tokenize),
    (pb.SimilarityRequest, read_similarity),
    (pb.Operand, read_operand),
)


def attack(data: bytes) -> None:
    """The first byte chooses the message, the rest is the message."""
    if not data:
        return
    kind, read = READERS[data[0] % len(READERS)]
    with contextlib.suppress(DecodeError, RequestError):
        read(kind.FromString(data[1:]))


def write_seeds(folder: Path) -> None:
    """Valid messages, for mutations to start from."""
    for number, (kind, _) in enumerate(READERS):
        for index, body in enumerate(_seeds(kind.DESCRIPTOR.name)):
            (folder / f"{number}-{index}").write_bytes(bytes([number]) + body)


def _seeds(name: str) -> tuple[bytes, ...]:
    if name in VALID:
        return valid_bodies(name)
    matrix = pb.Matrix(rows=2, dim=2, dtype=pb.DTYPE_FLOAT32, data=bytes(16))
    return (pb.Operand(vectors=matrix).SerializeToString(),)


if __name__ == "__main__":
    # `Fuzz` never returns, so the folder is left to the system's cleaning.
    seeds = tempfile.mkdtemp(prefix="unitvec-seeds-")
    write_seeds(Path(seeds))
    atheris.Setup([*sys.argv, seeds], attack)
    atheris.Fuzz()
