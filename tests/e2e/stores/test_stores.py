"""Every cell of `docs/stores.md` is what the stores do with vectors of a live server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stores import page
from tests.e2e.stores.making import ENVIRONMENTS, MODULES, OWN_ENVIRONMENT, observe, sampled

PAGE = page.PAGE.read_text("utf-8")
OVERLAP_TOLERANCE = 0.03
"""Of graphs, which threads build in any order, and of vectors whose last bits differ."""

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module")
def folder(minilm_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sample, while its server lives."""
    made = tmp_path_factory.mktemp("sample")
    with sampled(minilm_artifact, made):
        yield made


@pytest.mark.parametrize("module", MODULES)
def test_the_page_says_what_is_so(module: str, folder: Path) -> None:
    """Else run `python -m tests.e2e.stores.page`, and read what changed."""
    if ENVIRONMENTS.get(module) == OWN_ENVIRONMENT and shutil.which("c++") is None:
        pytest.skip("hnswlib and annoy want a C++ compiler")
    found = observe(module, folder)
    for table in page.TABLES:
        if module not in table.modules:
            continue
        told = table.read(PAGE)
        for title, cells in found.items():
            shown = {name: cells.get(name, "") for name in table.columns}
            _round(shown, told[title])
            assert shown == told[title], title


def test_the_page_has_the_lines_that_run_here() -> None:
    """Else run `python -m tests.e2e.stores.page`."""
    assert page.between(PAGE, "recipes") == "".join(page.recipes())


def _round(shown: dict[str, str], told: dict[str, str]) -> None:
    """Takes an overlap as it is told, where it is about that."""
    if (
        "overlap" in shown
        and abs(float(shown["overlap"]) - float(told["overlap"])) <= OVERLAP_TOLERANCE
    ):
        shown["overlap"] = told["overlap"]
