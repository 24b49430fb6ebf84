"""Texts by the million, generated one by one, and the files that they go into."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.workloads import load_corpora

_FILE_ROWS = 1_000_000
_GROUP_ROWS = 65_536
_LONG_EVERY = 50
"""Of the texts of mixed length, every 50th has hundreds or thousands of characters."""


def glosses(count: int) -> Iterator[str]:
    """Short texts, each with a number, so that none is equal to another."""
    short = load_corpora(None).short
    return itertools.islice(
        (f"{text} {number}" for number in itertools.count() for text in short), count
    )


def mixed(count: int) -> Iterator[str]:
    """Short texts, with long ones between them: the longest are cut by the model."""
    long = " ".join(load_corpora(None).long)
    for number, text in enumerate(glosses(count)):
        yield long[: 400 + number % 5000] if number % _LONG_EVERY == 0 else text


def write_corpus(folder: Path, texts: Iterator[str]) -> Path:
    """Writes texts to files of Parquet, a row group at a time."""
    folder.mkdir()
    for number in itertools.count():
        groups = _groups(itertools.islice(texts, _FILE_ROWS))
        first = next(groups, None)
        if first is None:
            return folder
        path = folder / f"{number:04}.parquet"
        with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
            for group in itertools.chain([first], groups):
                writer.write_table(group)
    raise AssertionError


def _groups(texts: Iterator[str]) -> Iterator[pa.Table]:
    while held := list(itertools.islice(texts, _GROUP_ROWS)):
        yield pa.table({"text": held})
