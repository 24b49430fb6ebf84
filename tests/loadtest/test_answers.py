"""Judging what a server sent."""

import grpc
import numpy as np
import pytest

from unitvec_loadtest.answers import (
    MalformedMatrixError,
    float32_matrix,
    judge_embed,
    judge_similarity,
    outcome_of,
)
from unitvec_loadtest.results import Outcome
from unitvec_protos.v1 import embedding_pb2 as pb

TEXTS = ["a", "b", "c"]
VECTORS = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.0, 1.0]}
REFERENCES = {text: np.array(vector, dtype=np.float32) for text, vector in VECTORS.items()}


def matrix(rows: list[list[float]], **changes: object) -> pb.Matrix:
    """A FLOAT32 matrix, with some fields changed."""
    values = np.array(rows, dtype="<f4")
    fields = {"rows": values.shape[0], "dim": values.shape[1], "dtype": pb.DTYPE_FLOAT32}
    return pb.Matrix(**{**fields, "data": values.tobytes(), **changes})


GOOD = list(VECTORS.values())


@pytest.mark.parametrize(
    ("embeddings", "outcome", "message"),
    [
        pytest.param(matrix(GOOD), Outcome.OK, "", id="right"),
        pytest.param(
            matrix([[1.00005, 0], *GOOD[1:]]), Outcome.OK, "", id="off by half the tolerance"
        ),
        pytest.param(
            matrix([[1.0002, 0], *GOOD[1:]]), Outcome.WRONG_ANSWER, "0.0002", id="off by twice it"
        ),
        pytest.param(
            matrix([GOOD[1], GOOD[0], GOOD[2]]), Outcome.WRONG_ANSWER, "differ", id="rows mixed up"
        ),
        pytest.param(matrix([[np.nan, 0], *GOOD[1:]]), Outcome.WRONG_ANSWER, "nan", id="NaN"),
        pytest.param(matrix(GOOD[:2]), Outcome.WRONG_ANSWER, "expected 3 rows", id="a row short"),
        pytest.param(
            matrix(GOOD, data=b"1234"), Outcome.WRONG_ANSWER, "24 bytes, got 4", id="data short"
        ),
        pytest.param(
            matrix([[1], [0], [0]]), Outcome.WRONG_ANSWER, "expected shape", id="another dimension"
        ),
        pytest.param(
            matrix(GOOD, dtype=99), Outcome.WRONG_ANSWER, "unknown dtype", id="unknown dtype"
        ),
        pytest.param(pb.Matrix(rows=3), Outcome.WRONG_ANSWER, "unknown dtype", id="an empty reply"),
        pytest.param(
            pb.Matrix(rows=3, dtype=1), Outcome.WRONG_ANSWER, "rows of 0 values", id="no dimension"
        ),
    ],
)
def test_judge_embed(embeddings: pb.Matrix, outcome: Outcome, message: str) -> None:
    """Form and values are checked; the message says what is wrong."""
    response = pb.EmbedResponse(embeddings=embeddings, usage=pb.Usage(total_tokens=9))
    answer = judge_embed(TEXTS, response, references=REFERENCES)
    assert answer.outcome is outcome
    assert message in answer.message
    assert answer.tokens == (9 if outcome is Outcome.OK else 0)


@pytest.mark.parametrize(
    ("dtype", "row_bytes"),
    [(pb.DTYPE_FLOAT32, 40), (pb.DTYPE_FLOAT16, 20), (pb.DTYPE_INT8, 10), (pb.DTYPE_BINARY, 2)],
)
def test_sizes_of_every_dtype(dtype: pb.Dtype, row_bytes: int) -> None:
    """A matrix of ten columns has this many bytes a row, and no other size passes."""
    for size, right in ((row_bytes * 3, True), (row_bytes * 3 + 1, False)):
        embeddings = pb.Matrix(rows=3, dim=10, dtype=dtype, data=bytes(size))
        answer = judge_embed(TEXTS, pb.EmbedResponse(embeddings=embeddings))
        assert (answer.outcome is Outcome.OK) is right


def test_every_known_dtype_has_a_size() -> None:
    """A new member of the enum must be given one."""
    for dtype in pb.Dtype.values():
        embeddings = pb.Matrix(rows=3, dim=8, dtype=dtype)
        answer = judge_embed(TEXTS, pb.EmbedResponse(embeddings=embeddings))
        assert ("unknown dtype" in answer.message) is (dtype == pb.DTYPE_UNSPECIFIED)


@pytest.mark.parametrize(
    ("scores", "outcome"),
    [
        ([[0.6, 0.0]], Outcome.OK),
        ([[0.0, 0.6]], Outcome.WRONG_ANSWER),
        ([[0.6]], Outcome.WRONG_ANSWER),
        ([[0.6], [0.0]], Outcome.WRONG_ANSWER),
    ],
)
def test_judge_similarity(scores: list[list[float]], outcome: Outcome) -> None:
    """The first text against the others, by cosine."""
    response = pb.SimilarityResponse(scores=matrix(scores))
    assert judge_similarity(TEXTS, response, references=REFERENCES).outcome is outcome


def test_references_must_be_float32() -> None:
    """Another type is named in the error."""
    with pytest.raises(MalformedMatrixError, match="DTYPE_INT8"):
        float32_matrix(pb.Matrix(rows=1, dim=1, dtype=pb.DTYPE_INT8, data=b"1"))


def test_every_status_has_an_outcome() -> None:
    """All of gRPC's codes keep their name; a number it does not know is UNKNOWN."""
    for status in grpc.StatusCode:
        assert outcome_of(status.value[0]).name == status.name
    assert outcome_of(77) is Outcome.UNKNOWN
