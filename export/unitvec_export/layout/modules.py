"""`modules.json`: which modules a model has, in which order, and which are supported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unitvec_export.errors import InputError, first_line

MODULES_FILE = "modules.json"

_INPUTS = ("Transformer", "StaticEmbedding")
_OF_VECTORS = ("Dense", "LayerNorm", "Normalize", "Dropout")
_KNOWN = (*_INPUTS, "Pooling", *_OF_VECTORS)
_SUPPORTED = f"only {', '.join(_KNOWN)}"
_ORDER = (
    "only a Transformer, Dense of token_embeddings or none, and a Pooling, or a StaticEmbedding; "
    f"then any of {', '.join(_OF_VECTORS)}"
)


@dataclasses.dataclass(frozen=True)
class Module:
    """A module of a model.

    Attributes:
        type: Path of its class.
        path: Its folder inside the model's.
    """

    type: str
    path: str

    @property
    def name(self) -> str:
        """Name of its class."""
        return self.type.rpartition(".")[2]


def read_modules(folder: Path) -> list[Module]:
    """The modules of a model: those of `modules.json`.

    Without that file there is a Transformer alone, to which sentence-transformers adds a Pooling.

    Raises:
        InputError: It cannot be read, or lists what is not supported.
    """
    path = folder / MODULES_FILE
    if not path.is_file():
        return [Module("sentence_transformers.models.Transformer", "")]
    modules = [Module(str(entry["type"]), str(entry["path"])) for entry in _read(path)]
    check_modules(modules)
    return modules


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not all("type" in entry and "path" in entry for entry in entries):
            raise ValueError("a module has no type or no path")
    except (OSError, ValueError, TypeError) as exc:
        raise InputError(f"{path} is damaged: {first_line(exc)}") from exc
    if not entries:
        raise InputError(f"{path} lists no modules")
    return list(entries)


def check_modules(modules: Sequence[Module]) -> None:
    """Refuses modules of other kinds, custom code, and another order.

    Raises:
        InputError: A module is not supported, or the order is another.
    """
    for module in modules:
        if module.name not in _KNOWN:
            raise InputError(f"module {module.name} ({module.type}) is not supported: {_SUPPORTED}")
        if not module.type.startswith("sentence_transformers."):
            raise InputError(f"module {module.type} is custom code: not supported, {_SUPPORTED}")
    names = [module.name for module in modules]
    if not _is_ordered(names):
        raise InputError(f"modules {' -> '.join(names)} are not supported in this order: {_ORDER}")


def _is_ordered(names: Sequence[str]) -> bool:
    if names[0] not in _INPUTS:
        return False
    rest = list(names[1:])
    if names[0] == "Transformer":
        if "Pooling" not in rest:
            return False
        at = rest.index("Pooling")
        if any(name != "Dense" for name in rest[:at]):
            return False
        rest = rest[at + 1 :]
    return all(name in _OF_VECTORS for name in rest)
