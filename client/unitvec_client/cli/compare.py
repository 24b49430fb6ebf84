"""`unitvec similarity` and `unitvec search`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from unitvec_client.cli.flags import EXIT_OK, EXIT_SOME_FAILED, keywords_of
from unitvec_client.cli.output import (
    clip,
    format_table,
    open_output,
    save_npy,
    write_csv,
    write_records,
    write_text,
)
from unitvec_client.cli.progress import Progress
from unitvec_client.cli.stored import search_stored
from unitvec_client.client import Client
from unitvec_client.console.records import Line
from unitvec_client.console.terminal import StatusLine, waiting_for, working
from unitvec_client.console.texts import TextSource
from unitvec_client.errors import InputError
from unitvec_client.results import Hit, Rankings


def similarity(client: Client, args: argparse.Namespace) -> int:
    """`unitvec similarity`: the first text against the others, or file against file."""
    if args.format == "npy" and args.top_k is not None:
        raise InputError("--format npy holds all scores; leave --top-k out")
    a, b = _sides(args)
    keywords = keywords_of(args, "model", "metric", "prompt_name", "truncate", "dimensions")
    choice: Any = {"top_k": args.top_k, "pairs": args.pairs, "timeout_s": args.timeout_s}
    with open_output(args.output) as file:
        with working(waiting_for(f"comparing {len(a):,} with {len(b):,} texts"), sys.stderr):
            result: Any = client.similarity(a, b, **choice, **keywords)
        _write_scores(file, args, (a, b), result)
    return EXIT_OK


def _sides(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    texts = list(args.texts)
    if args.a is None and args.b is None:
        if len(texts) < 2:
            raise InputError("give at least two texts, or --a FILE and --b FILE")
        return texts[:1], texts[1:]
    if args.a is None or args.b is None or texts:
        raise InputError("give texts, or both --a FILE and --b FILE")
    if args.a == args.b == "-":
        raise InputError("only one of --a and --b can be standard input")
    return _file_source(args, args.a).texts(), _file_source(args, args.b).texts()


def _file_source(args: argparse.Namespace, path: str | None) -> TextSource:
    return TextSource(path=path, field=args.field, input_format=args.input_format)


_Sides = tuple[list[str], list[str]]
_Triple = tuple[float, str, str]


def _write_scores(file: IO[bytes], args: argparse.Namespace, sides: _Sides, result: Any) -> None:
    kind = args.format
    if kind == "npy":
        save_npy(file, result)
    elif kind == "table":
        write_text(file, _scores_table(_triples(sides, result), _widths(args)))
    elif kind == "csv":
        write_csv(file, ("score", "a", "b"), _triples(sides, result))
    else:
        write_records(file, kind, _score_records(sides, result))


def _score_records(sides: _Sides, result: Any) -> Iterator[dict[str, Any]]:
    a, b = sides
    if isinstance(result, Rankings):
        for text, indices, scores in zip(a, *result, strict=True):
            yield {"a": text, "hits": _hits(indices.tolist(), scores.tolist(), b)}
    elif result.ndim == 1:
        for left, right, score in zip(a, b, result.tolist(), strict=True):
            yield {"a": left, "b": right, "score": score}
    else:
        for text, scores in zip(a, result.tolist(), strict=True):
            yield {"a": text, "scores": scores}


def _triples(sides: _Sides, result: Any) -> Iterator[_Triple]:
    """Yield (score, a, b) for each pair that was compared."""
    a, b = sides
    if isinstance(result, Rankings):
        for left, indices, scores in zip(a, *result, strict=True):
            for i, score in zip(indices.tolist(), scores.tolist(), strict=True):
                yield score, left, b[i]
    elif result.ndim == 1:
        yield from zip(result.tolist(), a, b, strict=True)
    else:
        for left, scores in zip(a, result.tolist(), strict=True):
            for right, score in zip(b, scores, strict=True):
                yield score, left, right


_Widths = tuple[int | None, int | None]


def _widths(args: argparse.Namespace) -> _Widths:
    """Return how wide the two texts of a row may be: they are cut on a terminal alone."""
    return (32, 60) if args.on_terminal else (None, None)


def _scores_table(triples: Iterable[_Triple], widths: _Widths) -> str:
    rows = [
        (f"{score:.4f}", clip(left, widths[0]), clip(right, widths[1]))
        for score, left, right in triples
    ]
    return format_table(("score", "a", "b"), rows)


def _hits(indices: list[int], scores: list[float], texts: list[str]) -> list[dict[str, Any]]:
    pairs = zip(indices, scores, strict=True)
    return [{"index": i, "score": score, "text": texts[i]} for i, score in pairs]


def search(client: Client, args: argparse.Namespace) -> int:
    """`unitvec search`: the best documents of a file for each query."""
    if (args.documents is None) == (args.vectors is None):
        raise InputError("give either --documents FILE or --vectors FILE")
    if args.queries == "-" and args.documents == "-":
        raise InputError("only one of --queries and --documents can be standard input")
    queries = [*args.texts, *_file_source(args, args.queries).texts()]
    if not queries:
        raise InputError("give a query, or --queries FILE")
    if args.vectors is not None:
        return search_stored(client, args, queries)
    if args.group_by is not None:
        raise InputError("--group-by is for --vectors")
    source = _file_source(args, args.documents)
    lines, total = source.lines(), source.count() if sys.stderr.isatty() else None
    names = ("model", "metric", "truncate", "dimensions", "top_k", "timeout_s")
    prompts = ("query_prompt_name", "document_prompt_name")
    keywords = keywords_of(args, *names, *prompts)
    documents = _Documents(lines, total)
    with open_output(args.output) as file:
        with working(documents.forms, sys.stderr) as documents.status:
            found = client.search(queries, documents, **keywords)
        _write_found(file, args, zip(queries, found, strict=True), documents.numbers)
    return EXIT_SOME_FAILED if documents.failed else EXIT_OK


class _Documents:
    """The texts that can be read; remembers their line numbers, reports the others."""

    def __init__(self, lines: Iterator[Line], total: int | None) -> None:
        self._lines = lines
        self._progress = Progress(total, noun="documents")
        self._all_read = False
        self.status: StatusLine | None = None
        self.numbers: list[int] = []
        self.failed = 0

    def forms(self, elapsed_s: float) -> Sequence[str]:
        """Say how far the search is, from long to short."""
        if self._all_read:
            return waiting_for(f"searching {len(self.numbers):,} documents")(elapsed_s)
        return self._progress.forms(elapsed_s)

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if line.text is None:
                self._report(line)
            else:
                self.numbers.append(line.number)
                self._progress.advance()
                yield line.text
        self._all_read = True

    def _report(self, line: Line) -> None:
        self.failed += 1
        if self.status is not None:
            self.status.say(f"unitvec: line {line.number}: {line.problem}")


_Found = Iterable[tuple[str, list[Hit]]]


def _write_found(
    file: IO[bytes], args: argparse.Namespace, found: _Found, numbers: list[int]
) -> None:
    if args.format in ("jsonl", "json"):
        write_records(file, args.format, _hit_records(found, numbers))
        return
    head = ("score", "query", "line", "document")
    rows = [
        (hit.score, query, numbers[hit.index], hit.text or "")
        for query, hits in found
        for hit in hits
    ]
    if args.format == "csv":
        write_csv(file, head, rows)
        return
    left, right = _widths(args)
    cells = [
        (f"{score:.4f}", clip(query, left), str(line), clip(text, right))
        for score, query, line, text in rows
    ]
    write_text(file, format_table(head, cells))


def _hit_records(found: _Found, numbers: list[int]) -> Iterator[dict[str, Any]]:
    for query, hits in found:
        yield {"query": query, "hits": [_hit_record(hit, numbers) for hit in hits]}


def _hit_record(hit: Hit, numbers: list[int]) -> dict[str, Any]:
    return {
        "index": hit.index,
        "line": numbers[hit.index],
        "score": hit.score,
        "text": hit.text,
    }
