"""What is known of a model once it is loaded: its quality, the width of its runs, their memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.artifacts import keep_fused_artifact, keep_pipeline_artifact, needs_kernels
from tests.models import FUSED_BERT
from unitvec_server.engine.choices import as_served
from unitvec_server.engine.loading import LoadedModel, load_engine, load_model
from unitvec_server.engine.watchdog import Run, WatchedPool
from unitvec_server.flags import parse_config
from unitvec_server.model.manifest import File, Graph, Manifest, Parity
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
        "int8-fused": Graph(FILE, Parity(9, 0.999, 0.997, 0.02)),
    },
    created_by="test",
)


@pytest.mark.parametrize(
    ("choice", "cosine_min"),
    [
        (Choice("cpu", "fp32", "fp32", ""), 1.0),
        (Choice("cpu", "int8", "int8", ""), 0.996),
        (Choice("cpu", "int8", "int8-fused", ""), 0.997),
    ],
)
def test_the_quality_told_is_that_of_the_graph_served(choice: Choice, cosine_min: float) -> None:
    assert as_served(MANIFEST, choice).graphs[choice.precision].parity.cosine_min == cosine_min


def load(folder: Path, *flags: str) -> LoadedModel:
    """The model as a server with these flags has it."""
    config = parse_config(["--model", str(folder), "--provider", "cpu", *flags], {})
    return load_model(config.model[0], config)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_memory_of_a_run_is_that_of_the_configured_width(artifact: Path) -> None:
    """32 numbers of 4 bytes for each of 65,536 tokens are the least that a layer hands on."""
    narrow = load(artifact, "--precision", "fp32", "--max-batch-tokens", "256")
    wide = load(artifact, "--precision", "fp32", "--max-batch-tokens", "65536")
    assert wide.footprint.run_bytes - narrow.footprint.run_bytes > 65536 * 32 * 4


def test_how_long_a_run_may_take_is_known_before_the_first(artifact: Path) -> None:
    """Else the watchdog would end a server whose first text is a long one on a slow machine."""
    config = parse_config(["--model", f"m={artifact}", "--precision", "fp32"], {})
    with WatchedPool(1, name="tokenize") as executor, WatchedPool(1, name="compare") as comparing:
        engine, scheduler, _ = load_engine(config, executor=executor, comparing=comparing)
        try:
            queue = scheduler.queues["m"]
            longest = engine.models["m"].manifest.max_seq_length
            expected_s = [scheduler.expected_s(Run(n, (queue, []))) for n in (longest, 8 * longest)]
            assert 0 < 63 * expected_s[0] < expected_s[1]  # attention grows with the square
        finally:
            scheduler.stop()


@needs_kernels
@pytest.mark.parametrize(("precision", "kept"), [("auto", "int16"), ("int8", "int8")])
def test_a_route_has_what_it_can_and_bits_are_those_of_all_routes(
    precision: str, kept: str
) -> None:
    folder = keep_pipeline_artifact("Router, static queries", ("fp32", "int8", "int16"))
    loaded = load(folder, "--precision", precision)
    [queries] = loaded.routes
    assert (loaded.model.precision, queries.model.precision) == (kept, "fp32")
    own = loaded.model.routes["document"]
    assert own.is_reproducible
    assert not loaded.model.is_reproducible  # static queries are summed up by onnxruntime
    bits = {loaded.model.identity.bits, *(m.identity.bits for m in loaded.model.routes.values())}
    assert len(bits) == 3


@needs_kernels
@pytest.mark.parametrize("precision", ["int16", "int8"])
def test_runs_of_the_fused_operator_have_one_width_everywhere(precision: str) -> None:
    folder = keep_fused_artifact(FUSED_BERT)
    assert load(folder, "--precision", precision).model.max_batch_tokens == 128
    configured = load(folder, "--precision", precision, "--max-batch-tokens", "64")
    assert configured.model.max_batch_tokens == 64
