"""What is told of a graph that is served under another name than its file's."""

from __future__ import annotations

import pytest

from unitvec_server.engine.loading import _served
from unitvec_server.model.artifact import File, Graph, Manifest, Parity
from unitvec_server.model.providers import Choice

FILE = File("x.onnx", "0" * 64, 1)
MANIFEST = Manifest(
    model_id="m",
    revision="",
    dim=4,
    max_seq_length=8,
    pooling="mean",
    normalized=True,
    pad_token_id=0,
    prompts={},
    default_prompt_name=None,
    tokenizer=FILE,
    graphs={
        "fp32": Graph(FILE, Parity(9, 1.0, 1.0, 0.0)),
        "int8": Graph(FILE, Parity(9, 0.999, 0.996, 0.02)),
        "int8-static": Graph(FILE, Parity(9, 0.998, 0.993, 0.03)),
    },
    created_by="test",
)


@pytest.mark.parametrize(
    ("choice", "cosine_min"),
    [
        (Choice("cpu", "fp32", "fp32", ""), 1.0),
        (Choice("cpu", "int8", "int8", ""), 0.996),
        (Choice("openvino", "int8", "int8-static", ""), 0.993),
        pytest.param(Choice("openvino", "bf16", "fp32", ""), 0.0, id="bf16 was not measured"),
    ],
)
def test_the_quality_told_is_that_of_the_graph_served(choice: Choice, cosine_min: float) -> None:
    assert _served(MANIFEST, choice).graphs[choice.precision].parity.cosine_min == cosine_min
