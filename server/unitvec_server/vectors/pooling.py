"""One vector for several parts of a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unitvec_server.vectors.packing import Floats, l2_normalize


def pool_windows(
    vectors: Floats, texts: Sequence[int], tokens: Sequence[int], *, normalize: bool
) -> Floats:
    """Joins the vectors of the windows of each text to their mean, weighted by tokens.

    Args:
        vectors: (r, D).
        texts: Text of each row; rows of one text are together.
        tokens: Number of tokens of each row.
        normalize: Scale each mean to unit L2 norm.

    Returns:
        (n, D), a row for each text. The row of a text of one window is that of the window, bit by
        bit.
    """
    if not len(vectors):
        return vectors
    starts = np.flatnonzero(np.diff(texts, prepend=-1))
    sizes = np.diff(starts, append=len(vectors))
    weights = np.array(tokens, np.float64)
    sums = np.add.reduceat(vectors * weights[:, np.newaxis], starts, axis=0)
    means: Floats = (sums / np.add.reduceat(weights, starts)[:, np.newaxis]).astype(np.float32)
    if normalize:
        means = l2_normalize(means)
    alone = sizes == 1
    means[alone] = vectors[starts[alone]]
    return means
