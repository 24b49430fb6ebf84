"""What a manifest says of where an artifact comes from, and what `--list` shows of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from unitvec_export.cli import main
from unitvec_export.layout.card import find_license, find_limits
from unitvec_export.provenance import describe_origin
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.cache import VARIABLE

CARD = """---
language: en
license: apache-2.0
tags:
- license: mit
---

# A model

## Usage
```python
# Limitations of comments
```
## Intended uses
For sentences.

### In detail
And paragraphs.

## Training
On texts with bias.

# Bias, Risks and Limitations
Up to 256 word pieces.
"""


def test_a_card() -> None:
    assert find_license(CARD) == "apache-2.0"
    assert find_limits(CARD) == (
        "## Intended uses\nFor sentences.\n\n### In detail\nAnd paragraphs.\n\n"
        "# Bias, Risks and Limitations\nUp to 256 word pieces."
    )


@pytest.mark.parametrize("card", ["", "# A model\nlicense: mit\n", "---\nlanguage: en\n---\n"])
def test_a_card_that_says_nothing(card: str) -> None:
    assert find_license(card) == find_limits(card) == ""


@pytest.mark.parametrize("line", ["license: 'mit'", 'license: "mit"', "license:   mit  "])
def test_spellings_of_a_license(line: str) -> None:
    assert find_license(f"---\n{line}\n---\n") == "mit"


def test_limits_are_bounded() -> None:
    text = find_limits("# Limitations\n" + "word " * 2000)
    assert len(text) == 4000
    assert text.endswith(" ...")


def test_the_date_can_be_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As builds do that are to give the same bytes twice."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    first = describe_origin(tmp_path, {"torch": "2"}, texts_sha256="0")
    assert first.created_at == "1970-01-02T00:00:00Z"
    assert first == describe_origin(tmp_path, {"torch": "2"}, texts_sha256="0")


def test_an_artifact_tells(artifact: Path) -> None:
    provenance = load_artifact(artifact).manifest.provenance
    assert provenance is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", provenance.created_at)
    assert {"torch", "transformers", "onnxruntime", "numpy"} <= provenance.libraries.keys()


def test_older_artifacts_do_not(artifact: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(artifact, tmp_path / "copy")
    content = json.loads((copy / "manifest.json").read_text())
    del content["expected"], content["provenance"]
    (copy / "manifest.json").write_text(json.dumps(content))
    manifest = load_artifact(copy).manifest
    assert manifest.expected is None
    assert manifest.provenance is None


def test_the_list(
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    assert said.count("  none\n") == 2
    assert re.search(r"sentence-transformers/all-MiniLM-L6-v2  \d\d MB\n", said)
    shutil.copytree(artifact, tmp_path / "artifacts" / "mine")
    damaged = shutil.copytree(artifact, tmp_path / "cache" / "tiny-0123")
    (damaged / "manifest.json").write_text("{}")
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\n  mine  tiny-bert-\S+ +\d MB  \d{4}-\d\d-\d\d  fp32, int8\n", said)
    assert re.search(r"\n  tiny-0123  unreadable: export it again +\d MB\n", said)
