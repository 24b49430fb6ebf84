"""Holds objects against KServe's published API: `python check.py FILE`, a JSON list of objects.

Kinds of KServe alone are checked, down to where Kubernetes' own types begin: names of fields, plain
types, and whatever is required.
"""

import importlib
import importlib.util
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

PLAIN = {"str": str, "int": int, "bool": bool}


def load_models() -> Any:
    """`kserve.models` alone: the package itself imports a server framework."""
    spec = importlib.util.find_spec("kserve")
    assert spec is not None
    package = types.ModuleType("kserve")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["kserve"] = package
    return importlib.import_module("kserve.models")


def read(models: Any, kind: str, value: Any, path: str) -> Any:
    """A value as an object of KServe's."""
    if listed := re.fullmatch(r"list\[(\w+)\]", kind):
        return [read(models, listed[1], item, f"{path}[{at}]") for at, item in enumerate(value)]
    if kind in PLAIN:
        assert type(value) is PLAIN[kind], f"{path} is {value!r}, not {kind}"
    cls = getattr(models, kind, None)
    if cls is None or not cls.attribute_map:
        return value
    unknown = value.keys() - cls.attribute_map.values()
    assert not unknown, f"{path} has no {sorted(unknown)}"
    fields = {
        name: read(models, cls.openapi_types[name], value[key], f"{path}.{key}")
        for name, key in cls.attribute_map.items()
        if key in value
    }
    try:
        return cls(**fields)
    except ValueError as exc:  # something that is required is missing
        raise AssertionError(f"{path}: {exc}") from exc


def main() -> None:
    """Reads them all."""
    models = load_models()
    for found in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        version = found["apiVersion"].removeprefix("serving.kserve.io/")
        read(models, version.capitalize() + found["kind"], found, found["kind"])
    print("ok")


if __name__ == "__main__":
    main()
