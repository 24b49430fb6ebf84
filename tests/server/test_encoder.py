"""The encoder over a real tiny graph, on CPU; of CUDA, all but the kernels."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from unitvec_protos.installation import install_command
from unitvec_server.errors import ArtifactError, ProviderError
from unitvec_server.model.encoder import Encoder, EncoderOptions, pack, pad
from unitvec_server.model.kernels import find_kernels

KERNELS = find_kernels()
texts = st.lists(st.integers(0, 49), min_size=1, max_size=40).map(np.array)


@pytest.fixture
def encoder(graph_path: Path) -> Encoder:
    """The tiny graph. Padded with an id whose vector is not zero."""
    return Encoder(graph_path, EncoderOptions(pad_token_id=7))


class TestEncode:
    """Vectors."""

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rows=st.lists(texts, min_size=1, max_size=12))
    def test_alone_is_as_in_any_batch(
        self, encoder: Encoder, table: np.ndarray, rows: list[np.ndarray]
    ) -> None:
        together = encoder.encode(rows)
        assert together.dtype == np.float32
        for row, vector in zip(rows, together, strict=True):
            mean = table[row].mean(axis=0)
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
            np.testing.assert_allclose(encoder.encode([row])[0], vector, atol=1e-5)

    @pytest.mark.parametrize("mate_length", [1, 3, 4, 50, 500])
    def test_padding_changes_nothing(self, encoder: Encoder, mate_length: int) -> None:
        row = np.array([3, 9, 4])
        mate = np.full(mate_length, 11)
        np.testing.assert_allclose(
            encoder.encode([mate, row])[1], encoder.encode([row])[0], atol=1e-5
        )

    def test_empty_text_in_a_batch(self, encoder: Encoder) -> None:
        vectors = encoder.encode([np.empty(0, np.int64), np.array([3])])
        assert np.isfinite(vectors[1]).all()
        np.testing.assert_allclose(encoder.encode([np.array([3])])[0], vectors[1], atol=1e-5)

    def test_many_threads_at_once(self, encoder: Encoder) -> None:
        random = np.random.default_rng(1)
        rows = [random.integers(0, 50, size=random.integers(1, 60)) for _ in range(400)]
        wanted = [encoder.encode([row])[0] for row in rows]
        with ThreadPoolExecutor(8) as executor:
            got = list(executor.map(lambda row: encoder.encode([row])[0], rows))
        np.testing.assert_array_equal(got, wanted)


class TestPad:
    """Rows -> a rectangle."""

    @given(st.lists(st.lists(st.integers(0, 9), max_size=9).map(np.array), min_size=1))
    def test_ids_and_mask(self, rows: list[np.ndarray]) -> None:
        input_ids, attention_mask = pad(rows, pad_token_id=99)
        assert input_ids.dtype == attention_mask.dtype == np.int64
        assert input_ids.shape == attention_mask.shape == (len(rows), max(1, *map(len, rows)))
        for row, ids, mask in zip(rows, input_ids, attention_mask, strict=True):
            assert ids.tolist() == [*row, *[99] * (len(ids) - len(row))]
            assert mask.tolist() == [1] * len(row) + [0] * (len(ids) - len(row))


class TestPack:
    """Rows -> one after the other."""

    @given(rows=st.lists(st.lists(st.integers(0, 9), max_size=9).map(np.array), min_size=1))
    def test_ids_and_starts(self, rows: list[np.ndarray]) -> None:
        feed = pack([row.astype(np.int64) for row in rows])
        assert {array.dtype for array in feed.values()} == {np.dtype(np.int64)}
        starts = feed["starts"].tolist()
        assert (starts[0], starts[-1]) == (0, len(feed["input_ids"]))
        for row, start, end in zip(rows, starts, starts[1:], strict=False):
            assert feed["input_ids"][start:end].tolist() == row.tolist()


class TestRefused:
    """What cannot be served."""

    @pytest.mark.skipif(
        "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA"
    )
    def test_cuda_without_its_onnxruntime(self, graph_path: Path) -> None:
        with pytest.raises(ProviderError, match=re.escape(install_command("server-cuda"))):
            Encoder(graph_path, EncoderOptions(provider="cuda"))

    @pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07" * 50])
    def test_wrong_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"model\.onnx cannot be loaded"):
            Encoder(path, EncoderOptions())

    @pytest.mark.skipif(KERNELS.library is None, reason=KERNELS.reason)
    def test_a_plain_graph_where_a_fused_one_is_meant(self, graph_path: Path) -> None:
        with pytest.raises(ArtifactError, match="not a unitvec graph"):
            Encoder(graph_path, EncoderOptions(operators=KERNELS.library))

    def test_a_library_without_operators(self, graph_path: Path) -> None:
        with pytest.raises(ArtifactError, match="cannot be loaded"):
            Encoder(graph_path, EncoderOptions(operators=graph_path))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="cannot be loaded"):
            Encoder(tmp_path / "none.onnx", EncoderOptions())

    def test_truncated_file(self, graph_path: Path) -> None:
        graph_path.write_bytes(graph_path.read_bytes()[:-100])
        with pytest.raises(ArtifactError):
            Encoder(graph_path, EncoderOptions())

    @pytest.mark.parametrize(
        ("inputs", "outputs"),
        [
            (["input_ids"], [("embeddings", 4)]),
            (["input_ids", "mask"], [("embeddings", 4)]),
            (["input_ids", "attention_mask", "token_type_ids"], [("embeddings", 4)]),
            (["input_ids", "attention_mask"], [("embeddings", "dim")]),
            (["input_ids", "attention_mask"], [("embeddings", 4), ("more", 4)]),
        ],
    )
    def test_wrong_signature(
        self, tmp_path: Path, inputs: list[str], outputs: list[tuple[str, int | str]]
    ) -> None:
        path = tmp_path / "model.onnx"
        onnx.save(foreign_graph(inputs, outputs), path)
        with pytest.raises(ArtifactError, match="not a unitvec graph"):
            Encoder(path, EncoderOptions())


def foreign_graph(inputs: list[str], outputs: list[tuple[str, int | str]]) -> onnx.ModelProto:
    """A graph of any signature."""
    integer, number = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Cast", [inputs[0]], [name], to=number) for name, _ in outputs],
            "foreign",
            [helper.make_tensor_value_info(name, integer, ["b", "s"]) for name in inputs],
            [helper.make_tensor_value_info(name, number, ["b", dim]) for name, dim in outputs],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
