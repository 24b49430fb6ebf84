"""Every extra installs beside the frameworks of `docs/compatibility.md`."""

from __future__ import annotations

import os

import pytest

from tests.resolution import (
    BEGIN,
    END,
    EXTRAS,
    PAGE,
    PYTHONS,
    UNSOLVED,
    resolve_extra,
    resolve_newest,
)


def test_the_page_has_every_extra_and_python() -> None:
    """Else run `python -m tests.resolution`."""
    table = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert [extra for extra in EXTRAS if f"| `{extra}` |" not in table] == []
    assert [python for python in PYTHONS if f"| Python {python} |" not in table] == []
    assert UNSOLVED not in table


@pytest.mark.download
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    os.environ.get("UNITVEC_TEST_DOWNLOAD") != "1",
    reason="asks an index; set UNITVEC_TEST_DOWNLOAD=1",
)
def test_every_extra_resolves() -> None:
    newest = resolve_newest()
    for extra in EXTRAS:
        assert UNSOLVED not in resolve_extra(extra, newest), extra
