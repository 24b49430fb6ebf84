"""Graphs whose weights are more than an ONNX file holds, shown at a bound that is lowered."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.artifacts import keep, keep_fused_artifact, keep_model
from tests.models import FUSED_BERT, TinyModel, sample_texts
from tests.serving import serving
from unitvec_client import Client
from unitvec_export.export import STEPS, ExportOptions, export
from unitvec_export.graph.weights import WeightStore, copy_graph, openable, read_values
from unitvec_export.progress import Progress
from unitvec_export.source import Request
from unitvec_server.errors import ArtifactError
from unitvec_server.model.artifact import MANIFEST_FILE, describe_file, load_artifact, verify_graph
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import FUSED

TEXTS = sample_texts()[:12]
BOUND_BYTES = 10_000
IS_FUSED = find_kernels().library is not None
PRECISIONS = ("fp32", "int8", "fp16", *(("int16",) if IS_FUSED else ()))


def keep_large() -> Path:
    """Every graph of the model of `keep_fused_artifact`, with its weights outside."""

    def build(folder: Path) -> None:
        request = Request(str(keep_model(FUSED_BERT)))
        options = ExportOptions(request, folder, PRECISIONS, max_graph_bytes=BOUND_BYTES)
        export(options, Progress(io.StringIO(), steps=STEPS))

    return keep("weights-outside", build)


def vectors_of(folder: Path, precision: str) -> np.ndarray:
    """(B, D) float32: of token ids that are as good as any text's."""
    operators = find_kernels().library if precision in FUSED else None
    encoder = Encoder(
        load_artifact(folder).graph_path(precision), EncoderOptions(operators=operators)
    )
    generator = np.random.default_rng(3)
    return encoder.encode([generator.integers(5, 500, n, np.int64) for n in (1, 7, 40)])


@pytest.mark.parametrize("precision", ["fp32", "int8", "int16", "int8-fused"])
def test_vectors_are_those_of_the_graph_that_holds_its_weights(precision: str) -> None:
    if precision in FUSED and not IS_FUSED:
        pytest.skip("unitvec-kernels is not installed or cannot run here")
    inside = vectors_of(keep_fused_artifact(FUSED_BERT), precision)
    np.testing.assert_array_equal(vectors_of(keep_large(), precision), inside)


def test_the_manifest_has_every_file() -> None:
    folder = keep_large()
    manifest = load_artifact(folder).manifest
    for name, graph in manifest.graphs.items():
        assert [file.name for file in graph.files] == [
            f"model.{name}.onnx",
            f"model.{name}.onnx_data",
        ]
        assert [describe_file(folder / file.name) for file in graph.files] == [*graph.files]
        assert graph.size_bytes > 5 * graph.file.size_bytes
        assert graph.parity.cosine_min > 0.98
    listed = {file.name for graph in manifest.graphs.values() for file in graph.files}
    others = {MANIFEST_FILE, "tokenizer.json", "vectors.npy", "canary.json"}
    assert {path.name for path in folder.iterdir()} == listed | others


@pytest.mark.parametrize("damage", ["missing", "changed", "short"])
def test_a_damaged_weights_file_is_refused(tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(keep_large(), copy)
    path = copy / "model.fp32.onnx_data"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] + (b"" if damage == "short" else b"\x7f"))
    with pytest.raises(ArtifactError, match=r"model\.fp32\.onnx_data .*export it again"):
        verify_graph(load_artifact(copy), "fp32")


def test_a_server_serves_it() -> None:
    kept = keep_fused_artifact(FUSED_BERT)
    models = [f"--model={name}={folder}" for name, folder in (("i", kept), ("o", keep_large()))]
    with serving(*models, "--precision=fp32") as server, Client(server.target) as client:
        inside, outside = (client.embed_result(TEXTS, model=name) for name in "io")
    np.testing.assert_allclose(outside.vectors, inside.vectors, atol=1e-6)
    assert outside.space == inside.space
    assert outside.bits != inside.bits


def graph_of(rng: np.random.Generator) -> onnx.ModelProto:
    """A graph with weights of several types, large and small, and none that it reads."""
    arrays = {
        "float": rng.normal(size=(64, 33)).astype(np.float32),
        "half": rng.normal(size=(1000,)).astype(np.float16),
        "int8": rng.integers(-9, 9, (70, 20), np.int8),
        "positions": np.arange(4096),
        "scalar": np.float32(3.5),
    }
    initializers = [numpy_helper.from_array(np.asarray(v), name) for name, v in arrays.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "scalar"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [2])],
        [value("y", TensorProto.FLOAT, [2])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("bound_bytes", [0, 10**9])
def test_weights_come_back_as_they_were(tmp_path: Path, bound_bytes: int) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    original = graph_of(np.random.default_rng(0))
    store = WeightStore(work, bound_bytes)
    taken = store.take(copy_graph(original))
    assert (taken.ByteSize() < original.ByteSize() / 1.2) is (bound_bytes == 0)
    with openable(taken) as opened:
        onnx.checker.check_model(opened)
    files = store.write(taken, out / "g.onnx", out / "g.onnx_data")
    assert len(files) == (2 if bound_bytes == 0 else 1)
    loaded = onnx.load(str(out / "g.onnx"))
    for graph in (taken, loaded):
        for before, after in zip(original.graph.initializer, graph.graph.initializer, strict=True):
            assert before.name == after.name
            np.testing.assert_array_equal(read_values(after), read_values(before))


def test_files_that_torch_writes_beside_a_graph_are_taken(tmp_path: Path) -> None:
    """Of a large model the exporter writes each weight into a file of its own."""
    original = graph_of(np.random.default_rng(1))
    path = tmp_path / "model.onnx"
    onnx.save(
        copy_graph(original),
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
    )
    for bound_bytes in (0, 10**9):
        model = onnx.load(str(path), load_external_data=False)
        taken = WeightStore(tmp_path, bound_bytes).take(model)
        for before, after in zip(original.graph.initializer, taken.graph.initializer, strict=True):
            np.testing.assert_array_equal(read_values(after), read_values(before))
            is_outside = after.data_location == TensorProto.EXTERNAL
            assert is_outside is (bound_bytes == 0 and after.name in ("float", "half", "int8"))


def test_a_model_that_reads_one_token(tmp_path: Path) -> None:
    spec = TinyModel(max_seq_length=1, special_tokens=False)
    options = ExportOptions(Request(str(keep_model(spec))), tmp_path / "out", ("fp32",))
    manifest = export(options, Progress(io.StringIO(), steps=STEPS))
    assert manifest.max_seq_length == 1
    assert manifest.graphs["fp32"].parity.cosine_min > 0.99999
