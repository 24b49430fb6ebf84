"""Texts are read for what they are: by suffix, by content, packed or not; or refused by name."""

from __future__ import annotations

import gzip
import io
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

from tests.client.embed_runs import WAIT_S, environment
from unitvec_client.cli.main import main
from unitvec_client.console.texts import TextSource
from unitvec_client.errors import InputError

TEXTS = ["eins", 'zwei "ü", 2', "drei\u2028vier"]
JSON_LINES = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS))
ARRAY = json.dumps([{"id": i, "text": text} for i, text in enumerate(TEXTS)], indent=1)
CSV = 'id,text\r\n0,eins\r\n1,"zwei ""ü"", 2"\r\n\r\n2,drei\u2028vier\r\n'
TSV = 'id\ttext\n0\teins\n1\t"zwei ""ü"", 2"\n2\tdrei\u2028vier\n'


@pytest.fixture
def run(fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    monkeypatch.setenv("UNITVEC_TARGET", fake.target)
    monkeypatch.delenv("UNITVEC_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main([str(argument) for argument in arguments])


def pipe(target: str, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the command with `data` on its standard input."""
    program = [sys.executable, "-m", "unitvec_client.cli.main", *arguments, "--target", target]
    env = environment()
    return subprocess.run(
        program, input=data, capture_output=True, timeout=WAIT_S, check=False, env=env
    )


def gzipped(data: bytes) -> bytes:
    """Compresses without the time of day: what parametrizes a test is in its name."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.txt", "\n".join(TEXTS)),
        ("in.jsonl", JSON_LINES),
        ("UPPER.JSONL", JSON_LINES),
        ("in.ndjson", "\ufeff" + JSON_LINES),
        ("in.json", ARRAY),
        ("in.Json", json.dumps(TEXTS)),
        ("in.json", JSON_LINES),
        ("in.jsonl", ARRAY),
        ("in.csv", CSV),
        ("IN.CSV", "\ufeff" + CSV),
        ("in.tsv", TSV),
        ("lines-of-json.txt", JSON_LINES),
        ("array", "\ufeff \n" + ARRAY),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_for_what_it_is(
    run: Any, vectors: Any, tmp_path: Path, name: str, content: str, packed: bool
) -> None:
    data = content.encode()
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert run("embed", "-i", path, "-o", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors(TEXTS))
    assert TextSource(path=str(path)).count() in (None, 3, 4)


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        (JSON_LINES.encode(), ()),
        (gzipped(JSON_LINES.encode()), ()),
        (ARRAY.encode(), ()),
        (CSV.encode(), ("--input-format", "csv")),
    ],
)
def test_standard_input_is_read_for_what_it_is(
    fake: Any, vectors: Any, tmp_path: Path, data: bytes, flags: Any
) -> None:
    output = tmp_path / "out.npy"
    ended = pipe(fake.target, data, "embed", *flags, "-o", str(output))
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_array_equal(np.load(output), vectors(TEXTS))


def test_lines_that_look_like_json_are_lines_where_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n[1] see\n')
    source = TextSource(path=str(tmp_path / "in.jsonl"), input_format="lines")
    assert source.texts() == ['{"a": 1}', "[1] see"]


def test_lines_in_brackets_and_braces_are_no_json(tmp_path: Path) -> None:
    lines = ["<b>bold</b>", "[1] see there", "{x} is a set", "[sic]", "12", '"quoted"']
    for line in lines:
        (tmp_path / "in.txt").write_text(line)
        assert TextSource(path=str(tmp_path / "in.txt")).texts() == [line]


