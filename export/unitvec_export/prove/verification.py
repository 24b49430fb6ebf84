"""The written artifact, run by the server's own code, against sentence-transformers."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import importlib.resources
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from unitvec_export.errors import InputError, ParityError
from unitvec_export.prove.batches import MAX_SHARED_TOKENS, make_batches
from unitvec_server.model.artifact import Artifact, load_artifact, verify_file, verify_graph
from unitvec_server.model.canary import CANARY_TEXTS, embed_canary
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import FUSED, Parity
from unitvec_server.model.tokenizer import Encoding, Tokenizer, mark_unpooled, open_tokenizer

if TYPE_CHECKING:  # a machine that only serves verifies, too, and has no onnx
    from unitvec_export.prove.model import Model, Vectors
    from unitvec_export.prove.reference import Reference

# The fp32 graph runs the same arithmetic in another order: measured models reach 0.9999999.
MIN_FP32_COSINE = 0.99999
_MIN_BF16_COSINE = 0.9999
# Cosine is blind to a wrong length, which matters where the model does not normalize.
MAX_FP32_RELATIVE_DIFF = 1e-3

# Every named prompt is tried on each so many-th text.
_PROMPT_STRIDE = 16
# Models that read more are compared up to here, else it would take many minutes.
_MAX_FULL_TOKENS = 8192
# Rounding alone leaves 0.999999 between a text alone and in a batch.
_MIN_PADDING_COSINE = 0.9999
# Of so many lengths, texts are encoded alone and in one batch.
_PADDED_TEXTS = 8
# Below this length a vector has no direction worth comparing.
_TINY_NORM = 1e-9


@dataclasses.dataclass(frozen=True)
class Group:
    """Texts encoded with one prompt.

    Attributes:
        texts: The texts.
        prompt_name: Name of the prompt asked for; None means the model's default.
        prompt: Its text.
        unpooled_tokens: Number of its tokens, where pooling leaves them out.
    """

    texts: Sequence[str]
    prompt_name: str | None
    prompt: str
    unpooled_tokens: int = 0


class Measured(NamedTuple):
    """What a graph computes.

    Attributes:
        parity: How near it comes to the model.
        canary: (n, D) float32: its vectors of `CANARY_TEXTS`.
    """

    parity: Parity
    canary: npt.NDArray[np.float32]


class Prompted(Protocol):
    """What the sample of a model depends on."""

    @property
    def max_seq_length(self) -> int:
        """Its longest text in tokens."""

    @property
    def prompts(self) -> Mapping[str, str]:
        """Its prompts by name."""

    @property
    def default_prompt(self) -> str:
        """Text put before each text when no prompt is named; may be empty."""

    @property
    def default_prompt_name(self) -> str | None:
        """Its name, or None."""

    @property
    def unpooled_tokens(self) -> Mapping[str, int]:
        """Number of first tokens that pooling leaves out, by the name of the prompt."""

    @property
    def routes(self) -> Mapping[str, str]:
        """Folder of the artifact that embeds texts with a prompt; empty for the model itself."""


def load_sample() -> list[str]:
    """The bundled texts: 1 to over 256 tokens, neighbours of different lengths."""
    path = importlib.resources.files("unitvec_export.prove") / "sample.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [str(json.loads(line)["text"]) for line in lines]


class Verification:
    """Compares artifacts with one reference model on one sample.

    Args:
        reference: What encodes as the model does.
        groups: The sample, such as `make_groups` makes of `load_sample()`.
        tokens: The model whose token ids an fp32 graph has to get; None leaves them to the vectors.
    """

    def __init__(
        self, reference: Vectors, groups: Sequence[Group], *, tokens: Model | None = None
    ) -> None:
        self._reference = reference
        self._groups = groups
        self._tokens = tokens

    @cached_property
    def expected(self) -> npt.NDArray[np.float32]:
        """(n, D) float32: the reference's vectors of all groups, one after the other."""
        return np.concatenate(
            [
                self._reference.encode(group.texts, prompt_name=group.prompt_name)
                for group in self._groups
            ]
        )

    def check_token_ids(self, artifact: Artifact, model: Model) -> None:
        """Compares every text's token ids, truncation included.

        Raises:
            ParityError: One differs.
        """
        tokenizer = open_tokenizer(artifact)
        overlong = " ".join(self._groups[0].texts)[: 16 * artifact.manifest.max_seq_length]
        special = [f"a {token} b{token}c" for token in model.special_tokens]
        for group in self._groups:
            texts = [*group.texts, overlong, *special]
            expected = model.token_ids(texts, prompt=group.prompt)
            encodings = tokenizer.encode(texts, prompt=group.prompt)
            for text, encoding, ids in zip(texts, encodings, expected, strict=True):
                if encoding.input_ids.tolist() != ids:
                    raise ParityError(
                        f"tokenizer.json splits a text unlike the model: {text[:60]!r}"
                    )

    def measure(self, folder: Path, precision: str) -> Measured:
        """Encodes the sample with the artifact in `folder` and compares; the canary as well.

        Raises:
            ArtifactError: The server's code refuses the artifact.
            ParityError: The vectors are not finite, or not the model's at fp32, int16 or bf16.
        """
        artifact = load_artifact(folder)
        verify_file(artifact, artifact.manifest.tokenizer)
        verify_graph(artifact, precision)
        if precision == "fp32" and self._tokens is not None:
            self.check_token_ids(artifact, self._tokens)
        encoder, tokenizer = _open_encoder(artifact, precision), open_tokenizer(artifact)
        parity = compare(self._encode(tokenizer, encoder), self.expected)
        if precision == "fp32":
            check_fp32(parity, float(np.abs(self.expected).max()))
        if precision in ("int16", "bf16"):
            check_cosine(parity, precision)
        return Measured(parity, embed_canary(tokenizer, encoder, CANARY_TEXTS))

    def _encode(self, tokenizer: Tokenizer, encoder: Encoder) -> npt.NDArray[np.float32]:
        rows = [
            encoding.input_ids
            for group in self._groups
            for encoding in _encode_group(tokenizer, group)
        ]
        batches = make_batches([len(row) for row in rows])
        vectors = np.empty((len(rows), encoder.dim), np.float32)

        def encode(batch: Sequence[int]) -> None:
            vectors[batch] = encoder.encode([rows[index] for index in batch])

        # Runs are single-threaded; the server, too, has several of them side by side.
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(encode, batches))
        return vectors


