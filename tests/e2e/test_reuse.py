"""Equal texts over real sockets: encoded once, answered to all, counted in the log."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unitvec_protos.v1 import embedding_pb2 as pb

if TYPE_CHECKING:
    from tests.serving import Server

TEXTS = ["a cat on a mat", "a bank loan", "a cat on a mat", "", "a cat on a mat"]


def test_repeats_come_from_the_cache_bit_for_bit(
    start: Callable[..., Server], minilm_artifact: Path
) -> None:
    """Within a request, over requests, in another order and with other options."""
    server = start("--model", str(minilm_artifact), "--cache-bytes", "1000000")
    first = server.stub.Embed(pb.EmbedRequest(texts=TEXTS)).embeddings.data
    backwards = server.stub.Embed(pb.EmbedRequest(texts=TEXTS[::-1])).embeddings.data
    half = server.stub.Embed(pb.EmbedRequest(texts=TEXTS, options=pb.EncodeOptions(dimensions=8)))
    size = len(first) // len(TEXTS)
    rows = [first[start : start + size] for start in range(0, len(first), size)]
    assert rows[0] == rows[2] == rows[4] != rows[1]
    assert backwards == b"".join(reversed(rows))
    assert half.embeddings.dim == 8
    assert server.process.stop() == 0
    line = server.process.wait_for_log("texts encoded")
    assert [int(number) for number in re.findall(r"\d+", line)][:5] == [3, 2, 10, 5, 0]