def archive(kind: str) -> bytes:
    """Returns a small real file of this kind."""
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, np.zeros(3, np.float32))
    elif kind == "npz":
        np.savez(file, a=np.zeros(3))
    elif kind == "parquet":
        pq.write_table(pa.table({"text": TEXTS}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (archive("npy"), "an array of numpy"),
        (archive("npz"), "a zip archive"),
        (archive("parquet"), "Parquet"),
        ("eins\nzwei".encode("utf-16"), "UTF-16"),
        ("eins\nzwei".encode("utf-16-le"), "binary"),
        (gzipped(archive("npy")), "an array of numpy"),
        (gzipped(b"eins\n" * 9)[:-9], "cut short or damaged"),
        (gzipped(b"eins\n")[:12] + b"????", "cut short or damaged"),
        (b"%PDF-1.7\n", "a PDF document"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("embed", "-o", "out.npy", "-i"),
        ("tokenize", "-i"),
        ("search", "query", "--documents"),
        ("search", "--documents", "good.txt", "--queries"),
        ("similarity", "--a", "good.txt", "--b"),
    ],
)
def test_what_is_no_text_is_refused_by_name_in_every_command(
    run: Any, fake: Any, capsys: Any, tmp_path: Path, content: bytes, kind: str, command: Any
) -> None:
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "in.txt").write_bytes(content)
    assert run(*command, "in.txt") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "in.txt" in said
    assert kind in said
    assert "cut short" in kind or fake.servicer.seen == []
    assert {path.name for path in tmp_path.iterdir()} == {"good.txt", "in.txt"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "in.jsonl",
            '{"id": 1, "body": "x"}\n' * 99,
            "no string under 'text' (keys: 'id', 'body')",
        ),
        ("in.json", '[{"id": 1, "body": "x"}]', "no string under 'text' (keys: 'id', 'body')"),
        ("in.csv", "id,body\n1,x\n", "no column 'text' (columns: 'id', 'body'); --field"),
        ("in.csv", 'text\n"never closed\nx\n', "line 3: unexpected end of data"),
        ("in.json", '{\n "text": "x"\n}\n', "holds a JSON object over several lines"),
        ("in.json", '[{"text": "x"}, ', "begins like a JSON array and is not JSON"),
        ("in.html", " <!DOCTYPE HTML>\n<p>a text", "is HTML or XML: take its texts out first"),
        ("in.txt", '<?xml version="1.0"?><a/>', "is HTML or XML: take its texts out first"),
        ("in.json", "text\n" * 99, "none of the first 10 lines can be read; line 1: not JSON"),
        ("in.jsonl", '{"a\n', "no line can be read; line 1: not JSON"),
        ("in.txt", b"\xe4\n" * 99, "none of the first 10 lines can be read; line 1: not UTF-8"),
    ],
)
def test_a_key_or_format_that_fits_no_line_ends_the_run_at_once(
    run: Any, fake: Any, capsys: Any, tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(data)
    assert run("embed", "-i", name, "-o", "out.jsonl") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert fake.servicer.seen == []
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bad_lines_at_the_head_are_named_where_a_good_one_follows(
    run: Any, capsys: Any, tmp_path: Path, vectors: Any
) -> None:
    (tmp_path / "in.jsonl").write_text('{"a\n' * 9 + '{"text": "a"}\n')
    assert run("embed", "-i", "in.jsonl", "-o", "out.npy") == 1
    assert capsys.readouterr().err.count("not JSON") == 9
    np.testing.assert_array_equal(np.load("out.npy")[9:], vectors(["a"]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("embed", "in.txt", "-o", "out.npy"), "'in.txt' is a file: -i in.txt reads it"),
        (("embed", "-"), "'-' is no text: -i - reads standard input"),
        (("tokenize", "a", "in.txt"), "'in.txt' is a file: -i in.txt reads it"),
        (("similarity", "in.txt", "b"), "'in.txt' is a file: --b in.txt reads it"),
        (("search", "in.txt", "--documents", "in.txt"), "--queries in.txt reads it"),
        (("search", "-", "--documents", "in.txt"), "--queries - reads standard input"),
    ],
)
def test_the_name_of_a_file_is_no_text(
    run: Any, fake: Any, capsys: Any, tmp_path: Path, arguments: Any, said: str
) -> None:
    (tmp_path / "in.txt").write_text("a text\n")
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err
    assert fake.servicer.seen == []


def test_long_texts_and_folders_are_texts(run: Any, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    assert run("embed", "docs", "x" * 900, "a\0b", "-f", "jsonl") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "-i", "in.txt", "--input", "in.txt"),
        ("embed", "a", "-o", "a.npy", "-o", "b.npy"),
        ("search", "q", "--documents", "in.txt", "--documents", "in.txt"),
        ("similarity", "--a", "in.txt", "--b", "in.txt", "--b", "in.txt"),
    ],
)
def test_a_second_file_is_not_dropped_without_a_word(
    run: Any, capsys: Any, tmp_path: Path, arguments: Any
) -> None:
    (tmp_path / "in.txt").write_text("a text\n")
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert "is given twice" in capsys.readouterr().err


IDS = [1.5, True, None, [1, "x"], {"a": 2.0}, 12345678901234567890, "s", -0.0]


def test_ids_are_what_json_has(run: Any, capsys: Any, tmp_path: Path) -> None:
    lines = [json.dumps({"id": name, "text": "t"}) for name in IDS]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, '{"id": NaN, "text": "t"}']))
    assert run("embed", "-i", "in.jsonl", "--id-field", "id", "-o", "out.jsonl") == 1
    assert "line 9: 'id' is a number that JSON does not have" in capsys.readouterr().err
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert json.dumps([row["id"] for row in found]) == json.dumps([*IDS, None])
    assert run("embed", "-i", "in.jsonl", "--id-field", "id", "-o", "out.parquet") == 1
    expected = [name if name is None or name == "s" else json.dumps(name) for name in IDS]
    assert pq.read_table("out.parquet")["id"].to_pylist() == [*expected, None]


def test_an_id_field_that_no_line_has_is_refused(run: Any, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(JSON_LINES)
    assert run("embed", "-i", "in.jsonl", "--id-field", "nr", "-o", "out.jsonl") == 2
    assert "no key 'nr'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_columns_of_a_table_are_named(run: Any, tmp_path: Path, vectors: Any) -> None:
    (tmp_path / "in.csv").write_text('nr,body\nx1,"two\nlines"\n\nx2,\nx3\n')
    flags = ("--field", "body", "--id-field", "nr", "--with-text", "-o", "out.jsonl")
    assert run("embed", "-i", "in.csv", *flags) == 1
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["line"], row["id"], row["text"]) for row in found] == [
        (2, "x1", "two\nlines"),
        (5, "x2", ""),
        (6, None, None),
    ]
    assert found[2]["error"] == "only 1 columns"
    np.testing.assert_array_equal(np.float32(found[0]["vector"]), vectors(["two\nlines"])[0])


def test_a_text_of_a_table_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "x" * 200_000)
    assert TextSource(path=str(tmp_path / "in.csv")).texts() == ["x" * 200_000]


def test_keys_are_for_files_that_have_some(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a")
    with pytest.raises(InputError, match="--id-field is for JSON"):
        TextSource(path=str(tmp_path / "in.txt"), id_field="id").texts()
