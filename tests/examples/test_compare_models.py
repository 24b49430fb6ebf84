"""Models compared: figures as scikit-learn has them, and a model that knows nothing comes last."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from scipy.stats import ttest_ind
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

import compare_models
from tests.serving import serving
from unitvec_client import Client


@pytest.fixture(scope="module")
def two_models(minilm_artifact: Path, artifact: Path) -> Iterator[str]:
    """host:port of a server of all-MiniLM-L6-v2 and of one with random weights."""
    models = ("--model", str(minilm_artifact), "--model", f"random={artifact}")
    with serving(*models) as server:
        yield server.target


@pytest.fixture(scope="module")
def int8(artifact: Path) -> Iterator[str]:
    """host:port of a server of the model with random weights, at int8."""
    with serving("--model", f"random={artifact}", "--precision", "int8") as server:
        yield server.target


@pytest.fixture(scope="module")
def found(two_models: str) -> list[compare_models.Comparison]:
    glosses = compare_models.choose_glosses(150)
    with Client(two_models) as client:
        models = compare_models.choose_models([client], [])
        return compare_models.compare(models, glosses, rounds=1)


def test_separation_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    categories = rng.choice(["a", "b", "c"], 40).tolist()
    cosines = cosine_similarity(vectors)
    pairs = [(i, j) for i in range(40) for j in range(i)]
    within = [cosines[i, j] for i, j in pairs if categories[i] == categories[j]]
    between = [cosines[i, j] for i, j in pairs if categories[i] != categories[j]]
    n, m = len(within), len(between)
    pooled = ((n - 1) * np.var(within, ddof=1) + (m - 1) * np.var(between, ddof=1)) / (n + m - 2)
    apart = compare_models.measure_separation(vectors, categories)
    assert apart.within == pytest.approx(np.mean(within), abs=1e-6)
    assert apart.between == pytest.approx(np.mean(between), abs=1e-6)
    assert apart.effect == pytest.approx(
        (np.mean(within) - np.mean(between)) / np.sqrt(pooled), abs=1e-4
    )


def test_retrieval_is_as_scikit_learn_has_it() -> None:
    rng = np.random.default_rng(1)
    documents = rng.standard_normal((60, 8)).astype(np.float32)
    queries = documents + 1.2 * rng.standard_normal((60, 8)).astype(np.float32)
    scores = queries @ documents.T
    hits = compare_models.measure_retrieval(queries, documents)
    # Of a single relevant document, average precision is the reciprocal of its rank.
    assert hits.mrr == pytest.approx(label_ranking_average_precision_score(np.eye(60), scores))
    assert hits.recall_at_1 == pytest.approx(top_k_accuracy_score(np.arange(60), scores, k=1))
    assert 0.1 < hits.recall_at_1 < hits.mrr < 0.9


def test_alike_documents_do_not_count_as_found() -> None:
    same = np.ones((4, 2), np.float32)
    assert compare_models.measure_retrieval(same, same) == compare_models.Retrieval(0.0, 0.25)


def test_figures_are_those_of_sentence_transformers(
    found: list[compare_models.Comparison], reference_model: Any
) -> None:
    glosses = compare_models.choose_glosses(150)
    vectors = reference_model.encode([gloss.text for gloss in glosses])
    queries = reference_model.encode([", ".join(gloss.words) for gloss in glosses])
    scores = cosine_similarity(queries, vectors)
    ours = found[0]
    assert ours.model.name == "all-MiniLM-L6-v2"
    assert ours.retrieval.mrr == pytest.approx(
        label_ranking_average_precision_score(np.eye(150), scores), abs=1e-3
    )
    cosines = cosine_similarity(vectors)[np.triu_indices(150, 1)]
    labels = np.array([gloss.category for gloss in glosses])
    same = (labels[:, None] == labels)[np.triu_indices(150, 1)]
    assert ours.separation.within == pytest.approx(cosines[same].mean(), abs=1e-4)
    assert ours.separation.between == pytest.approx(cosines[~same].mean(), abs=1e-4)
    assert ours.retrieval.recall_at_1 == pytest.approx(
        top_k_accuracy_score(np.arange(150), scores, k=1)
    )
    # Cohen's d is Student's t without the sizes of the samples.
    student = ttest_ind(cosines[same], cosines[~same]).statistic
    effect = student * np.sqrt(1 / same.sum() + 1 / (~same).sum())
    assert ours.separation.effect == pytest.approx(effect, abs=1e-3)


def test_random_weights_are_clearly_worse(found: list[compare_models.Comparison]) -> None:
    real, random = found
    assert (real.vector_bytes, random.vector_bytes) == (384 * 4, 32 * 4)
    assert real.separation.effect > 3 * max(random.separation.effect, 0)
    assert real.retrieval.recall_at_1 > 3 * random.retrieval.recall_at_1
    assert real.retrieval.mrr > 3 * random.retrieval.mrr
    assert real.retrieval.recall_at_1 > 0.3


def test_models_of_several_servers_take_turns(two_models: str) -> None:
    with Client(two_models) as one, Client(two_models) as other:
        candidates = compare_models.choose_models([one, other], [])
        assert [candidate.client for candidate in candidates] == [one, one, other, other]
        rates = compare_models.measure_throughputs(candidates, ["a", "b"], rounds=1)
    assert len(rates) == 4
    assert min(rates) > 0


def test_another_server_is_compared_at_its_own_precision(
    two_models: str, int8: str, tmp_path: Path, capsys: Any
) -> None:
    flags = ["--output", str(tmp_path), "--count", "60", "--rounds", "1", "--models", "random"]
    assert compare_models.main(["--target", two_models, "--others", int8, *flags]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if " 128 " in line]
    with Client(two_models) as one, Client(int8) as other:
        candidates = compare_models.choose_models([one, other], ["random"])
        glosses = compare_models.choose_glosses(60)
        documents = [each.embed([gloss.text for gloss in glosses]) for each in candidates]
    precisions = [candidate.model.precision for candidate in candidates]
    assert precisions[0] != precisions[1] == "int8"
    assert [row[1] for row in rows] == precisions
    labels = np.array([gloss.category for gloss in glosses])
    same = (labels[:, None] == labels)[np.triu_indices(60, 1)]
    for row, vectors in zip(rows, documents, strict=True):
        cosines = cosine_similarity(vectors)[np.triu_indices(60, 1)]
        shown = [float(figure) for figure in row[4:6]]
        assert shown == pytest.approx([cosines[same].mean(), cosines[~same].mean()], abs=6e-4)
    assert np.abs(documents[0] - documents[1]).max() > 1e-3


def test_program_prints_and_draws_the_models_named(
    two_models: str, tmp_path: Path, capsys: Any
) -> None:
    flags = ["--output", str(tmp_path), "--count", "30", "--rounds", "1", "--models"]
    names = ["random", "all-MiniLM-L6-v2"]
    assert compare_models.main(["--target", two_models, *flags, *names]) == 0
    said = capsys.readouterr().out
    lines = re.findall(r"^(\S+) +(\S+) +(\d+) +([\d,]+) ", said, re.MULTILINE)
    expected = [("random", "32", "128"), ("all-MiniLM-L6-v2", "384", "1,536")]
    shown = [(name, dim, size) for name, _, dim, size in lines if name in names]
    assert shown == expected
    assert re.search(r"Finds best: all-MiniLM-L6-v2 in (fp32|int16)\.", said)
    assert image.imread(tmp_path / "compare_models.png").std() > 0.01


def test_model_that_is_not_served_is_named(two_models: str) -> None:
    with pytest.raises(SystemExit, match="no model 'nope'; there are all-MiniLM-L6-v2, random"):
        compare_models.main(["--target", two_models, "--models", "nope"])


def test_senses_have_words_of_their_own() -> None:
    words = [gloss.words for gloss in compare_models.choose_glosses(500)]
    assert len(words) == len(set(words)) == 500
