"""Every row of the tables of architectures and pipelines holds."""

from __future__ import annotations

import pytest

from tests.architectures import ARCHITECTURES
from tests.model_table import ARCHITECTURE_ROWS, PAGE, TABLES, Table, measure
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.kernels import find_kernels

MIN_COSINES = {"fp32": 0.99999, "int16": 0.99999, "int8": 0.95}
MAX_FP32_DIFF = 1e-4


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_served_vectors_are_those_of_sentence_transformers(table: Table) -> None:
    """Cosine is blind to a wrong length: some models do not normalize."""
    for row, parities in measure(table.rows).items():
        assert parities["fp32"].max_abs_diff < MAX_FP32_DIFF, row.title
        for precision, parity in parities.items():
            assert parity.cosine_min >= MIN_COSINES[precision], (row.title, precision)
        artifact = load_artifact(row.keep_artifact())
        parts = (artifact, *artifact.routes.values())
        has_fused = any("int8-fused" in part.manifest.graphs for part in parts)
        expects_fused = row.has_fused and find_kernels().library is not None
        assert has_fused == expects_fused, row.title


def test_the_page_has_every_row() -> None:
    """Else run `python -m tests.model_table`."""
    page = PAGE.read_text("utf-8")
    for table in TABLES:
        shown = page.partition(table.begin)[2].partition(table.end)[0]
        assert [row.title for row in table.rows if f"| {row.title} |" not in shown] == []
    models = [row.model for row in ARCHITECTURE_ROWS]
    assert {model.architecture for model in models} == set(ARCHITECTURES)
