"""Every block of `docs/frameworks.md` runs and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "frameworks.md").read_text("utf-8")
BLOCKS = re.findall(
    r"## ([^\n]+)\n(?:(?!## ).)*?```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL
)


def test_all_are_found() -> None:
    assert len(BLOCKS) == PAGE.count("```python") == 7


@pytest.mark.filterwarnings("ignore::unitvec_client.integrations.chroma.MetricWarning")
@pytest.mark.parametrize(("code", "output"), [b[1:] for b in BLOCKS], ids=[b[0] for b in BLOCKS])
def test_block(code: str, output: str, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "localhost:50051" in code
    exec(code.replace("localhost:50051", target), {})
    assert capsys.readouterr().out == output
