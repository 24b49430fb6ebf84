"""Vector databases: Chroma and Qdrant on disk, filtered search, and the prompt of a RAG.

Both are fed with the same vectors, closed, opened again from disk and asked the same question,
with a filter by category. What they find then goes into the prompt that one would give to a
language model, with numbered passages and their sources. No model is called here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arguments import at_least, output_file, parser
from corpora import Gloss, load_glosses
from unitvec_client import Client
from vector_stores import Chroma, Found, Qdrant, Store, passage
from waiting import waiting

STORES: dict[str, type[Store]] = {"Chroma": Chroma, "Qdrant": Qdrant}


@dataclass(frozen=True)
class Visit:
    """What one database found once it was opened again, and what all of it took.

    Attributes:
        everywhere: The closest passages of all categories.
        filtered: Those of the category asked for.
        fill_s: Time to write all documents, in seconds.
        open_s: Time to open it again, in seconds.
        find_ms: Time of the filtered search, in milliseconds.
    """

    everywhere: list[Found]
    filtered: list[Found]
    fill_s: float
    open_s: float
    find_ms: float


@dataclass(frozen=True)
class Question:
    """What to look for.

    Attributes:
        vector: Of the question, (D,).
        category: Of the passages.
        top_k: How many passages at most.
    """

    vector: NDArray[np.float32]
    category: str
    top_k: int


def visit(
    kind: type[Store],
    folder: Path,
    *,
    glosses: Sequence[Gloss],
    vectors: NDArray[np.float32],
    question: Question,
) -> Visit:
    """Fills a database, closes it, opens it again from disk and asks it.

    Args:
        kind: Of the database.
        folder: Where it keeps its files.
        glosses: The documents.
        vectors: Theirs, (n, D).
        question: What to look for.
    """
    start = time.perf_counter()
    with closing(kind(folder)) as store:
        store.fill(glosses, vectors)
    filled = time.perf_counter()
    with closing(kind(folder)) as store:
        opened = time.perf_counter()
        everywhere = store.find(question.vector, top_k=question.top_k)
        asked = time.perf_counter()
        filtered = store.find(question.vector, top_k=question.top_k, category=question.category)
        answered = time.perf_counter()
    return Visit(everywhere, filtered, filled - start, opened - filled, (answered - asked) * 1e3)


def closest(
    glosses: Sequence[Gloss], vectors: NDArray[np.float32], *, question: Question
) -> list[str]:
    """Returns the ids that an exact search of the category finds, with numpy."""
    cosines = vectors @ question.vector
    rows = [row for row in np.argsort(-cosines) if glosses[row].category == question.category]
    return [glosses[row].id for row in rows[: question.top_k]]


def build_prompt(question: str, passages: Sequence[Found]) -> str:
    """Returns what to give to a language model: rules, numbered passages, the question."""
    numbered = "\n".join(f"[{number}] {found.text}" for number, found in enumerate(passages, 1))
    return (
        "Answer the question from the passages alone, and name those you used, as in [1].\n"
        "If they do not answer it, say so.\n\n"
        f"Passages:\n{numbered}\n\nQuestion: {question}\nAnswer:"
    )


def sources(passages: Sequence[Found]) -> str:
    """Returns where the numbered passages are from, for the reader of the answer."""
    lines = (
        f"[{number}] WordNet 3.0, synset {found.id}, {found.category}, cosine {found.score:.3f}"
        for number, found in enumerate(passages, 1)
    )
    return "\n".join(lines)


def print_visits(visits: dict[str, Visit], exact: Sequence[str]) -> None:
    """Prints times, and how many of the exact ids each database found."""
    print(f"\n{'database':<10}{'fill s':>8}{'reopen s':>10}{'query ms':>10}{'of the exact':>14}")
    for name, seen in visits.items():
        right = len({found.id for found in seen.filtered} & set(exact))
        times = f"{seen.fill_s:>8.2f}{seen.open_s:>10.2f}{seen.find_ms:>10.1f}"
        print(f"{name:<10}{times}{f'{right} of {len(exact)}':>14}")


def print_found(title: str, passages: Sequence[Found]) -> None:
    """Prints passages with their cosines."""
    print(f"\n{title}")
    for found in passages:
        print(f"  {found.score:.3f}  {found.category:<10} {found.text:.80}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example."""
    flags = parser(__doc__)
    flags.add_argument("--count", type=at_least(5), default=10_000, help="documents")
    flags.add_argument("--top-k", type=at_least(1), default=4, help="passages in the prompt")
    flags.add_argument("--question", default="Which illness do mosquitoes carry?", help="to ask")
    flags.add_argument("--category", default="state", help="of the documents to search")
    args = flags.parse_args(argv)
    glosses = load_glosses(args.count)
    print(f"{len(glosses):,} documents of {len({g.category for g in glosses})} categories")
    with Client(args.target, timeout_s=None) as client, waiting("embedding"):
        vectors = client.embed([passage(gloss) for gloss in glosses])
        question = Question(client.embed(args.question), args.category, args.top_k)
    visits = {}
    for name, kind in STORES.items():
        folder = output_file(args.output, name.lower())
        print(f"filling {name} in {folder} ...", flush=True)
        visits[name] = visit(kind, folder, glosses=glosses, vectors=vectors, question=question)
    print_visits(visits, closest(glosses, vectors, question=question))

    asked = visits["Qdrant"]
    print_found(f"{args.question} In all categories:", asked.everywhere)
    print_found(f"In the category {args.category}:", asked.filtered)
    rule = "-" * 80
    print(f"\nThe prompt for a language model; none is called here:\n{rule}")
    print(f"{build_prompt(args.question, asked.filtered)}\n{rule}")
    print(f"Sources:\n{sources(asked.filtered)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
