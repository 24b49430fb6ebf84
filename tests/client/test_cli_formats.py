"""What `unitvec embed` writes beside vectors, and how JSON lines are read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unitvec_client.cli.main import main
from unitvec_client.cli.parquet import ParquetRows
from unitvec_client.cli.rows import Row
from unitvec_client.console.records import Line
from unitvec_client.results import StreamItem
from unitvec_protos.installation import install_command

LINES = (
    {"id": "a", "text": "one"},
    {"id": 7, "text": "a text of more than six tokens"},
    {"text": "no id"},
    {"id": "bad", "text": "<bad>"},
    {"id": True, "body": "no text"},
    {"id": "\ud800", "text": "half \udfff"},
)


@pytest.fixture
def run(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("UNITVEC_TARGET", fake.target)
    monkeypatch.delenv("UNITVEC_TOKEN", raising=False)
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_jsonl_files_have_their_texts_under_text(run: Any, vectors: Any, tmp_path: Path) -> None:
    (tmp_path / "big.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n')
    assert run("embed", "--input", tmp_path / "big.jsonl", "--output", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors(["a", "b"]))


def test_parquet_has_a_row_for_each_line(
    run: Any, vectors: Any, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    assert run("embed", "-i", source, "-o", output, "--id-field", "id", "--with-text") == 1
    table = pq.read_table(output)
    assert table.column_names == [
        "index", "line", "id", "text", "tokens", "truncated", "left_out_tokens", "vector", "error",
    ]  # fmt: skip
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 8)
    found = table.to_pydict()
    assert found["index"] == [0, 1, 2, 3, 4, 5]
    assert found["line"] == [1, 2, 3, 4, 5, 6]
    assert found["id"] == ["a", "7", None, "bad", "true", "?"]
    assert found["text"] == [*(line.get("text") for line in LINES[:5]), "half ?"]
    assert found["tokens"] == [3, 6, 4, None, None, None]
    assert found["truncated"] == [False, True, False, None, None, None]
    assert found["left_out_tokens"] == [0, 3, 0, None, None, None]
    assert [error is None for error in found["error"]] == [True, True, True, False, False, False]
    assert found["vector"][3:] == [None, None, None]
    expected = vectors([LINES[0]["text"], LINES[1]["text"], LINES[2]["text"]])
    np.testing.assert_array_equal(np.float32(found["vector"][:3]), expected)
    about = json.loads(table.schema.metadata[b"unitvec"])
    assert (about["dim"], about["truncate"], about["dtype"]) == (8, "model", "float32")


@pytest.mark.parametrize(
    ("dtype", "kind", "width"), [("float16", pa.float16(), 8), ("binary", pa.uint8(), 1)]
)
def test_parquet_has_the_dtype_asked_for(
    run: Any, source: Path, tmp_path: Path, dtype: str, kind: Any, width: int
) -> None:
    for name in ("out.parquet", "out.npy"):
        assert run("embed", "-i", source, "-o", tmp_path / name, "--dtype", dtype) == 1
    column = pq.read_table(tmp_path / "out.parquet")["vector"]
    assert column.type == pa.list_(kind, width)
    rows = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(np.array(column.to_pylist()[:3], rows.dtype), rows[:3])


def test_parquet_of_int8_has_8_bit_numbers_and_their_scales(
    run: Any, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Multiplied, they are to the last bit what `.npy` holds, which has the products."""
    for name, kind in (("out.parquet", "int8"), ("out.npy", "float32")):
        arguments = ("embed", "-i", source, "-o", tmp_path / name, "--dtype", "int8")
        assert run(*arguments) == 1
        assert f" of 8 {kind} values" in capsys.readouterr().err
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("vector").type == pa.list_(pa.int8(), 8)
    assert table["vector"].is_null().to_pylist() == table["scale"].is_null().to_pylist()
    kept = table.filter(table["vector"].is_valid())
    codes = np.array(kept["vector"].to_pylist(), np.int8)
    scales = kept["scale"].to_numpy()
    assert scales.dtype == np.float32
    np.testing.assert_array_equal(np.abs(codes).max(axis=1), 127)
    rows = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(codes * scales[:, None], rows[table["vector"].is_valid()])


