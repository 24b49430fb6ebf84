"""First vectors: their shape, values, norms and tokens, and the bytes they take.

    python examples/first_vectors.py --target localhost:50051

A few sentences show what one vector looks like. A thousand glosses of WordNet show how values
spread (a histogram, in `--output`) and what is lost where vectors travel as float16, int8 or bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from arguments import at_least, output_file, parser
from corpora import load_glosses
from unitvec_client import Client, EmbedResult

SENTENCES = (
    "A cat sleeps on the mat.",
    "A kitten is napping on a rug.",
    "The central bank raised interest rates.",
    "¿Dónde está la biblioteca?",
    "",
)
FIRST = 6
"""Values printed of each vector."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Size:
    """What vectors of one number type take, and how true they are.

    Attributes:
        bytes_per_vector: As received, the scale of an int8 vector included.
        cosines: float32 (n,): of each vector to the float32 vector of the same text.
    """

    bytes_per_vector: float
    cosines: Floats


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what vectors are, and draws how their values spread."""
    flags = parser(__doc__)
    flags.add_argument("--count", type=at_least(1), default=1000, help="glosses to embed")
    arguments = flags.parse_args(argv)
    glosses = [gloss.text for gloss in load_glosses(arguments.count)]
    with Client(arguments.target) as client:
        print_sentences(client.embed_result(SENTENCES))
        exact = client.embed_result(glosses)
        print_spread(exact.vectors)
        print_sizes(measure_sizes(client, glosses, exact=exact))
        print_truncation(client, " ".join(glosses[:100]))
    path = output_file(arguments.output, "first_vectors.png")
    draw_spread(exact.vectors, path)
    print(f"\nHistogram: {path}")
    return 0


def measure_sizes(client: Client, texts: Sequence[str], *, exact: EmbedResult) -> dict[str, Size]:
    """Returns what vectors take in each number type that the server sends.

    Args:
        client: Connected.
        texts: What to embed.
        exact: Their float32 vectors.
    """
    results = {
        "float32": exact,
        "float16": client.embed_result(texts, dtype="float16"),
        "int8": client.embed_result(texts, dtype="int8"),
        "binary": client.embed_result(texts, dtype="binary"),
    }
    return {
        name: Size(
            count_bytes(result) / len(texts),
            row_cosines(exact.vectors, as_numbers(result, dim=exact.vectors.shape[1])),
        )
        for name, result in results.items()
    }


def count_bytes(result: EmbedResult) -> int:
    """Returns the bytes of all vectors of a result, and of their scales where it has any."""
    scales = result.scales
    return int(result.vectors.nbytes) + (0 if scales is None else scales.nbytes)


def as_numbers(result: EmbedResult, *, dim: int) -> Floats:
    """Returns the vectors as float32 (n, dim); sign bits become -1 and 1."""
    if result.vectors.dtype == np.uint8:
        bits = np.unpackbits(result.vectors, axis=1, count=dim)
        return bits.astype(np.float32) * 2 - 1
    return result.values().astype(np.float32)


def row_cosines(a: Floats, b: Floats) -> Floats:
    """Returns the cosine of each row of `a` (n, D) to the same row of `b`: (n,)."""
    products = np.einsum("nd,nd->n", a, b)
    cosines: Floats = products / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return cosines


def constant_dimensions(vectors: Floats) -> NDArray[np.intp]:
    """Returns the columns of vectors (n, D) that are the same in all of them, within 1e-6."""
    return np.flatnonzero(np.ptp(vectors, axis=0) < 1e-6)


def print_sentences(result: EmbedResult) -> None:
    """Prints the vectors of `SENTENCES`: one line each."""
    vectors = result.vectors
    print(f"{len(vectors)} texts -> {vectors.dtype} {vectors.shape}, model {result.model}\n")
    print(f"{f'first {FIRST} of {vectors.shape[1]} values':<50}{'norm':>8}{'tokens':>8}  text")
    norms = np.linalg.norm(vectors, axis=1)
    for text, vector, norm, tokens in zip(SENTENCES, vectors, norms, result.tokens, strict=True):
        values = " ".join(f"{value:+.4f}" for value in vector[:FIRST])
        print(f"{values:<50}{norm:>8.5f}{tokens:>8}  {text!r}")
    print("\nEvery vector has length 1, even that of the empty text, which is two special tokens.")


def print_spread(vectors: Floats) -> None:
    """Prints how the values of vectors (n, D) spread."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    dim = vectors.shape[1]
    print(f"\nAll {vectors.size:,} values of {len(vectors):,} glosses")
    print(f"  mean                {vectors.mean():+.5f}")
    print(f"  standard deviation  {vectors.std():.5f}   (1 / sqrt({dim}) = {dim**-0.5:.5f})")
    print(f"  lowest, highest     {vectors.min():+.3f}, {vectors.max():+.3f}")
    print(f"  norms               1 within {np.abs(norms - 1).max():.0e}")
    still = constant_dimensions(vectors).tolist()
    print(f"  dimensions that say nothing, the same for all texts: {still or 'none'}")


def print_sizes(sizes: dict[str, Size]) -> None:
    """Prints a line for each number type."""
    print("\nType on the wire   bytes a vector   a million   cosine to float32: mean, lowest")
    for name, size in sizes.items():
        line = f"{name:<19}{size.bytes_per_vector:>14.0f}{size.bytes_per_vector:>9,.0f} MB"
        print(f"{line}   {size.cosines.mean():.5f}, {size.cosines.min():.5f}")
    print("int8 is 1 byte a value and a 4-byte scale. Bits keep only the signs: enough to find")
    print("candidates among millions, which float32 or int8 then puts in order.")


def print_truncation(client: Client, text: str) -> None:
    """Prints how much of a long text the model reads."""
    whole = client.tokenize(text)
    print(f"\nA text of {len(text):,} characters is {len(whole.ids):,} tokens.")
    if not whole.truncated:
        print("The model reads them all.")
        return
    vectors = client.embed([text, f"{text} And now for something completely different."])
    change = np.abs(vectors[0] - vectors[1]).max()
    print(f"The model reads {whole.kept_tokens} of them, up to character {whole.kept_end:,}.")
    print(f"With another sentence at its end its vector changes by {change:.6f}: it is not read.")
    print("embed_result().truncated tells which texts were cut; truncate='error' refuses them.")


def draw_spread(vectors: Floats, path: Path) -> None:
    """Draws a histogram of the values, and the normal distribution that has their width."""
    dim = vectors.shape[1]
    width = dim**-0.5
    edges = np.linspace(-4.5 * width, 4.5 * width, 91)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes: Any = figure.subplots()
    axes.hist(vectors.ravel(), edges, density=True, color="#9db8e8", label="values of all vectors")
    normal = np.exp(-((edges / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    axes.plot(edges, normal, color="#1f2933", label=f"normal, deviation 1 / √{dim}")
    axes.set_xlabel("value (no unit)")
    axes.set_ylabel("probability density (per unit of value)")
    axes.set_title(f"{vectors.size:,} values of {len(vectors):,} vectors of length 1")
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
