"""The canary of an artifact: a few texts, and what each graph made of them when it was exported.

A server embeds them again before it serves: a graph that was exchanged, a library that changed or a
CPU that computes wrongly shows itself before a caller is harmed. Vectors are as the graph returns
them, of texts without a prompt, so that prompts may be edited afterwards.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_server.errors import ArtifactError, SelfTestError
from unitvec_server.model.artifact import Artifact, verify_file
from unitvec_server.model.encoder import Encoder
from unitvec_server.model.tokenizer import Tokenizer

Floats = npt.NDArray[np.float32]

CANARY_TEXTS = (
    "cat",
    "The cat sat on the mat, and the dog lay beside it.",
    "Zürich, 北京 and Санкт-Петербург: 3 cities, 1,234.5 km apart",
    "def mean(values): return sum(values) / len(values)  # fails where there are none",
)
"""One word, a sentence, three scripts, and code, of at most about 40 tokens each."""

MIN_COSINES: Mapping[str, float] = {
    "fp32": 0.99999,
    "int16": 0.9999,
    "bf16": 0.9999,
    "fp16": 0.9999,
    "int8": 0.98,
    "int8-fused": 0.98,
}
"""What rounding may cost where bits may differ. A plain int8 graph is as near as 0.995 to 0.998 to
itself on a CPU without VNNI, where its sums saturate."""

_LITTLE_ENDIAN_FLOAT32 = "<f4"
_TINY_SQUARE = 1e-18
"""Squared length below which a vector is zero."""


@dataclasses.dataclass(frozen=True)
class Canary:
    """What a graph has to make of a few texts.

    Attributes:
        texts: n texts, which are embedded without a prompt.
        vectors: (n, D) float32, as the graph returned them at export.
        min_cosine: How near the vectors of today have to be.
        is_exact: Whether they have to be equal to the last bit.
    """

    texts: Sequence[str]
    vectors: Floats
    min_cosine: float
    is_exact: bool = False

    def check(self, found: Floats) -> None:
        """Holds vectors of today against those of the export.

        Args:
            found: (n, D) float32.

        Raises:
            SelfTestError: They differ.
        """
        cosines = closeness(found, self.vectors)
        worst = int(np.argmin(np.nan_to_num(cosines, nan=-np.inf)))
        if not cosines[worst] >= self.min_cosine:
            raise SelfTestError(
                f"the vector of {self.texts[worst]!r} has cosine {cosines[worst]:.6f} to that of "
                f"the export, {self.min_cosine} is needed"
            )
        if self.is_exact and not np.array_equal(found, self.vectors):
            raise SelfTestError(
                "last bits of vectors differ from those of the export, where they have to be equal"
            )


def closeness(found: Floats, expected: Floats) -> npt.NDArray[np.float64]:
    """The cosine of each pair of rows of like length; less where the lengths differ.

    Args:
        found: (n, D) float32.
        expected: (n, D) float32.

    Returns:
        (n,) float64: 1 - |f - e|^2 / (2 |e|^2), which is the cosine where |f| = |e|.
    """
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    squares = np.square(theirs).sum(axis=1).clip(min=_TINY_SQUARE)
    cosines: npt.NDArray[np.float64] = 1.0 - np.square(ours - theirs).sum(axis=1) / (2 * squares)
    return cosines


def embed_canary(tokenizer: Tokenizer, encoder: Encoder, texts: Sequence[str]) -> Floats:
    """Vectors (n, D) float32 of texts, as a graph returns them in one run."""
    return encoder.encode([encoding.input_ids for encoding in tokenizer.encode(texts)])


def write_canary(texts: Sequence[str], vectors: Mapping[str, Floats]) -> str:
    """The text of a canary's file.

    Args:
        texts: n texts.
        vectors: (n, D) float32 of each graph, by its name.
    """
    packed = {
        name: base64.b64encode(matrix.astype(_LITTLE_ENDIAN_FLOAT32).tobytes()).decode()
        for name, matrix in vectors.items()
    }
    return json.dumps({"texts": list(texts), "vectors": packed}, indent=2, ensure_ascii=False)


def read_canary(artifact: Artifact, graph: str, *, is_exact: bool) -> Canary | None:
    """The canary of one graph; None where the artifact is too old to have any.

    Args:
        artifact: The artifact.
        graph: Name of the graph.
        is_exact: Whether its vectors have to be equal to the last bit.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    file = artifact.manifest.canary
    if file is None:
        return None
    verify_file(artifact, file)
    path = artifact.folder / file.name
    try:
        texts, vectors = _parse(json.loads(path.read_text(encoding="utf-8")), graph)
        matrix = vectors.reshape(len(texts), artifact.manifest.dim)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
        raise ArtifactError(f"{path} is damaged: {exc!r}; export it again") from exc
    return Canary(texts, matrix, MIN_COSINES[graph], is_exact)


def fit_canary(canary: Canary, tokenizer: Tokenizer) -> Canary:
    """The canary without the texts that are cut, as `max_seq_length` may be edited afterwards."""
    encodings = tokenizer.encode(canary.texts)
    kept = [index for index, encoding in enumerate(encodings) if not encoding.truncated]
    texts = [canary.texts[index] for index in kept]
    return dataclasses.replace(canary, texts=texts, vectors=canary.vectors[kept])


def _parse(content: Any, graph: str) -> tuple[list[str], Floats]:
    """The texts, and the values of a graph's vectors (n * D,) float32."""
    texts = content["texts"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("texts has the wrong type")
    values = base64.b64decode(content["vectors"][graph], validate=True)
    return texts, np.frombuffer(values, _LITTLE_ENDIAN_FLOAT32).astype(np.float32)
