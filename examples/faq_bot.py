"""A FAQ bot: answers questions about unitvec, or says that it does not know.

It compares the question with all questions that it knows, each in a few phrasings, and gives the
answer that belongs to the closest one, if that is close enough. Nothing is generated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arguments import parser
from unitvec_client import Client

FAQ = Path(__file__).parent / "data" / "faq.jsonl"
THRESHOLD = 0.45
"""Cosine below which the bot does not know.

Of the questions in tests/examples/test_faq_bot.py, none of which is in the data, all that are
about something else stay below it, and most of those about unitvec do not.
"""
SURE = 0.6
"""Cosine from which it says that it is sure. That is no probability: it can be sure and wrong,
where a question and its opposite, such as "from Python" and "other than Python", use one word."""


@dataclass(frozen=True)
class Entry:
    """A question and its answer.

    Attributes:
        question: As it is shown.
        also: Other ways to ask it.
        answer: What to say.
        source: Where that is from: a document and its section.
    """

    question: str
    also: tuple[str, ...]
    answer: str
    source: str


@dataclass(frozen=True)
class Reply:
    """What the bot makes of a question.

    Attributes:
        closest: The entry that is closest to it.
        score: Their cosine.
        next_closest: The entry after that.
        next_score: Its cosine.
        known: Whether the score reaches the threshold.
    """

    closest: Entry
    score: float
    next_closest: Entry
    next_score: float
    known: bool


def load_entries(path: Path = FAQ) -> list[Entry]:
    """Returns the entries of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Entry(**{**row, "also": tuple(row["also"])}) for row in rows]


class FaqBot:
    """Knows the vectors of all phrasings of all questions.

    Args:
        client: To embed with.
        entries: At least two.
        threshold: Cosine below which it does not know.
    """

    def __init__(
        self, client: Client, entries: Sequence[Entry], *, threshold: float = THRESHOLD
    ) -> None:
        self._client = client
        self._entries = entries
        self._threshold = threshold
        phrasings = [(entry.question, *entry.also) for entry in entries]
        self._starts = np.cumsum([0, *map(len, phrasings[:-1])])
        self._vectors = client.embed([text for texts in phrasings for text in texts])

    def ask(self, question: str) -> Reply:
        """Returns the closest entries; each is as close as the closest of its phrasings."""
        cosines = self._vectors @ self._client.embed(question)
        scores = np.maximum.reduceat(cosines, self._starts)
        best, second = np.argsort(-scores)[:2]
        return Reply(
            self._entries[best],
            float(scores[best]),
            self._entries[second],
            float(scores[second]),
            known=bool(scores[best] >= self._threshold),
        )


def describe(reply: Reply) -> str:
    """Returns the reply as text: the answer, how sure it is and why, or that there is none."""
    if not reply.known:
        return f"I do not know. Closest ({reply.score:.2f}): {reply.closest.question}"
    sure = "sure" if reply.score >= SURE else "not sure"
    return (
        f"{reply.closest.answer}\n"
        f"  [{sure}, {reply.score:.2f}: {reply.closest.question} -> {reply.closest.source}]\n"
        f"  [or, {reply.next_score:.2f}: {reply.next_closest.question}]"
    )


def typed_questions() -> Iterable[str]:
    """Yields what is typed, line by line, until the input ends; prompts on a terminal only."""
    interactive = sys.stdin.isatty()
    if interactive:
        print("Ask about unitvec. Control-D ends.")
    while True:
        if interactive:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Answers the given questions, or else those typed."""
    flags = parser(__doc__)
    flags.add_argument("--ask", action="append", metavar="QUESTION", help="again for more")
    flags.add_argument("--threshold", type=float, default=THRESHOLD, help="cosine of an answer")
    args = flags.parse_args(argv)
    with Client(args.target) as client:
        bot = FaqBot(client, load_entries(), threshold=args.threshold)
        for question in args.ask or typed_questions():
            print(f"Q: {question}\n{describe(bot.ask(question))}\n", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
