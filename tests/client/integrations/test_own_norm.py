"""A model that is compared by the inner product: its own lengths, scores and ranking are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.artifacts import export_artifact
from tests.models import TinyModel
from tests.serving import serving
from unitvec_client import Client
from unitvec_client.integrations.scikit_learn import UnitvecTransformer
from unitvec_client.integrations.sentence_transformer import RemoteSentenceTransformer
from unitvec_client.providers.endpoint import Endpoint
from unitvec_client.providers.provider import Provider, TextOptions
from unitvec_export.source import Request

TEXTS = ["a cat on a mat", "a bank loan", "the stock exchange", "a feline on a rug"]


@pytest.fixture(scope="module")
def folder(
    tiny_model: Callable[[TinyModel], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model without a Normalize module, whose files say `dot`."""
    made = tmp_path_factory.mktemp("dot") / "model"
    shutil.copytree(tiny_model(TinyModel(normalize=False)), made)
    config = made / "config_sentence_transformers.json"
    settings = {**json.loads(config.read_text()), "similarity_fn_name": "dot"}
    config.write_text(json.dumps(settings))
    return made


@pytest.fixture(scope="module")
def dot_target(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    artifact = tmp_path_factory.mktemp("dot-artifact") / "artifact"
    export_artifact(Request(str(folder)), artifact, ("fp32",))
    with serving("--model", str(artifact)) as server:
        yield server.target


@pytest.fixture(scope="module")
def expected(folder: Path) -> Any:
    return SentenceTransformer(str(folder), device="cpu")


def test_the_stand_in_compares_as_the_files_say(dot_target: str, expected: Any) -> None:
    model = RemoteSentenceTransformer(target=dot_target)
    assert model.similarity_fn_name == expected.similarity_fn_name == "dot"
    found = model.similarity(model.encode(TEXTS), model.encode(TEXTS))
    wanted = np.asarray(expected.similarity(expected.encode(TEXTS), expected.encode(TEXTS)))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    model.similarity_fn_name = "cosine"
    assert model.similarity(model.encode(TEXTS), model.encode(TEXTS)).max() < 1.001
    model.similarity_fn_name = None
    assert model.similarity_fn_name == "dot"
    model.close()


def test_models_tell_it(dot_target: str) -> None:
    with Client(dot_target) as client:
        (model,) = client.models().models
    assert (model.similarity_fn_name, model.normalized) == ("dot", False)


def test_providers_keep_the_model_s_own_norm(dot_target: str, expected: Any) -> None:
    wanted = expected.encode(TEXTS)
    assert np.linalg.norm(wanted, axis=1).max() > 1.5  # It could be told from unit norm.
    provider = Provider(Endpoint(dot_target))
    np.testing.assert_allclose(provider.embed(TEXTS).values(), wanted, rtol=1e-4, atol=1e-5)
    cut = provider.embed(TEXTS, TextOptions(dimensions=8)).values()
    np.testing.assert_allclose(cut, wanted[:, :8], rtol=1e-4, atol=1e-5)
    provider.close()
    transformer = UnitvecTransformer(dot_target)
    np.testing.assert_allclose(transformer.fit_transform(TEXTS), wanted, rtol=1e-4, atol=1e-5)
    norms = np.linalg.norm(transformer.set_params(normalize=True).transform(TEXTS), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    transformer.close()


def test_unit_norm_is_a_model_s_own_norm_too(target: str) -> None:
    provider = Provider(Endpoint(target))
    for options in (TextOptions(), TextOptions(dimensions=64)):
        norms = np.linalg.norm(provider.embed(TEXTS, options).values(), axis=1)
        np.testing.assert_allclose(norms, 1, rtol=1e-5)
    provider.close()
