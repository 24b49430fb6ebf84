"""`RemoteSentenceTransformer` returns what sentence-transformers itself returns."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import dot_score

from unitvec_client import InputError, InputTypeError, ModelNotFoundError
from unitvec_client.integrations.encoding import EncodeKeywords, EncodeOptions
from unitvec_client.integrations.sentence_transformer import RemoteSentenceTransformer

TEXTS = [
    "a cat on a mat",
    "a bank loan",
    "",
    "  the stock exchange ",
    "a feline on a rug",
    "Zoë 🐈",
]
METHODS = ("encode", "encode_query", "encode_document")


@pytest.fixture(scope="module")
def remote(target: str) -> Iterator[RemoteSentenceTransformer]:
    model = RemoteSentenceTransformer("sentence-transformers/all-MiniLM-L6-v2", target=target)
    yield model
    model.close()


@pytest.fixture(scope="module")
def remote_prompted(target: str) -> Iterator[RemoteSentenceTransformer]:
    model = RemoteSentenceTransformer("prompted", target=target)
    yield model
    model.close()


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
        return
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize_embeddings": True},
        {"truncate_dim": 64},
        {"truncate_dim": 64, "normalize_embeddings": True},
        {"precision": None},
        {"truncate_dim": 1000},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"prompt": "about: "},
        {"batch_size": 2, "show_progress_bar": False, "device": "cpu", "chunk_size": 3},
    ],
    ids=str,
)
def test_encode(
    remote: RemoteSentenceTransformer, reference_model: Any, method: str, options: Any
) -> None:
    found = getattr(remote, method)(TEXTS, **options)
    assert_same(found, getattr(reference_model, method)(TEXTS, **options))


@pytest.mark.parametrize("options", [{}, {"convert_to_tensor": True}, {"convert_to_numpy": False}])
@pytest.mark.parametrize("inputs", [TEXTS[0], TEXTS[:1], tuple(TEXTS[:2]), np.array(TEXTS[:2])])
def test_kinds_of_inputs(
    remote: RemoteSentenceTransformer, reference_model: Any, inputs: Any, options: Any
) -> None:
    assert_same(remote.encode(inputs, **options), reference_model.encode(inputs, **options))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "options",
    [{}, {"prompt_name": "query"}, {"prompt_name": "passage"}, {"prompt": " x: "}, {"prompt": ""}],
    ids=str,
)
def test_prompts(
    remote_prompted: RemoteSentenceTransformer, prompted_model: Any, method: str, options: Any
) -> None:
    found = getattr(remote_prompted, method)(TEXTS, **options)
    assert_same(found, getattr(prompted_model, method)(TEXTS, **options))


def test_prompts_of_the_constructor(target: str, prompted_model: Any) -> None:
    model = RemoteSentenceTransformer(
        "prompted", target=target, prompts={"mine": "mine: "}, default_prompt_name="mine"
    )
    assert_same(model.encode(TEXTS), prompted_model.encode(TEXTS, prompt="mine: "))
    assert_same(model.encode_query(TEXTS), prompted_model.encode_query(TEXTS))
    assert model.prompts == {**prompted_model.prompts, "mine": "mine: "}
    model.close()


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
@pytest.mark.parametrize("options", [{}, {"truncate_dim": 64}], ids=str)
def test_bits(
    remote: RemoteSentenceTransformer, reference_model: Any, precision: Any, options: Any
) -> None:
    found = remote.encode(TEXTS, precision=precision, **options)
    expected = reference_model.encode(TEXTS, precision=precision, **options)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    # Values within 1e-6 of zero may have either sign.
    bits = np.unpackbits(found.view(np.uint8) ^ expected.view(np.uint8))
    assert bits.sum() <= 2
    [first] = remote.encode(TEXTS[:1], precision=precision, **options)
    np.testing.assert_array_equal(remote.encode(TEXTS[0], precision=precision, **options), first)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_eight_bits(
    remote: RemoteSentenceTransformer, reference_model: Any, precision: Any
) -> None:
    texts = [f"text number {i}" for i in range(30)]
    found = remote.encode(texts, precision=precision)
    expected = reference_model.encode(texts, precision=precision)
    assert found.dtype == expected.dtype
    # A value on the edge of two levels may fall to either side.
    steps = np.abs(found.astype(int) - expected.astype(int))
    assert steps.max() <= 1
    assert steps.mean() < 0.05
    tensor = remote.encode(texts, precision=precision, convert_to_tensor=True)
    assert tensor.dtype == getattr(torch, precision)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities(
    target: str, reference_model: Any, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteSentenceTransformer(target=target, similarity_fn_name=name)
    monkeypatch.setattr(reference_model, "similarity_fn_name", name)
    a, b = reference_model.encode(TEXTS[:4]) * 2, reference_model.encode(TEXTS[2:])
    for method in ("similarity", "similarity_pairwise"):
        expected = getattr(reference_model, method)(a, b)
        assert_same(getattr(remote, method)(a, b), expected.numpy())
        assert_same(getattr(remote, method)(torch.from_numpy(a), b), expected)
    for row in (remote.similarity(a[0], b), remote.similarity(a[:1], b)):
        assert_same(row, reference_model.similarity(a[0], b).numpy())
    assert remote.similarity(a[:0], b).shape == (0, 4)


def test_codes_are_multiplied_in_float(reference_model: Any) -> None:
    # sentence-transformers 6.2 (util/similarity.py) multiplies int8 in int8: right modulo 256 only.
    codes = reference_model.encode([f"text number {i}" for i in range(30)], precision="int8")
    remote = RemoteSentenceTransformer(similarity_fn_name="dot")
    products = codes.astype(int) @ codes.astype(int).T
    np.testing.assert_array_equal(remote.similarity(codes, codes), products)
    np.testing.assert_array_equal(remote.similarity_pairwise(codes, codes), np.diag(products))
    np.testing.assert_array_equal(dot_score(codes, codes), products.astype(np.int8))


def test_what_it_says_of_itself(remote: RemoteSentenceTransformer, reference_model: Any) -> None:
    assert remote.get_embedding_dimension() == reference_model.get_embedding_dimension() == 384
    with pytest.warns(FutureWarning, match="get_embedding_dimension"):
        assert remote.get_sentence_embedding_dimension() == 384
    assert remote.max_seq_length == reference_model.max_seq_length
    assert remote.get_max_seq_length() == reference_model.max_seq_length
    assert remote.similarity_fn_name == reference_model.similarity_fn_name
    assert remote.default_prompt_name == reference_model.default_prompt_name
    assert remote.eval().to("cpu") is remote


def test_truncate_dim_of_the_constructor(target: str, reference_model: Any) -> None:
    model = RemoteSentenceTransformer(target=target, truncate_dim=64)
    assert model.get_embedding_dimension() == 64
    assert_same(model.encode(TEXTS), reference_model.encode(TEXTS, truncate_dim=64))
    model.close()


def test_arguments_have_the_names_of_sentence_transformers() -> None:
    ours = set(inspect.signature(RemoteSentenceTransformer.encode).parameters) - {"options"}
    ours |= set(EncodeKeywords.__annotations__)
    theirs = set(inspect.signature(SentenceTransformer.encode).parameters) - {"kwargs"}
    assert ours - theirs == {"task", "sentences"}
    assert theirs <= ours
    assert set(EncodeKeywords.__annotations__) == set(EncodeOptions.__dataclass_fields__)
    for method in METHODS:
        parameters = list(inspect.signature(getattr(RemoteSentenceTransformer, method)).parameters)
        assert parameters[1:5] == ["inputs", "prompt_name", "prompt", "batch_size"]


def test_the_former_name_of_inputs(remote: RemoteSentenceTransformer) -> None:
    assert_same(remote.encode(sentences=TEXTS), remote.encode(TEXTS))


@pytest.mark.parametrize(
    ("precision", "dtype", "width"),
    [
        ("float32", np.float32, 384),
        ("int8", np.int8, 384),
        ("uint8", np.uint8, 384),
        ("binary", np.int8, 48),
        ("ubinary", np.uint8, 48),
    ],
)
def test_no_texts(
    remote: RemoteSentenceTransformer, reference_model: Any, precision: Any, dtype: Any, width: int
) -> None:
    """The array has the shape and the type of others, where theirs is float64 of shape (0,)."""
    found = remote.encode([], precision=precision)
    assert (found.dtype, found.shape) == (dtype, (0, width))
    theirs = reference_model.encode([], precision=precision)
    assert (theirs.dtype, theirs.shape) == (np.float64, (0,))
    tensor = remote.encode([], precision=precision, convert_to_tensor=True)
    assert tensor.shape == (0, width)
    assert reference_model.encode([], convert_to_tensor=True).shape == (0,)
    assert remote.encode([], precision=precision, convert_to_numpy=False) == []


@pytest.mark.parametrize("precision", ["int8", "uint8"])
@pytest.mark.parametrize("inputs", ["a cat", ["a cat"]])
def test_one_text_has_no_range(
    remote: RemoteSentenceTransformer, reference_model: Any, inputs: Any, precision: Any
) -> None:
    for model in (reference_model, remote):
        with pytest.raises(ValueError, match=f"{precision}.*rang"):
            model.encode(inputs, precision=precision)


def test_dimensions_may_be_numpy_s(remote: RemoteSentenceTransformer, target: str) -> None:
    """They come from a grid, such as `np.arange`."""
    for dim in np.arange(8, 17, 8):
        assert remote.encode(TEXTS, truncate_dim=dim).shape == (len(TEXTS), dim)
        model = RemoteSentenceTransformer(target=target, truncate_dim=dim)
        assert model.encode(TEXTS).shape == (len(TEXTS), dim)
        assert model.get_embedding_dimension() == dim
        model.close()
    for wrong in (0, 2.5, True):
        with pytest.raises(InputError, match="truncate_dim"):
            remote.encode(TEXTS, truncate_dim=wrong)


def test_pickle(remote: RemoteSentenceTransformer) -> None:
    again = pickle.loads(pickle.dumps(remote))
    assert_same(again.encode(TEXTS), remote.encode(TEXTS))
    again.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_value": "token_embeddings"}, "output_value"),
        ({"output_value": None}, "output_value"),
        ({"pool": {}}, "pool"),
        ({"precision": "int4"}, "precision"),
        ({"prompt_name": "none"}, "prompt 'none'"),
        ({"processing_kwargs": {}}, "unknown option 'processing_kwargs'"),
    ],
    ids=str,
)
def test_what_is_not_supported(
    remote: RemoteSentenceTransformer, options: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        remote.encode(TEXTS, **options)


@pytest.mark.parametrize(
    "wrong", [None, 7, b"a cat", {"text": "a cat"}, ["a cat", 7], [("a", "b")]]
)
def test_what_is_no_text(remote: RemoteSentenceTransformer, wrong: Any) -> None:
    with pytest.raises(InputTypeError, match="inputs"):
        remote.encode(wrong)


def test_a_model_that_is_not_served(target: str) -> None:
    with pytest.raises(ModelNotFoundError):
        RemoteSentenceTransformer("none", target=target).encode("a cat")
    with pytest.raises(InputError, match="similarity_fn_name"):
        RemoteSentenceTransformer(similarity_fn_name="angle")  # type: ignore[arg-type]


def test_tensors_without_torch(
    remote: RemoteSentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        remote.encode(TEXTS, convert_to_tensor=True)
    assert remote.encode(TEXTS).shape == (len(TEXTS), 384)


def test_the_longest_text_is_the_server_s(remote: RemoteSentenceTransformer) -> None:
    remote.max_seq_length = 256
    remote.max_seq_length = np.int64(256)
    for other in (128, 255, 257, 512):
        with pytest.raises(InputError, match=rf"max_seq_length is 256.*cannot be {other}"):
            remote.max_seq_length = other
    with pytest.raises(InputTypeError):
        remote.max_seq_length = None
    assert remote.max_seq_length == 256


def test_what_stays_on_the_server_is_named(remote: RemoteSentenceTransformer) -> None:
    for name in ("tokenizer", "tokenize"):
        with pytest.raises(InputError, match=rf"no {name}: .*Client\.tokenize"):
            getattr(remote, name)
    with pytest.raises(AttributeError, match="the model is on the server"):
        _ = remote.start_multi_process_pool
    assert getattr(remote, "tokenizer", None) is None


def test_tables_are_refused(remote: RemoteSentenceTransformer) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"id": [1], "text": ["a cat"]})
    with pytest.raises(InputTypeError, match=r"a table \(DataFrame\): .*inputs\['id'\]"):
        remote.encode(table)
    assert_same(remote.encode(table["text"]), remote.encode(["a cat"]))


def test_it_is_shown_in_short(target: str) -> None:
    model = RemoteSentenceTransformer("mine", target=target)
    assert repr(model) == f"RemoteSentenceTransformer('mine', target='{target}')"
