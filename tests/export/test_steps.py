"""Steps of a pipeline as graphs, held against sentence-transformers' own modules."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from unitvec_export.errors import InputError
from unitvec_export.pipeline.dense import ACTIVATIONS
from unitvec_export.pipeline.pooling import MODES
from unitvec_export.pipeline.reading import read_steps
from unitvec_export.pipeline.tail import append

HIDDEN = 5
LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)
SEEDS = st.integers(0, 2**16)
Floats = npt.NDArray[np.float32]


def module(name: str, *args: Any, **options: Any) -> Any:
    """A module of sentence-transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import models

        return getattr(models, name)(*args, **options).eval()


def session(modules: Sequence[Any], dim: int, *, opset: int = 18) -> ort.InferenceSession:
    """From tokens (B, S, HIDDEN) and attention_mask (B, S) through these modules."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["tokens"], ["token_embeddings"])],
        "body",
        [
            value("tokens", TensorProto.FLOAT, ["batch", "sequence", HIDDEN]),
            value("attention_mask", TensorProto.INT64, ["batch", "sequence"]),
        ],
        [value("token_embeddings", TensorProto.FLOAT, ["batch", "sequence", HIDDEN])],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    append(model, read_steps(modules), dim=dim)
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(graph: ort.InferenceSession, tokens: Floats, mask: npt.NDArray[np.int64]) -> Floats:
    """(B, D) float32."""
    (vectors,) = graph.run(None, {"tokens": tokens, "attention_mask": mask})
    return np.asarray(vectors, np.float32)


def batch(lengths: Sequence[int], seed: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Random token vectors (B, S, HIDDEN), and a mask of these lengths."""
    tokens = np.random.default_rng(seed).normal(size=(len(lengths), max(lengths), HIDDEN))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return tokens.astype(np.float32), mask


def expected(modules: Sequence[Any], tokens: Floats, mask: npt.NDArray[np.int64]) -> Floats:
    """What the modules themselves compute."""
    import torch

    features: dict[str, Any] = {
        "token_embeddings": torch.from_numpy(tokens),
        "attention_mask": torch.from_numpy(mask),
    }
    with torch.no_grad():
        for each in modules:
            features = each(features)
    return features["sentence_embedding"].numpy()  # type: ignore[no-any-return]


POOLINGS = [(mode,) for mode in MODES] + [("cls", "lasttoken"), MODES]


@functools.cache
def pooled(modes: tuple[str, ...]) -> tuple[Any, ort.InferenceSession]:
    """A Pooling, and its graph."""
    pooling = module("Pooling", HIDDEN, pooling_mode=modes)
    return pooling, session([pooling], HIDDEN * len(modes))


@pytest.mark.parametrize("modes", POOLINGS, ids="+".join)
class TestPooling:
    """Every mode, alone and concatenated."""

    @given(lengths=LENGTHS, seed=SEEDS)
    def test_is_that_of_sentence_transformers(
        self, modes: tuple[str, ...], lengths: list[int], seed: int
    ) -> None:
        mod, graph = pooled(modes)
        tokens, mask = batch(lengths, seed)
        np.testing.assert_allclose(
            run(graph, tokens, mask), expected([mod], tokens, mask), rtol=1e-5, atol=1e-6
        )

    @given(lengths=LENGTHS, seed=SEEDS)
    def test_what_lies_in_the_padding_is_not_seen(
        self, modes: tuple[str, ...], lengths: list[int], seed: int
    ) -> None:
        _, graph = pooled(modes)
        tokens, mask = batch([*lengths, 6], seed)
        poisoned = np.where(mask[..., None] == 1, tokens, np.nan).astype(np.float32)
        np.testing.assert_array_equal(run(graph, poisoned, mask), run(graph, tokens, mask))

    def test_a_text_without_tokens_gives_zeros(self, modes: tuple[str, ...]) -> None:
        _, graph = pooled(modes)
        tokens, mask = batch([3, 2], 0)
        mask[1] = 0
        tokens[1] = np.nan
        vectors = run(graph, tokens, mask)
        assert np.abs(vectors[0]).min() > 0
        np.testing.assert_array_equal(vectors[1], 0)

    def test_in_an_older_operator_set(self, modes: tuple[str, ...]) -> None:
        mod, graph = pooled(modes)
        older = session([mod], HIDDEN * len(modes), opset=17)
        tokens, mask = batch([3, 1], 0)
        np.testing.assert_array_equal(run(older, tokens, mask), run(graph, tokens, mask))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense(activation: str, bias: bool) -> None:
    from torch import nn

    function = getattr(nn, activation)()
    dense = module("Dense", HIDDEN, 3, bias=bias, activation_function=function)
    modules = [module("Pooling", HIDDEN, pooling_mode="mean"), dense]
    tokens, mask = batch([6, 1, 4], 0)
    tokens *= 4  # activations differ most away from 0
    np.testing.assert_allclose(
        run(session(modules, 3), tokens, mask),
        expected(modules, tokens, mask),
        rtol=1e-5,
        atol=1e-6,
    )


def test_layer_norm_and_normalize_in_any_order() -> None:
    import torch

    norm = module("LayerNorm", HIDDEN)
    with torch.no_grad():
        norm.norm.weight.uniform_(0.5, 1.5)
        norm.norm.bias.uniform_(-1, 1)
    pooling, unit = module("Pooling", HIDDEN), module("Normalize")
    tokens, mask = batch([6, 1, 4], 0)
    for modules in ([pooling, norm, unit], [pooling, unit, norm], [pooling, norm, norm]):
        np.testing.assert_allclose(
            run(session(modules, HIDDEN), tokens, mask),
            expected(modules, tokens, mask),
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_dense_between_other_features_is_named() -> None:
    dense = module("Dense", HIDDEN, 3, module_output_name="other")
    with pytest.raises(InputError, match="a Dense from sentence_embedding to other"):
        read_steps([module("Pooling", HIDDEN), dense])


def test_an_activation_that_is_none_of_ours_is_named() -> None:
    from torch import nn

    dense = module("Dense", HIDDEN, 3, activation_function=nn.Softmin(dim=-1))
    with pytest.raises(InputError, match=r"activation torch\.nn\.modules\.activation\.Softmin"):
        read_steps([dense])
