"""`unitvec search --vectors`: the best rows of a file of vectors for each query."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from unitvec_client.cli.flags import EXIT_OK, keywords_of
from unitvec_client.cli.output import (
    clip,
    format_table,
    open_output,
    write_csv,
    write_records,
    write_text,
)
from unitvec_client.client import Client
from unitvec_client.console.terminal import waiting_for, working
from unitvec_client.errors import InputError, UnitvecError
from unitvec_client.results import StoredHit

_Found = Iterable[tuple[str, list[StoredHit]]]


def search_stored(client: Client, args: argparse.Namespace, queries: list[str]) -> int:
    """Write the hits of each query.

    Raises:
        InputError: If a flag is for documents alone.
        UnitvecError: If the search fails.
    """
    if args.document_prompt_name is not None:
        raise InputError("--document-prompt-name is for --documents: vectors are made already")
    names = ("model", "metric", "truncate", "dimensions", "top_k", "timeout_s")
    keywords = keywords_of(args, *names, "query_prompt_name", "group_by")
    with open_output(args.output) as file:
        with working(waiting_for(f"searching {args.vectors}"), sys.stderr), _reading(args.vectors):
            found = client.search(queries, vectors=args.vectors, **keywords)
        pairs = zip(queries, found, strict=True)
        if args.format in ("jsonl", "json"):
            write_records(file, args.format, _records(pairs))
        elif args.format == "csv":
            write_csv(file, ("score", "query", "index", "line", "text"), _cells(pairs))
        else:
            write_text(file, _table(pairs, widths=(32, 60) if args.on_terminal else (None, None)))
    return EXIT_OK


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Name the file of vectors in an error of the system, which is not one of the output."""
    try:
        yield
    except UnitvecError:  # A deadline that passed is an OSError, too.
        raise
    except OSError as exc:
        raise InputError(f"cannot read {path}: {exc.strerror or exc}") from exc


def _records(found: _Found) -> Iterator[dict[str, Any]]:
    for query, hits in found:
        yield {
            "query": query,
            "hits": [
                {**hit.fields, "index": hit.index, "score": hit.score, "text": hit.text}
                for hit in hits
            ],
        }


def _cells(found: _Found) -> Iterator[tuple[float, str, int, Any, str]]:
    for query, hits in found:
        for hit in hits:
            yield hit.score, query, hit.index, hit.fields.get("line", ""), hit.text or ""


def _table(found: _Found, widths: tuple[int | None, int | None]) -> str:
    rows = [
        (f"{score:.4f}", clip(query, widths[0]), str(index), str(line), clip(text, widths[1]))
        for score, query, index, line, text in _cells(found)
    ]
    return format_table(("score", "query", "index", "line", "text"), rows)
