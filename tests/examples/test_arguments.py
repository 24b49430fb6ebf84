"""What examples are asked: a size that would show nothing is refused, and says what would do."""

from __future__ import annotations

import argparse
import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arguments import at_least, parser

EXAMPLES = Path(__file__).parents[2] / "examples"


def _flags() -> Iterator[tuple[str, str, str]]:
    """Program, flag and type, as written, of each flag that has a type."""
    for path in sorted(EXAMPLES.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                kinds = [ast.unparse(each.value) for each in node.keywords if each.arg == "type"]
                yield from ((path.stem, ast.literal_eval(node.args[0]), kind) for kind in kinds)


FLAGS = list(_flags())
BOUNDED = [(program, flag) for program, flag, kind in FLAGS if kind.startswith("at_least(")]


@pytest.mark.parametrize(("program", "flag"), BOUNDED)
@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_too_few(program: str, flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(program).main([f"{flag}={value}"])
    assert caught.value.code == 2
    assert f"argument {flag}: '{value}' is not a number of at least " in capsys.readouterr().err


def test_all_whole_numbers_are_bounded() -> None:
    loose = {(program, flag) for program, flag, kind in FLAGS if kind == "int"}
    # This one refuses itself what is too few for its categories.
    assert loose <= {("structure", "--per-category")}
    sizes = {
        "--count",
        "--neighbours",
        "--per-category",
        "--port",
        "--queries",
        "--rounds",
        "--sizes",
    }
    assert {flag for _, flag in BOUNDED} == sizes | {"--port", "--top-k"}


@given(least=st.integers(1, 50), number=st.integers(0, 100))
def test_numbers_count_from_the_least_on(least: int, number: int) -> None:
    if number >= least:
        assert at_least(least)(str(number)) == number
        return
    with pytest.raises(argparse.ArgumentTypeError, match=f"of at least {least}$"):
        at_least(least)(str(number))


@pytest.mark.parametrize(
    ("program", "asked", "reason"),
    [
        ("maps", ["--per-category=5", "--neighbours=20"], "below half of the 40 texts"),
        ("vector_index", ["--count=20000"], "together are more than the 20,000 texts"),
    ],
)
def test_more_than_there_is(
    program: str, asked: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(program).main(asked)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_the_target_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNITVEC_TARGET", raising=False)
    assert parser("").parse_args([]).target == "localhost:50051"
    monkeypatch.setenv("UNITVEC_TARGET", "elsewhere:1")
    assert parser("").parse_args([]).target == "elsewhere:1"
    assert parser("").parse_args(["--target", "here:2"]).target == "here:2"