@pytest.mark.parametrize(
    ("dtype", "encoding", "largest"),
    [
        ("float32", "BYTE_STREAM_SPLIT", 0.9),
        ("float16", "PLAIN", 1.0),
        ("int8", "RLE_DICTIONARY", 1.0),
        ("binary", "RLE_DICTIONARY", 1.0),
    ],
)
def test_parquet_is_no_larger_than_its_values(
    tmp_path: Path, dtype: str, encoding: str, largest: float
) -> None:
    """And smaller where values have structure, as float32 of unit vectors have."""
    values = np.random.default_rng(0).standard_normal((2000, 384)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    scales = np.abs(values).max(axis=1) / 127
    stored = {
        "float32": values,
        "float16": values.astype(np.float16),
        "int8": np.rint(values / scales[:, None]).astype(np.float32) * scales[:, None],
        "binary": np.packbits(values > 0, axis=1),
    }[dtype]
    like = np.empty((0, stored.shape[1]), np.int8 if dtype == "int8" else stored.dtype)
    rows, path = ParquetRows(like, {}), tmp_path / "rows"
    for index, vector in enumerate(stored):
        scale = scales[index : index + 1] if dtype == "int8" else None
        rows.encode(Row(index, Line(index + 1, "text"), StreamItem(index, vector, scales=scale)))
    path.write_bytes(rows.flush())
    whole = pq.ParquetFile(rows.finish(path))
    names = [whole.schema.column(place).path for place in range(len(whole.schema))]
    column = whole.metadata.row_group(0).column(names.index("vector.list.element"))
    assert encoding in column.encodings
    assert column.total_compressed_size < largest * stored.shape[1] * 2000 * like.itemsize * 1.01


def test_parquet_of_nothing_is_an_empty_table(run: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").touch()
    assert run("embed", "-i", tmp_path / "in.txt", "-o", tmp_path / "out.parquet") == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert (table.num_rows, table.column_names[-2]) == (0, "vector")


def test_parquet_groups_and_memory_are_bounded(tmp_path: Path) -> None:
    """40,000 rows of 384 values, 61 MB, in groups of 16 MiB, however they came."""
    rows = ParquetRows(np.empty((0, 384), np.float32), {})
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        path = tmp_path / "rows"
        with path.open("wb") as file:
            for index in range(40_000):
                item = StreamItem(index, np.full(384, index, np.float32))
                rows.encode(Row(index, Line(index + 1, "text"), item))
                if index % 997 == 0:
                    file.write(rows.flush())
            file.write(rows.flush())
        whole = pq.ParquetFile(rows.finish(path))
    finally:
        pa.set_memory_pool(before)
    sizes = [whole.metadata.row_group(i).num_rows for i in range(whole.num_row_groups)]
    assert sizes == [10_922, 10_922, 10_922, 40_000 - 3 * 10_922]
    for group, first in enumerate((0, 10_922, 21_844, 32_766)):
        vectors = whole.read_row_group(group, ["vector"])["vector"].combine_chunks().flatten()
        expected = np.arange(first, first + sizes[group], dtype=np.float32).repeat(384)
        np.testing.assert_array_equal(vectors.to_numpy(), expected)
    assert 0 < pool.max_memory() < 48 * 2**20


def test_json_lines_have_id_and_text_on_request(run: Any, capsys: Any, source: Path) -> None:
    arguments = ("embed", "-i", source, "-f", "jsonl", "--id-field", "id", "--with-text")
    assert run(*arguments) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["id"] for record in found] == ["a", 7, None, "bad", True, "\ud800"]
    assert [record["text"] for record in found] == [line.get("text") for line in LINES]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("embed", "a", "-f", "parquet"), "--format parquet needs --output FILE"),
        (
            ("embed", "a", "-o", "out.npy", "--with-text"),
            "need --format jsonl, json, csv or parquet",
        ),
        (("embed", "a", "--id-field", "id"), "texts of the command line have no ids"),
        (("similarity", "a", "b", "-o", "out.parquet"), "writes no parquet"),
        (("models", "-o", "out.npy"), "writes no npy"),
    ],
)
def test_formats_that_do_not_fit_are_refused(
    run: Any, capsys: Any, tmp_path: Path, monkeypatch: Any, arguments: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_id_of_plain_lines_is_refused(run: Any, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a")
    arguments = ("embed", "-i", tmp_path / "in.txt", "--id-field", "id", "-f", "jsonl")
    assert run(*arguments, "-o", tmp_path / "out") == 2
    assert "--id-field is for JSON lines" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_parquet_without_pyarrow_says_what_to_install(fake: Any, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from unitvec_client.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    for name, code in (("out.npy", 0), ("out.parquet", 2)):
        arguments = ["embed", "a", "--target", fake.target, "-o", str(tmp_path / name)]
        command = [sys.executable, "-c", program, *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == code
    assert install_command("parquet") in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]
