"""What examples are asked: a size that would show nothing is refused, and says what would do."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZED = sorted(
    path.stem for path in EXAMPLES.glob("*.py") if "type=at_least(" in path.read_text("utf-8")
)


@pytest.mark.parametrize("program", SIZED)
@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_too_few(program: str, count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(program).main([f"--count={count}"])
    assert caught.value.code == 2
    assert f"argument --count: '{count}' is not a number of at least " in capsys.readouterr().err


def test_all_that_have_a_size_are_held_to_one() -> None:
    asked = {p.stem for p in EXAMPLES.glob("*.py") if '"--count"' in p.read_text("utf-8")}
    assert asked == set(SIZED) != set()
