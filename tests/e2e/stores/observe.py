"""Prints the cells of a module's stores: `python -m tests.e2e.stores.observe MODULE SAMPLE`."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path

from tests.e2e.stores.observing import Observer
from tests.e2e.stores.store import Sample


def main(name: str, sample: str, *kinds: str) -> None:
    """Prints cells by title as JSON, on the last line.

    Args:
        name: The module.
        sample: Folder of the vectors.
        *kinds: Names of stores; all of the module without any.
    """
    module = importlib.import_module(f"tests.e2e.stores.{name}")
    if not hasattr(module, "STORES"):
        print(json.dumps(module.observe(Path(sample))))
        return
    found = {}
    for kind in module.STORES:
        if not kinds or kind.__name__ in kinds:
            with tempfile.TemporaryDirectory() as folder:
                observer = Observer(kind, Sample.load(Path(sample)), Path(folder))
                found[kind.title] = observer.observe()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
