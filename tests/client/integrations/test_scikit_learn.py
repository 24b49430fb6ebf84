"""`UnitvecTransformer` in pipelines of scikit-learn, under its own checks where texts can pass."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks, get_tags

from corpora import load_glosses
from tests.client.integrations.conftest import TOKEN
from unitvec_client import Client, ConnectionOptions, InputTypeError, ModelNotFoundError
from unitvec_client.errors import FillingWarning
from unitvec_client.integrations.scikit_learn import UnitvecTransformer

TEXTS = ["a cat on a mat", "a bank loan", "the stock exchange", "a feline on a rug"]

# The others make numbers up as input.
CHECKS = (
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
    "check_get_feature_names_out_error",
)


@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_scikit_learn(check: str) -> None:
    getattr(estimator_checks, check)("UnitvecTransformer", UnitvecTransformer())


def test_vectors_are_those_of_the_client(target: str, client: Client) -> None:
    transformer = UnitvecTransformer(target, dimensions=64)
    expected = client.embed(TEXTS, dimensions=64)
    for texts in (TEXTS, tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, object)):
        found = transformer.fit_transform(texts)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert transformer.transform([]).shape == (0, 64)
    transformer.close()


def test_prompt_and_norm(target: str, client: Client) -> None:
    transformer = UnitvecTransformer(target, model="prompted", prompt_name="passage")
    expected = client.embed(["passage: a cat"], model="prompted", prompt_name="")
    np.testing.assert_allclose(transformer.transform(["a cat"]), expected, atol=1e-6)
    shorter = clone(transformer).set_params(
        model="", prompt_name=None, dimensions=64, normalize=False
    )
    assert np.linalg.norm(shorter.transform(["a cat"])) < 0.99
    transformer.close()
    shorter.close()


def test_names_of_features(target: str) -> None:
    transformer = UnitvecTransformer(target, dimensions=3)
    with pytest.raises(NotFittedError):
        transformer.get_feature_names_out()
    names = ["unitvectransformer0", "unitvectransformer1", "unitvectransformer2"]
    assert transformer.fit(TEXTS).get_feature_names_out().tolist() == names
    table = np.array([[text, str(i)] for i, text in enumerate(TEXTS)], object)
    columns = ColumnTransformer([("text", transformer, 0)])
    mixed = columns.fit_transform(table)
    assert columns.get_feature_names_out().tolist() == [f"text__{name}" for name in names]
    assert mixed.shape == (4, 3)
    transformer.close()


@pytest.fixture(scope="module")
def labelled() -> tuple[list[str], list[str]]:
    """30 glosses of each of three categories, and their categories."""
    categories = ("animal", "food", "person")
    glosses = [gloss for name in categories for gloss in load_glosses(30, categories=(name,))]
    return [gloss.text for gloss in glosses], [gloss.category for gloss in glosses]


def test_a_classifier_of_real_texts(target: str, labelled: tuple[list[str], list[str]]) -> None:
    texts, labels = labelled
    pipeline = make_pipeline(UnitvecTransformer(target), LogisticRegression(max_iter=500))
    scores = cross_val_score(pipeline, texts, labels, cv=3)
    assert scores.mean() > 0.7  # A guess is right once in three times.
    fitted = pipeline.fit(texts, labels)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(texts), fitted.predict(texts))


def test_a_search_over_parameters(target: str, labelled: tuple[list[str], list[str]]) -> None:
    steps = [("embed", UnitvecTransformer(target)), ("classify", LogisticRegression())]
    search = GridSearchCV(Pipeline(steps), {"embed__dimensions": [2, 384]}, cv=2)
    search.fit(*labelled)
    assert search.best_params_ == {"embed__dimensions": 384}
    assert search.predict(["a small furry pet that purrs"]).tolist() == ["animal"]


def test_parameters_may_be_set_after_a_call(target: str) -> None:
    transformer = UnitvecTransformer(target)
    assert transformer.transform(TEXTS).shape == (4, 384)
    assert transformer.set_params(model="prompted").transform(TEXTS).shape == (4, 32)
    assert clone(transformer).get_params() == transformer.get_params()
    transformer.close()


def test_a_pickle_holds_no_token_of_a_variable(
    guarded_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    transformer = UnitvecTransformer(guarded_target, token_env_var="SOME_TOKEN")
    expected = transformer.transform(TEXTS)
    pickled = pickle.dumps(transformer)
    assert TOKEN.encode() not in pickled
    np.testing.assert_allclose(pickle.loads(pickled).transform(TEXTS), expected, atol=1e-6)
    given = UnitvecTransformer(guarded_target, connection=ConnectionOptions(token=TOKEN))
    np.testing.assert_allclose(clone(given).transform(TEXTS), expected, atol=1e-6)
    assert TOKEN not in repr(given)


@pytest.mark.parametrize("wrong", ["a cat", [1.0, 2.0], np.ones((2, 2)), ["a cat", None], 7])
def test_what_is_no_text(target: str, wrong: Any) -> None:
    transformer = UnitvecTransformer(target)
    for method in (transformer.fit, transformer.transform):
        with pytest.raises(InputTypeError, match="X"):
            method(wrong)
    with pytest.raises(ModelNotFoundError):
        transformer.set_params(model="none").fit(TEXTS)
    transformer.close()


def test_tags() -> None:
    tags = get_tags(UnitvecTransformer())
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not tags.requires_fit


def test_a_table_is_refused_with_how_a_column_is_named(target: str) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": ["a cat", "a bank loan"], "n": [1, 2]})
    transformer = UnitvecTransformer(target)
    whole = ColumnTransformer([("t", transformer, ["text"])])
    with pytest.raises(InputTypeError, match=r"name it 'text', not \['text'\]"):
        whole.fit_transform(table)
    with pytest.raises(InputTypeError, match=r"X is a table \(DataFrame\): .*X\['text'\]"):
        transformer.transform(table)
    found = ColumnTransformer([("t", transformer, "text")]).fit_transform(table)
    np.testing.assert_allclose(found, transformer.transform(table["text"]), atol=1e-6)
    transformer.close()


def test_a_grid_of_dimensions_may_be_an_arange(target: str) -> None:
    glosses, senses = TEXTS * 3, ["pets", "money", "money", "pets"] * 3
    pipeline = make_pipeline(UnitvecTransformer(target), LogisticRegression())
    grid = {"unitvectransformer__dimensions": np.arange(16, 49, 16)}
    search = GridSearchCV(pipeline, grid, cv=3).fit(glosses, senses)
    best = search.best_estimator_.named_steps["unitvectransformer"]
    assert len(best.get_feature_names_out()) == best.dimensions


def test_a_fitted_pipeline_is_told_from_what_another_prompt_makes(target: str) -> None:
    transformer = UnitvecTransformer(target, model="prompted", prompt_name="passage").fit(TEXTS)
    again = pickle.loads(pickle.dumps(transformer))
    assert again.transform(TEXTS).shape == (4, 32)
    again.set_params(prompt_name="")
    with pytest.warns(FillingWarning, match="document_prompt 'passage: ' and not ''"):
        again.transform(TEXTS)
    for each in (transformer, again):
        each.close()
