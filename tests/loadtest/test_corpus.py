"""Reading and drawing texts."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_client.errors import InputError
from unitvec_loadtest.corpus import Corpus, load_corpus


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Writes a file and returns its path."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_bundled_texts() -> None:
    """Two hundred real texts of many lengths come with the package."""
    texts = load_corpus().texts
    assert len(texts) == len(set(texts)) == 200
    lengths = [len(text) for text in texts]
    assert min(lengths) < 20
    assert max(lengths) > 150


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        pytest.param("a.txt", "one\ntwo\n", ["one", "two"], id="plain"),
        pytest.param("a.txt", "\n one \n\n\t\ntwo", [" one ", "two"], id="blank lines left out"),
        pytest.param("a.txt", "one\r\ntwo\r\n", ["one", "two"], id="lines as Windows ends them"),
        pytest.param("a", '{"text": "x"}', ["x"], id="JSON in a file not called so"),
        pytest.param("A.JSONL", '\ufeff{"text": "x"}\n\n{"text": ""}', ["x"], id="a mark, blanks"),
        pytest.param("a.json", '["x", {"text": "y"}]', ["x", "y"], id="an array"),
        pytest.param("a.csv", 'id,text\n1,"x, y"\n', ["x, y"], id="a table"),
        pytest.param("a.gz", gzip.compress(b"one\ntwo", mtime=0), ["one", "two"], id="packed"),
        pytest.param("a.ndjson", '{"text": "é\u2028z"}\n', ["é\u2028z"], id="a line separator"),
        pytest.param("a.txt", "same\nsame", ["same", "same"], id="repeated texts stay"),
    ],
)
def test_files(tmp_path: Path, name: str, content: str | bytes, texts: list[str]) -> None:
    """All texts of a file are taken, in a shuffled order."""
    assert Counter(load_corpus(write(tmp_path, name, content)).texts) == Counter(texts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "has no texts"),
        ("a.txt", "\n \n", "has no texts"),
        ("a.txt", b"\xff\xfe", "is UTF-16"),
        ("a.jsonl", '{"text": "x"}\n{', "line 2: not JSON"),
        ("a.jsonl", '{"body": "x"}', "line 1: no string under 'text' .keys: 'body'"),
        ("a.jsonl", '\n{"text": 5}', "line 2: no string"),
        ("a.jsonl", "[5]", "line 1: neither a JSON object nor a string"),
    ],
)
def test_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    """The message names the file, the line and what is wrong."""
    path = write(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as refused:
        load_corpus(path)
    assert str(path) in str(refused.value)


def test_a_missing_file(tmp_path: Path) -> None:
    """The system's reason is in the message."""
    with pytest.raises(InputError, match="No such file"):
        load_corpus(tmp_path / "missing.txt")


def test_field_and_seed(tmp_path: Path) -> None:
    """The field names the key; a seed gives one order, another seed another."""
    path = write(tmp_path, "a.jsonl", "".join(f'{{"body": "{n}"}}\n' for n in range(50)))
    one, again, other = (load_corpus(path, field="body", seed=seed).texts for seed in (1, 1, 2))
    assert one == again != other
    assert sorted(one) == sorted(other)


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 60))
def test_drawing_uses_all_texts_equally(size: int, count: int, requests: int) -> None:
    """After any number of requests no text was used twice more often than another."""
    corpus = Corpus(tuple(str(n) for n in range(size)))
    drawn = [text for index in range(requests) for text in corpus.draw(index, count=count)]
    used = Counter(dict.fromkeys(corpus.texts, 0)) + Counter(drawn)
    uses = [used[text] for text in corpus.texts]
    assert max(uses) - min(uses) <= 1
    assert len(drawn) == requests * count
