"""Spark in local mode: the recipe of docs/bulk.md, as it stands there, and what a job wrote.

Opt-in, for pyspark takes 450 MB and needs Java: `pip install 'pyspark>=4,<5'`.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.artifacts import REPOSITORY
from unitvec_bulk.embedding.local import LocalEmbedder
from unitvec_bulk.options import EmbedOptions

pytest.importorskip("pyspark")
pytestmark = [pytest.mark.deep, pytest.mark.filterwarnings("default")]

TEXTS = ["a cat on a mat", None, "", "x" * 300_000, "a feline on a rug"]


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A local Spark with two Python processes."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    yield session
    session.stop()


def recipe() -> str:
    """The program of the page."""
    page = (REPOSITORY / "docs" / "bulk.md").read_text("utf-8")
    section = page.split("## On Spark\n")[1].split("\n## ")[0]
    return textwrap.dedent("\n".join(re.findall(r"^(?:    .*)?$", section, re.MULTILINE)))


def test_the_recipe_gives_the_vectors_of_a_job(spark: Any, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "corpus" / "a.parquet")
    program = recipe().replace("/models/all-MiniLM-L6-v2", str(artifact))
    for name in ("corpus", "vectors"):
        program = program.replace(f'"{name}"', f'"{tmp_path / name}"')
    exec(program, {"__name__": "recipe"})
    found = pq.read_table(tmp_path / "vectors").to_pylist()
    vectors = {row["text"]: row["vector"] for row in found}
    assert [vectors[text] is None for text in TEXTS] == [False, True, False, True, False]
    embedder = LocalEmbedder(artifact, EmbedOptions())
    try:
        for text in ("a cat on a mat", "", "a feline on a rug"):
            wanted = embedder.embed([text]).vectors[0]
            np.testing.assert_allclose(vectors[text], wanted, atol=1e-6)
    finally:
        embedder.close()
