"""From what the server sent to an `Answer`: is it well formed, and is it right?

A wrong answer is data like any other failure: it is counted, and never ends a run.
"""

from collections.abc import Mapping, Sequence

import grpc
import numpy as np
import numpy.typing as npt

from unitvec_loadtest.results import Answer, Outcome, ServerTimings
from unitvec_protos.v1 import embedding_pb2 as pb

TOLERANCE = 1e-4
"""Largest difference of a value from its reference that still counts as the same answer.

Float rounding over differently shaped batches stays under 1e-5; a mixed-up row is off by 0.1.
"""

Float32s = npt.NDArray[np.float32]
References = Mapping[str, Float32s]
"""The vector (D,) of each text, as the server returned it for that text alone."""

_OUTCOMES = {int(outcome): outcome for outcome in Outcome}


class MalformedMatrixError(ValueError):
    """A matrix does not hold what it says it holds."""


def outcome_of(code: int) -> Outcome:
    """Maps the number of a gRPC status; numbers that gRPC does not know become UNKNOWN."""
    return _OUTCOMES.get(code, Outcome.UNKNOWN)


def failed_call(error: grpc.aio.AioRpcError) -> Answer:
    """Describes a call that ended with an error status."""
    code: int = error.code().value[0]
    return Answer(outcome_of(code), message=error.details() or "")


def judge_embed(
    texts: Sequence[str], response: pb.EmbedResponse, *, references: References | None = None
) -> Answer:
    """Judges the answer to an EmbedRequest: a row for each text and, if asked, the right ones."""
    try:
        _check_matrix(response.embeddings, rows=len(texts))
        if references is not None:
            wanted = np.stack([references[text] for text in texts])  # (B, D)
            _compare(wanted, float32_matrix(response.embeddings))
    except MalformedMatrixError as exc:
        return Answer(Outcome.WRONG_ANSWER, message=str(exc))
    return _right(response.usage, response.timings)


def judge_similarity(
    texts: Sequence[str], response: pb.SimilarityResponse, *, references: References | None = None
) -> Answer:
    """Judges the scores (1, B - 1) of the first text against the others."""
    try:
        _check_scores(response.scores, documents=len(texts) - 1)
        if references is not None:
            _compare(_cosines(texts, references), float32_matrix(response.scores))
    except MalformedMatrixError as exc:
        return Answer(Outcome.WRONG_ANSWER, message=str(exc))
    return _right(response.usage, response.timings)


def float32_matrix(matrix: pb.Matrix) -> Float32s:
    """Decodes a FLOAT32 matrix to (rows, dim).

    Raises:
        MalformedMatrixError: It is of another type, or its data has not the size it says.
    """
    if matrix.dtype != pb.DTYPE_FLOAT32:
        raise MalformedMatrixError(f"expected FLOAT32, got {pb.Dtype.Name(matrix.dtype)}")
    _check_matrix(matrix, rows=matrix.rows)
    return np.frombuffer(matrix.data, dtype="<f4").reshape(matrix.rows, matrix.dim)


def _check_matrix(matrix: pb.Matrix, *, rows: int) -> None:
    if matrix.rows != rows:
        raise MalformedMatrixError(f"expected {rows} rows, got {matrix.rows}")
    size = rows * _row_bytes(matrix)
    if len(matrix.data) != size or not matrix.dim:
        raise MalformedMatrixError(
            f"{rows} rows of {matrix.dim} values are {size} bytes, got {len(matrix.data)}"
        )


def _check_scores(scores: pb.Matrix, *, documents: int) -> None:
    _check_matrix(scores, rows=1)
    if scores.dim != documents:
        raise MalformedMatrixError(f"expected scores of {documents} documents, got {scores.dim}")


def _row_bytes(matrix: pb.Matrix) -> int:
    if matrix.dtype == pb.DTYPE_BINARY:
        return -(-matrix.dim // 8)
    sizes = {pb.DTYPE_FLOAT32: 4, pb.DTYPE_FLOAT16: 2, pb.DTYPE_INT8: 1}
    if matrix.dtype not in sizes:
        raise MalformedMatrixError(f"a matrix of unknown dtype {matrix.dtype}")
    return matrix.dim * sizes[matrix.dtype]


def _compare(wanted: Float32s, got: Float32s) -> None:
    if wanted.shape != got.shape:
        raise MalformedMatrixError(f"expected shape {wanted.shape}, got {got.shape}")
    worst = float(np.abs(wanted - got).max())
    # Written so that NaN is wrong, too.
    if not worst <= TOLERANCE:
        raise MalformedMatrixError(
            f"values differ by up to {worst:.3g} from those of the same texts sent alone"
        )


def _cosines(texts: Sequence[str], references: References) -> Float32s:
    query = references[texts[0]]  # (D,)
    documents = np.stack([references[text] for text in texts[1:]])  # (B - 1, D)
    norms = np.linalg.norm(query) * np.linalg.norm(documents, axis=1)
    return np.asarray([documents @ query / norms], dtype=np.float32)  # (1, B - 1)


def _right(usage: pb.Usage, timings: pb.Timings) -> Answer:
    return Answer(
        Outcome.OK,
        usage.total_tokens,
        ServerTimings(timings.tokenize_ns, timings.queue_ns, timings.infer_ns, timings.total_ns),
    )
