"""From files to chunks: every row once, in every format, and what cannot be read named."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_bulk.errors import UsageError
from unitvec_bulk.job import check_readable, find_layout
from unitvec_bulk.options import Columns
from unitvec_bulk.reading.chunks import Chunk, ChunkLimits, read_piece
from unitvec_bulk.reading.pieces import digest_of, find_files, make_pieces
from unitvec_bulk.reading.rows import template_columns
from unitvec_bulk.reading.storage import find_place

TEXTS = ["first", "zweite Zeile, mit Komma", 'third "quoted"', "四番目", ""]
LIMITS = ChunkLimits(2, 2**20)


def read(*names: object, columns: Columns | None = None, limits: ChunkLimits = LIMITS) -> pa.Table:
    """All rows of these inputs, after their chunks were held against the limits."""
    files = find_files(map(str, names))
    layout = find_layout(files, columns or Columns())
    chunks = [c for piece in make_pieces(files) for c in read_piece(piece, layout, limits)]
    check_chunks(chunks, limits)
    return pa.concat_tables(chunk.rows for chunk in chunks)


def check_chunks(chunks: list[Chunk], limits: ChunkLimits) -> None:
    ends = [chunk for chunk in chunks if not chunk.rows.num_rows]
    for end in ends:
        numbers = [c.number for c in chunks if c.piece == end.piece and c.rows.num_rows]
        assert numbers == list(range(end.number))
    assert all(chunk.rows.num_rows <= limits.rows for chunk in chunks)


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS, "id": list("abcde")}), path, row_group_size=3)


def write_jsonl(path: Path) -> None:
    lines = [
        json.dumps({"text": text, "id": key}) for text, key in zip(TEXTS, "abcde", strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def write_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "id"), *zip(TEXTS, "abcde", strict=True)])


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.parquet", write_parquet), ("a.jsonl", write_jsonl), ("a.csv", write_csv)],
)
def test_formats_give_the_same_rows(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    rows = read(tmp_path / name, columns=Columns(id="id"))
    assert rows.column("_text").to_pylist() == TEXTS
    assert rows.column("id").to_pylist() == list("abcde")
    assert rows.column("_row").to_pylist() == [0, 1, 2, 3, 4]
    assert set(rows.column("_file").to_pylist()) == {str(tmp_path / name)}


def test_packed_files_are_read(tmp_path: Path) -> None:
    lines = b"eins\nzwei\n"
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(lines))
    with (
        pa.OSFile(str(tmp_path / "b.txt.zst"), "wb") as raw,
        pa.CompressedOutputStream(raw, "zstd") as out,
    ):
        out.write(lines)
    assert read(tmp_path).column("_text").to_pylist() == ["eins", "zwei"] * 2


def test_folders_and_globs_name_each_file_once(tmp_path: Path) -> None:
    for name in ("x/a.txt", "x/y/b.txt", "x/_hidden/c.txt", "x/.part/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    everything = [f.place.path for f in find_files([str(tmp_path), str(tmp_path / "x/a.txt")])]
    assert everything == [str(tmp_path / "x/a.txt"), str(tmp_path / "x/y/b.txt")]
    assert len(find_files([str(tmp_path / "x/*.txt")])) == 1
    assert len(find_files([str(tmp_path / "**/*.txt")])) == 2
    assert len(find_files([str(tmp_path / "x/[!b].txt")])) == 1


def test_files_of_the_output_are_no_input(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    (tmp_path / "out").mkdir()
    write_parquet(tmp_path / "out" / "part-0.parquet")
    files = find_files([str(tmp_path)], output=find_place(str(tmp_path / "out")))
    assert [file.place.path for file in files] == [str(tmp_path / "a.parquet")]


def test_a_filesystem_of_fsspec_is_read(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/corpus/a.txt", b"one\ntwo\n")
    try:
        assert read("memory://corpus/*.txt").column("_text").to_pylist() == ["one", "two"]
    finally:
        store.rm("/corpus", recursive=True)


def test_bad_rows_say_where_and_why(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b'{"text": 3}',
        b"{",
        b"[1]",
        b'{"other": "x"}',
        b"\xff",
        b'{"text": "\\ud800"}',
        b"",
        b'{"text": "last"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    rows = read(tmp_path / "a.jsonl")
    reasons = dict(zip(rows["_row"].to_pylist(), rows["_reason"].to_pylist(), strict=True))
    assert reasons == {
        0: None,
        1: "NOT_TEXT",
        2: "NOT_JSON",
        3: "NOT_JSON",
        4: "NO_TEXT",
        5: "NOT_UTF8",
        6: "NOT_UTF8",
        8: None,
    }


def test_rows_before_a_damage_are_kept(tmp_path: Path) -> None:
    texts = [f"text {n * 7919 % 65537}" for n in range(20_000)]
    whole = gzip.compress("\n".join(texts).encode())
    (tmp_path / "a.txt.gz").write_bytes(whole[: len(whole) // 2])
    rows = read(tmp_path, limits=ChunkLimits(10_000, 2**20))
    found = rows["_text"].to_pylist()
    assert 1000 < len(found) < 20_000
    assert found[:-1] == texts[: len(found) - 1]
    assert rows["_reason"].to_pylist()[-1] == "DAMAGED_FILE"


def test_a_damaged_parquet_file_is_one_problem(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing else")
    rows = read(tmp_path)
    assert rows["_text"].to_pylist() == [*TEXTS, None]
    assert rows["_reason"].to_pylist()[-1] == "DAMAGED_FILE"


def test_a_template_joins_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "T", "body": "B"}\n{"title": "U", "body": null}\n')
    columns = Columns(template="{title}: {body}")
    assert read(tmp_path, columns=columns)["_text"].to_pylist() == ["T: B", "U: "]


@pytest.mark.parametrize(
    "template", ["", "no column", "{}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{"]
)
def test_templates_hold_names_alone(template: str) -> None:
    with pytest.raises(UsageError):
        template_columns(template)


def test_types_of_parquet_are_kept(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "id": pa.array([2**60], pa.int64()), "tags": [["x", "y"]]})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path, columns=Columns(id="id", keep=("tags",)))
    assert rows["id"].to_pylist() == [2**60]
    assert rows["tags"].to_pylist() == [["x", "y"]]


def test_a_missing_column_is_refused_at_once(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"no column 'body' \(it has: text, id\)"):
        read(tmp_path, columns=Columns(text="body"))
    write_csv(tmp_path / "b.csv")
    files = find_files([str(tmp_path / "b.csv")])
    with pytest.raises(UsageError, match="no column body"):
        check_readable(files[0], find_layout(files, Columns(text="body")))


def test_a_changed_file_is_another_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    before = digest_of(find_files([str(tmp_path)]))
    (tmp_path / "a.txt").write_text("two!")
    assert digest_of(find_files([str(tmp_path)])) != before


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl"]), max_size=40)),
    rows=st.integers(1, 9),
    size_bytes=st.integers(1, 400),
)
def test_chunks_hold_each_row_once(texts: list[str], rows: int, size_bytes: int) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/any/a.txt", "\n".join([*texts, "end"]).encode())
    try:
        found = read("memory://any/a.txt", limits=ChunkLimits(rows, size_bytes))
        assert found["_text"].to_pylist() == [*texts, "end"]
    finally:
        store.rm("/any", recursive=True)


def test_many_small_files_are_few_pieces(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number:04}.txt").write_text("x")
    pieces = make_pieces(find_files([str(tmp_path)], format_name="file"))
    assert len(pieces) == 3
    assert sum(len(piece.files) for piece in pieces) == 3000
