"""The tables and recipes of `docs/stores.md`: `python -m tests.e2e.stores.page` writes them.

Wants the extra `dev`, a C++ compiler, and PyPI for the stores that do not install beside ours.
"""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.artifacts import REPOSITORY, keep_minilm
from tests.e2e.stores.making import MODULES, observe, sampled
from tests.e2e.stores.store import Store

PAGE = REPOSITORY / "docs" / "stores.md"
STORES = ("libraries", "compiled", "databases", "sql")
Cells = Mapping[str, Mapping[str, str]]
"""Of rows, by title and column."""


class Table(NamedTuple):
    """A table of the page, between two comments that name it.

    Attributes:
        name: In these comments.
        modules: Whose rows it has.
        head: Of the first column.
        columns: Heads of the others, by their names among the cells.
    """

    name: str
    modules: Sequence[str]
    head: str
    columns: Mapping[str, str]

    def lines(self, found: Mapping[str, Cells]) -> Iterator[str]:
        """The table."""
        yield _line([self.head, *self.columns.values()])
        yield _line(["---"] * (len(self.columns) + 1))
        for module in self.modules:
            for title, cells in found[module].items():
                yield _line([title, *(cells.get(name, "") for name in self.columns)])

    def read(self, page: str) -> Cells:
        """What stands on the page."""
        rows = [line.strip("| \n").split(" | ") for line in between(page, self.name).splitlines()]
        width = len(self.columns)
        return {
            row[0]: dict(zip(self.columns, [*row[1:], *[""] * width], strict=False))
            for row in rows[2:]
        }


TABLES = (
    Table(
        "kept",
        STORES,
        "store",
        {
            "version": "version",
            "ours": "our dtype",
            "returned": "what comes back",
            "bits": "bits that it makes itself",
            "limits": "limits",
        },
    ),
    Table(
        "found",
        STORES,
        "store",
        {
            "score": "score",
            "default": "score by default",
            "exact": "exact",
            "overlap": "overlap",
            "length": "a row twice as long",
            "zeros": "a row of zeros",
            "NaN": "a row of NaN",
        },
    ),
    Table(
        "read",
        ("files",),
        "file and reader",
        {
            "version": "version",
            **{dtype: f"`{dtype}`" for dtype in ("float32", "float16", "int8", "binary")},
            "failed": "a row that failed",
        },
    ),
    Table(
        "wire",
        ("wire",),
        "client",
        {"version": "version", "float32": "what arrives", "limits": "limits"},
    ),
)


def between(page: str, name: str) -> str:
    """The part of the page of this name."""
    return page.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->\n")[0]


def recipes() -> Iterator[str]:
    """Code of all stores: the lines that the tests run."""
    for module in STORES:
        for kind in importlib.import_module(f"tests.e2e.stores.{module}").STORES:
            if kind.has_recipe:
                yield f"### {kind.title}\n\n```python\n{recipe(kind)}```\n\n"


def recipe(kind: type[Store]) -> str:
    """How to make, fill and search a store, without the names of the tests."""
    parts = [_body(getattr(kind, name)) for name in ("create", "fill", "search")]
    if hasattr(kind, "value"):
        parts.insert(0, f"def value(vector):\n{textwrap.indent(_body(kind.value), '    ')}\n")
    code = "".join(parts)
    named = {**vars(kind.__base__), **vars(kind), "name": "vectors"}
    for name in re.findall(r"\bself\.(\w+)", code):
        if isinstance(text := named.get(name), str):
            code = code.replace(f"{{self.{name}}}", text)
            code = re.sub(rf"\bself\.{name}\b", repr(text), code)
    code = re.sub(r"\bself\.session\b", kind.handle, code)
    code = re.sub(r"\bself\.", "", code)
    # What is decided by a name that is known is decided; what is found has names.
    code = re.sub(r"(?m)^if '\w+':\n    |  # noqa.*", "", code)
    code = re.sub(r"(?m)^return ids, scores\n", "", code)
    return _formatted(re.sub(r"(?m)^return ", "ids, scores = ", code))


def _body(function: object) -> str:
    """The lines of a function, without its docstring."""
    source = textwrap.dedent(inspect.getsource(function))  # type: ignore[arg-type]
    body = textwrap.dedent(source.partition(":\n")[2])
    return re.sub(r'\A""".*?"""\n', "", body)


def _formatted(code: str) -> str:
    """Imports first, and the rest as ruff has it."""
    imports = dict.fromkeys(re.findall(r"(?m)^(?:import|from) .*\n", code))
    code = "".join(imports) + "\n" * bool(imports) + re.sub(r"(?m)^(?:import|from) .*\n+", "", code)
    command = [str(Path(sys.executable).with_name("ruff")), "format", "-"]
    return subprocess.run(
        command, input=code, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def write(found: Mapping[str, Cells]) -> None:
    """Writes tables and recipes."""
    parts = {table.name: "".join(table.lines(found)) for table in TABLES}
    replace({**parts, "recipes": "".join(recipes())})


def replace(parts: Mapping[str, str]) -> None:
    """Puts text between the comments of each name."""
    page = PAGE.read_text("utf-8")
    for name, text in parts.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->\n")
        page = f"{before}{begin}{text}{end}{after}"
    PAGE.write_text(page, "utf-8")


def main() -> None:
    """Measures all and writes the page."""
    made = REPOSITORY / "artifacts" / "all-MiniLM-L6-v2"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sampled(made if made.exists() else keep_minilm(), folder):
            write({module: observe(module, folder) for module in MODULES})


if __name__ == "__main__":
    main()
