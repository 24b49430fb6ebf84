"""What a model's own files say of its vectors reaches those who call."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import TinyModel, edit_json, sample_texts
from tests.serving import Server
from unitvec_client import Client
from unitvec_export.export import STEPS, ExportOptions, export
from unitvec_export.progress import Progress
from unitvec_export.source import Request
from unitvec_protos.v1 import embedding_pb2 as pb

TEXTS = [" ".join(sample_texts()[:30]), "a cat"]
SPEC = TinyModel(normalize=False, prompts=(("query", "Find this: "),), default_prompt_name="query")


@pytest.fixture(scope="module")
def folder(
    tiny_model: Callable[[TinyModel], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model that cuts at the start, is compared by dot, and gives 8 of its dimensions."""
    folder = shutil.copytree(tiny_model(SPEC), tmp_path_factory.mktemp("facts") / "model")
    edit_json(folder / "tokenizer_config.json", {"truncation_side": "left"})
    settings = {"similarity_fn_name": "dot", "truncate_dim": 8}
    edit_json(folder / "config_sentence_transformers.json", settings)
    return folder


@pytest.fixture
def server(folder: Path, start: Callable[..., Server]) -> Server:
    """It, exported and served."""
    out = folder.with_name("artifact")
    export(ExportOptions(Request(str(folder)), out), Progress(io.StringIO(), steps=STEPS))
    return start("--model", str(out))


def test_facts_of_a_model(folder: Path, server: Server) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    expected = model.encode(TEXTS, show_progress_bar=False)
    (info,) = server.stub.ListModels(pb.ListModelsRequest()).models
    assert (info.similarity_fn_name, info.dim, info.normalized) == ("dot", 8, False)
    with Client(server.target) as client:
        asked = client.embed(TEXTS, normalize=False)
        np.testing.assert_allclose(asked, expected, rtol=1e-4, atol=1e-4)
        ends = client.embed(TEXTS, normalize=False, truncate="end")
        np.testing.assert_allclose(ends[1], expected[1], rtol=1e-4, atol=1e-4)
        assert np.abs(ends[0] - expected[0]).max() > 0.01
