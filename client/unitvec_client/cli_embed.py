"""`unitvec embed`: one vector for each line, written as they come."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import IO, Any, TypeGuard

from numpy.typing import NDArray

from unitvec_client.cli_input import Feed, Line, TextSource
from unitvec_client.cli_options import EXIT_OK, EXIT_SOME_FAILED, keywords_of
from unitvec_client.cli_output import NpyWriter, open_output, write_json, write_text
from unitvec_client.cli_progress import Progress
from unitvec_client.client import Client
from unitvec_client.errors import RefusedError, UnitvecError
from unitvec_client.results import StreamItem

_VALUES_SHOWN = 4


def embed(client: Client, args: argparse.Namespace) -> int:
    """`unitvec embed`: one vector for each line."""
    source = text_source(args)
    keywords = keywords_of(args, "model", "prompt_name", "truncate", "dtype", "dimensions")
    with open_output(args.output) as file:
        writer = _EmbedWriter(file, args.format)
        feed = Feed(source.lines())
        total = _count_texts(source)
        with Progress(sys.stderr, total) as progress:
            items = client.embed_stream(
                feed.texts(), normalize=not args.no_normalize, timeout_s=args.timeout_s, **keywords
            )
            for item in items:
                writer.write_bad(feed, progress)
                writer.write(feed.take_good(), item, progress)
            writer.write_bad(feed, progress)
        if args.format == "npy":
            writer.npy.finish(client.embed([], **keywords))
    return EXIT_SOME_FAILED if writer.failed else EXIT_OK


class _EmbedWriter:
    """Writes vectors in one of the formats, errors to standard error."""

    def __init__(self, file: IO[bytes], kind: str) -> None:
        self._file = file
        self._kind = kind
        self._index = 0
        self._headed = False
        self.failed = 0
        if kind == "npy":
            self.npy = NpyWriter(file)

    def write_bad(self, feed: Feed, progress: Progress) -> None:
        for line in feed.take_bad():
            self._fail(line.number, line.problem, progress)

    def write(self, line: Line, item: StreamItem, progress: Progress) -> None:
        if item.error is not None or item.vector is None:
            if _refuses_all(item.error):
                raise item.error
            self._fail(line.number, str(item.error), progress)
            return
        if self._kind == "npy":
            self.npy.write(item.vector)
        elif self._kind == "jsonl":
            write_json(self._file, self._record(line, item, item.vector))
        else:
            if not self._headed:
                self._headed = True
                write_text(self._file, f"{'line':>8}  {'tokens':>6}  cut  vector")
            cut = "yes" if item.truncated else "-"
            shown = _shorten(item.vector)
            write_text(self._file, f"{line.number:>8}  {item.tokens:>6}  {cut:<3}  {shown}")
        self._index += 1
        progress.advance()

    def _record(self, line: Line, item: StreamItem, vector: NDArray[Any]) -> dict[str, Any]:
        return {
            "index": self._index,
            "line": line.number,
            "tokens": item.tokens,
            "truncated": item.truncated,
            "vector": vector.tolist(),
        }

    def _fail(self, number: int, problem: str, progress: Progress) -> None:
        progress.clear()
        print(f"unitvec: line {number}: {problem}", file=sys.stderr)
        if self._kind == "npy":
            self.npy.write(None)
        elif self._kind == "jsonl":
            record = {"index": self._index, "line": number, "error": problem}
            write_json(self._file, record)
        self.failed += 1
        self._index += 1
        progress.advance()


def _refuses_all(error: UnitvecError | None) -> TypeGuard[RefusedError]:
    """Return whether it is the flags that are refused, and so every line alike."""
    return isinstance(error, RefusedError) and "texts[" not in error.field


def text_source(args: argparse.Namespace) -> TextSource:
    """Return where the texts of a command come from; standard input if nothing is named."""
    path = args.input
    if path is None and not args.texts:
        path = "-"
    return TextSource(tuple(args.texts), path, args.field)


def _count_texts(source: TextSource) -> int | None:
    """Return the number of lines where that can be known before; None where it cannot."""
    if source.path is None:
        return len(source.arguments)
    path = Path(source.path)
    if source.path == "-" or not path.is_file() or not sys.stderr.isatty():
        return None
    with path.open("rb") as file:
        return len(source.arguments) + sum(1 for _ in file)


def _shorten(vector: NDArray[Any]) -> str:
    values = "  ".join(f"{value:+.4f}" for value in vector[:_VALUES_SHOWN].tolist())
    more = "  …" if len(vector) > _VALUES_SHOWN else ""
    return f"[{values}{more}] ({len(vector)},) {vector.dtype}"
