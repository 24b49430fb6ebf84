"""Tables given as texts: refused by name, since what they yield are the names of their columns."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import unitvec_client as uv

ROWS = ["text number 0", "text number 1"]
COLUMNS = {"id": [1, 2], "text": ROWS}


def pandas_frame() -> Any:
    return pytest.importorskip("pandas").DataFrame(COLUMNS)


def polars_frame() -> Any:
    return pytest.importorskip("polars").DataFrame(COLUMNS)


def lazy_frame() -> Any:
    return pytest.importorskip("polars").LazyFrame(COLUMNS)


def arrow_table() -> Any:
    return pytest.importorskip("pyarrow").table(COLUMNS)


def arrow_batch() -> Any:
    return pytest.importorskip("pyarrow").RecordBatch.from_pydict(COLUMNS)


def structured_array() -> Any:
    return np.array([(1, "a"), (2, "b")], dtype=[("id", int), ("text", "U9")])


class Relation:
    """A table of a kind that we have never heard of."""

    @property
    def columns(self) -> list[str]:
        return list(COLUMNS)

    def __iter__(self) -> Any:
        return iter(COLUMNS)


TABLES: list[Callable[[], Any]] = [
    pandas_frame,
    lambda: pandas_frame()[["text"]],
    polars_frame,
    lazy_frame,
    arrow_table,
    arrow_batch,
    structured_array,
    Relation,
    lambda: COLUMNS,
    lambda: collections.UserDict(COLUMNS),
    lambda: np.array([ROWS, ROWS]),
    lambda: pandas_frame().to_numpy(),
]
CALLS: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("texts", lambda client, table: client.embed(table)),
    ("texts", lambda client, table: client.embed_result(table)),
    ("texts", lambda client, table: list(client.embed_stream(table))),
    ("texts", lambda client, table: client.tokenize(table)),
    ("a", lambda client, table: client.similarity(table, ROWS)),
    ("b", lambda client, table: client.similarity(ROWS, table)),
    ("queries", lambda client, table: client.search(table, ROWS)),
    ("documents", lambda client, table: client.search(ROWS, table)),
]


@pytest.mark.parametrize("make", TABLES)
@pytest.mark.parametrize(("field", "call"), CALLS)
def test_a_table_is_refused_before_any_io(
    client: Any, fake: Any, field: str, call: Callable[[Any, Any], Any], make: Callable[[], Any]
) -> None:
    table = make()
    with pytest.raises(uv.InputTypeError, match="one column") as caught:
        call(client, table)
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field} ")
    assert not fake.servicer.seen


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (pandas_frame, r"a table \(DataFrame\): give one column of texts, texts\['id'\]"),
        (arrow_table, r"a table \(Table\): give one column of texts, texts\['id'\]"),
        (lambda: np.array([ROWS]), r"the shape \(1, 2\): give one column, texts\[:, 0\]"),
    ],
)
def test_the_message_shows_how_one_column_is_given(
    client: Any, make: Callable[[], Any], words: str
) -> None:
    with pytest.raises(uv.InputTypeError, match=words):
        client.embed(make())


@pytest.mark.parametrize(
    "make",
    [
        lambda: pandas_frame()["text"],
        lambda: pandas_frame().set_index("text").index,
        lambda: pandas_frame().to_numpy()[:, 1],
        lambda: polars_frame()["text"],
        lambda: arrow_table()["text"],
        lambda: arrow_batch()["text"],
        lambda: structured_array()["text"],
        lambda: np.array(ROWS),
        lambda: np.array(ROWS, object),
        lambda: tuple(ROWS),
        lambda: collections.UserList(ROWS),
    ],
)
def test_one_column_is_texts(client: Any, make: Callable[[], Any]) -> None:
    column = make()
    expected = client.embed([str(text) for text in column])
    np.testing.assert_array_equal(client.embed(column), expected)
    items = list(client.embed_stream(column))
    np.testing.assert_array_equal([item.vector for item in items], expected)
    np.testing.assert_allclose(np.diag(client.similarity(column, column)), 1, rtol=1e-5)
    found = client.search(column, column, top_k=1)
    assert [hits[0].index for hits in found] == [0, 1]
    assert len(client.tokenize(column)) == 2


def test_a_table_of_vectors_is_told_how_they_are_given(client: Any) -> None:
    table = pytest.importorskip("pandas").DataFrame(np.eye(2, 8))
    with pytest.raises(uv.InputTypeError, match=r"or vectors as an array, a\.to_numpy\(\)$"):
        client.similarity(table, ROWS)
    assert client.similarity(table.to_numpy(), ROWS).shape == (2, 2)
