"""`unitvec embed`: one vector for each line, written as they come."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from unitvec_client.cli.feed import Feed
from unitvec_client.cli.flags import EXIT_OK, EXIT_SOME_FAILED, keywords_of
from unitvec_client.cli.formats import check_rows, make_rows
from unitvec_client.cli.output import is_special, open_output, write_about
from unitvec_client.cli.progress import Progress
from unitvec_client.cli.resume import Sink, StreamSink, open_part
from unitvec_client.cli.rows import Row, Rows
from unitvec_client.client import Client
from unitvec_client.console.files import STANDARD_INPUT
from unitvec_client.console.records import Line
from unitvec_client.console.terminal import StatusLine, waiting_for, working
from unitvec_client.console.texts import TextSource
from unitvec_client.console.writing import say_written
from unitvec_client.errors import InputError, RefusedError, UnitvecError, at_field
from unitvec_client.expectation import Expectation
from unitvec_client.options import PooledWindows, StreamOptions, Windows
from unitvec_client.results import ModelInfo, ServerInfo, StreamItem
from unitvec_client.windowed import WindowedResult


def embed(client: Client, args: argparse.Namespace) -> int:
    """`unitvec embed`: one vector for each line."""
    check_rows(args)
    windows = _windows(args)
    source = text_source(args)
    lines = source.lines()
    total = source.count() if sys.stderr.isatty() else None
    keywords = keywords_of(args, "model", "prompt_name", "truncate", "dtype", "dimensions")
    keywords |= {"normalize": not args.no_normalize, "windows": windows}
    info = client.models()
    empty: Any = client.embed([], **keywords)
    like = empty.vectors if isinstance(empty, WindowedResult) else empty
    if (args.format, args.dtype) == ("parquet", "int8"):
        like = like.astype(np.int8)  # other formats have no place for the scales of rows
    model = _find(info, args.model)
    about = _describe(args, model, StreamOptions(**keywords))
    # A run may go on with other bits, such as those of another CPU, but not in another space.
    told = {**about, "bits": model.bits}
    rows = make_rows(args, like, told)
    with _open_sink(args, rows, about=about, lines=lines) as sink:
        # Rows that are seen on the terminal say themselves how far they are.
        feed, progress = Feed(lines), Progress(total, done=sink.progressed.texts)
        with working(progress.forms, sys.stderr, hidden=args.on_terminal) as status:
            writer = _EmbedWriter(sink, feed, progress, status, space=model.space)
            for item in client.embed_stream(feed.texts(), timeout_s=args.timeout_s, **keywords):
                writer.write(item)
            writer.write_bad()
        with working(waiting_for("finishing"), sys.stderr, hidden=args.on_terminal):
            # Parquet has it inside; a server that tells no fingerprints leaves nothing to say.
            if model.bits and args.format != "parquet" and not sink.progressed.all_failed:
                write_about(args.output, told)
            sink.finish()
    _say_done(args.output, sink, like)
    return EXIT_SOME_FAILED if sink.progressed.failed else EXIT_OK


def _windows(args: argparse.Namespace) -> Windows | PooledWindows | None:
    if args.window is None:
        if args.overlap is not None or args.pooled:
            raise InputError("--overlap and --pooled are for windows: --window sets their tokens")
        return None
    kind = PooledWindows if args.pooled else Windows
    return kind(args.window, args.overlap or 0)


def _say_done(output: str | None, sink: Sink, like: NDArray[Any]) -> None:
    progressed = sink.progressed
    if progressed.all_failed:
        where = "" if output is None else f"; {output} is not written"
        print(f"unitvec: all {progressed.texts:,} texts failed{where}", file=sys.stderr)
    elif output is not None and not is_special(output):
        failed = f", {progressed.failed:,} of them failed" if progressed.failed else ""
        rows = f"{progressed.rows:,} rows of {like.shape[1]} {like.dtype} values{failed}, "
        say_written("unitvec", output, rows)


def _find(info: ServerInfo, name: str | None) -> ModelInfo:
    return next((model for model in info.models if model.name == name), info.models[0])


def _describe(
    args: argparse.Namespace, model: ModelInfo, options: StreamOptions
) -> dict[str, str | int | bool | None]:
    """Return all that decides what the rows are, apart from the input."""
    name = model.default_prompt_name if options.prompt_name is None else options.prompt_name
    return {
        "model": model.model_id,
        "revision": model.revision,
        "precision": model.precision,
        "dim": model.dim,
        "space": model.space,
        "max_seq_length": model.max_seq_length,
        "pooling": model.pooling,
        "prompt": model.prompts.get(name, ""),
        "truncate": options.truncate,
        "normalize": options.normalize,
        "dimensions": options.dimensions,
        "dtype": options.dtype,
        "format": args.format,
        "window": args.window,
        "overlap": args.overlap,
        "pooled": args.pooled,
        "id": args.id_field is not None,
        "text": args.with_text,
    }


@contextmanager
def _open_sink(
    args: argparse.Namespace, rows: Rows, *, about: dict[str, Any], lines: Iterator[Line]
) -> Iterator[Sink]:
    if args.output is None or is_special(args.output):
        with open_output(args.output) as file:
            yield StreamSink(file, rows)
        return
    with open_part(args.output, rows, about=about, lines=lines, restart=args.restart) as part:
        done = part.progressed.texts
        if done:
            print(f"unitvec: {done:,} texts were done before; going on", file=sys.stderr)
        yield part


class _EmbedWriter:
    """Writes rows in the order of the input, and what failed to standard error too."""

    def __init__(
        self, sink: Sink, feed: Feed, progress: Progress, status: StatusLine, *, space: str
    ) -> None:
        self._expected = Expectation(space=space)
        self._sink = sink
        self._feed = feed
        self._progress = progress
        self._status = status

    def write(self, item: StreamItem) -> None:
        """Write the answer to the next line that could be read."""
        self.write_bad()
        line = self._feed.take_good()
        if _refuses_all(item.error):
            raise item.error
        if item.error is None:
            self._expected.check(item.space, "", "of the server")
            self._add(list(_rows_of(self._sink.progressed.rows, line, item)))
        else:
            # The stream counts the texts of this run, the sink those of all runs.
            self._fail(line, at_field(item.error, f"texts[{self._sink.progressed.texts}]"))

    def write_bad(self) -> None:
        """Write the lines before the next one that could be read."""
        for line in self._feed.take_bad():
            self._fail(line, UnitvecError(line.problem))

    def _fail(self, line: Line, error: UnitvecError) -> None:
        self._status.say(f"unitvec: line {line.number}: {error}")
        self._add([Row(self._sink.progressed.rows, line, None, error.message)])

    def _add(self, rows: list[Row]) -> None:
        self._sink.add(rows)
        self._progress.advance()


def _rows_of(first: int, line: Line, item: StreamItem) -> Iterator[Row]:
    """Yield a row for the vector of a line, or one for each window of its text."""
    if item.vectors is None:
        yield Row(first, line, item)
        return
    for at, (window, vector) in enumerate(zip(item.windows, item.vectors, strict=True)):
        part = replace(
            item,
            vector=vector,
            tokens=window.tokens,
            windows=(),
            vectors=None,
            scales=None if item.scales is None else item.scales[at : at + 1],
        )
        yield Row(first + at, line, part, window=window)


def _refuses_all(error: UnitvecError | None) -> TypeGuard[RefusedError]:
    """Return whether it is the flags that are refused, and so every line alike."""
    return isinstance(error, RefusedError) and "texts[" not in error.field


def text_source(args: argparse.Namespace) -> TextSource:
    """Return where the texts of a command come from; standard input if nothing is named."""
    path = args.input
    if path is None and not args.texts:
        path = STANDARD_INPUT
    id_field = getattr(args, "id_field", None)
    return TextSource(tuple(args.texts), path, args.field, id_field, args.input_format)