def _open_encoder(artifact: Artifact, precision: str) -> Encoder:
    operators = find_kernels().library if precision in FUSED else None
    options = EncoderOptions(pad_token_id=artifact.manifest.pad_token_id, operators=operators)
    return Encoder(artifact.graph_path(precision), options)


def check_padding(reference: Reference, texts: Sequence[str]) -> None:
    """Makes sure that the model gives a text the same vector in any company.

    Raises:
        InputError: It does not, so no server that batches can reproduce it.
    """
    by_length = sorted(texts, key=len)
    step = max(1, len(texts) // _PADDED_TEXTS)
    some = [*by_length[1 : len(texts) : step], by_length[-1]]
    alone = reference.encode(some, batch_size=1)
    parity = compare(reference.encode(some, batch_size=len(some)), alone)
    if parity.cosine_min < _MIN_PADDING_COSINE:
        raise InputError(
            "the model's vectors depend on padding: in a batch, a text has only cosine "
            f"{parity.cosine_min:.4f} to the same text alone; not supported"
        )


def compare(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> Parity:
    """Compares vectors row by row.

    A pair of vectors that are both of length 0, give or take rounding, counts as cosine 1.

    Args:
        actual: (n, D) float32.
        expected: (n, D) float32.

    Raises:
        ParityError: `actual` has another shape or is not finite.
    """
    if actual.shape != expected.shape:
        raise ParityError(f"the vectors have shape {actual.shape}, the model's {expected.shape}")
    if not np.isfinite(actual).all():
        raise ParityError("the graph gives vectors that are not finite")
    ours, theirs = actual.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)  # (n,), (n,)
    dots = np.einsum("nd,nd->n", ours, theirs)
    cosines = dots / np.maximum(norms[0] * norms[1], _TINY_NORM**2)
    cosines[(norms[0] < _TINY_NORM) & (norms[1] < _TINY_NORM)] = 1.0
    return Parity(
        texts=len(actual),
        # Rounding can lift a cosine over 1.
        cosine_mean=float(np.minimum(cosines, 1.0).mean()),
        cosine_min=float(min(cosines.min(), 1.0)),
        max_abs_diff=float(np.abs(ours - theirs).max()),
    )


def check_cosine(parity: Parity, precision: str) -> None:
    """Applies the bound that a precision has to hold.

    Raises:
        ParityError: It does not.
    """
    needed = _MIN_BF16_COSINE if precision == "bf16" else MIN_FP32_COSINE
    if parity.cosine_min < needed:
        raise ParityError(
            f"{precision} reaches only cosine {parity.cosine_min:.7f} to sentence-transformers, "
            f"{needed} is needed"
        )


def check_fp32(parity: Parity, scale: float) -> None:
    """Applies the bounds that an fp32 graph has to hold.

    Args:
        parity: What was measured.
        scale: Largest absolute component of the expected vectors.

    Raises:
        ParityError: It does not.
    """
    check_cosine(parity, "fp32")
    if parity.max_abs_diff > MAX_FP32_RELATIVE_DIFF * scale:
        raise ParityError(
            f"fp32 differs by {parity.max_abs_diff:.2g} from sentence-transformers, whose "
            f"largest component is {scale:.2g}: at most {MAX_FP32_RELATIVE_DIFF} of it is allowed"
        )


def _encode_group(tokenizer: Tokenizer, group: Group) -> list[Encoding]:
    encodings = tokenizer.encode(group.texts, prompt=group.prompt)
    return mark_unpooled(encodings, group.unpooled_tokens) if group.unpooled_tokens else encodings


def make_groups(facts: Prompted, texts: Sequence[str]) -> list[Group]:
    """The sample of a model: texts, one as long as it reads, and some with each of its prompts."""
    return list(_make_groups(facts, texts))


def hash_texts(groups: Sequence[Group]) -> str:
    """Hex sha256 of all texts with their prompts."""
    content = [[group.prompt_name, group.prompt, list(group.texts)] for group in groups]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _make_groups(facts: Prompted, texts: Sequence[str]) -> Iterator[Group]:
    full = _full_text(facts.max_seq_length, " ".join(texts))
    is_long = facts.max_seq_length > MAX_SHARED_TOKENS
    default = facts.default_prompt, facts.unpooled_tokens.get(facts.default_prompt_name or "", 0)
    yield Group([*texts, *([] if is_long else [full])], None, *default)
    own = {name: text for name, text in facts.prompts.items() if not facts.routes.get(name)}
    for name, prompt in own.items():
        some = texts[::_PROMPT_STRIDE]
        yield Group(some, name, prompt, facts.unpooled_tokens.get(name, 0))
    if is_long:  # alone: others would be padded to its length
        yield Group([full], None, *default)


def _full_text(max_tokens: int, text: str) -> str:
    """A text as long as a model reads, up to `_MAX_FULL_TOKENS`."""
    length = 16 * max_tokens if max_tokens <= _MAX_FULL_TOKENS else 4 * _MAX_FULL_TOKENS
    return (f"{text} " * (length // len(text)) + text)[:length]
