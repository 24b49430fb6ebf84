"""`modules.json`: which modules a model has, in which order, and which are supported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unitvec_export.errors import InputError, first_line

MODULES_FILE = "modules.json"

INPUTS = ("Transformer", "StaticEmbedding")
"""Modules that turn texts into tokens."""
_OF_VECTORS = ("Dense", "LayerNorm", "Normalize", "Dropout")
_ROUTERS = ("Router", "Asym")
_ROUTER_FILES = ("router_config.json", "config.json")
"""Names of a Router's file, today's and that of an Asym."""
_KNOWN = (*INPUTS, "Pooling", *_OF_VECTORS, "Router")
_SUPPORTED = f"only {', '.join(_KNOWN)}"
_ORDER = (
    "only a Transformer, Dense of token_embeddings or none, and a Pooling, or a StaticEmbedding; "
    f"then any of {', '.join(_OF_VECTORS)}; at most one Router, of such parts"
)


@dataclasses.dataclass(frozen=True)
class Module:
    """A module of a model.

    Attributes:
        type: Path of its class.
        path: Its folder inside the model's.
        routes: Modules of each route of a Router, by the name of the route.
    """

    type: str
    path: str
    routes: Mapping[str, tuple[Module, ...]] = dataclasses.field(default_factory=dict)

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
    entries = read_json(path)
    if not entries:
        raise InputError(f"{path} lists no modules")
    try:
        modules = [Module(str(entry["type"]), str(entry["path"])) for entry in entries]
    except (KeyError, TypeError) as exc:
        raise InputError(f"{path} is damaged: {first_line(exc)}") from exc
    _check_names(modules)
    modules = [_open_router(folder, module) for module in modules]
    check_modules(modules)
    return modules


def read_json(path: Path) -> Any:
    """A file of a model.

    Raises:
        InputError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} is damaged: {first_line(exc)}") from exc


def router_file(root: Path) -> Path:
    """The file of a Router in its folder."""
    return next((p for p in (root / name for name in _ROUTER_FILES) if p.is_file()), root)


def _open_router(folder: Path, module: Module) -> Module:
    """Reads the routes of a Router; other modules are what they are."""
    if module.name not in _ROUTERS:
        return module
    path = router_file(folder / module.path)
    content = read_json(path)
    try:
        types, structure = content["types"], content["structure"]
        routes = {
            str(name): tuple(Module(str(types[each]), _join(module.path, each)) for each in ids)
            for name, ids in structure.items()
        }
    except (KeyError, TypeError, AttributeError) as exc:
        raise InputError(f"{path} is damaged: {first_line(exc)}") from exc
    return dataclasses.replace(module, routes=routes)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def walk(modules: Sequence[Module]) -> Iterator[Module]:
    """All modules, those of routes too, without the Routers themselves."""
    for module in modules:
        if module.name in _ROUTERS:
            for route in module.routes.values():
                yield from route
        else:
            yield module


def check_modules(modules: Sequence[Module]) -> None:
    """Refuses modules of other kinds, custom code, and another order.

    Raises:
        InputError: A module is not supported, or the order is another.
    """
    _check_names(modules)
    for chain in _chains(modules):
        _check_names(chain)
        names = [module.name for module in chain]
        if not _is_ordered(names):
            found = " -> ".join(names)
            raise InputError(f"modules {found} are not supported in this order: {_ORDER}")


def _check_names(modules: Sequence[Module]) -> None:
    for module in modules:
        if module.name not in (*_KNOWN, *_ROUTERS):
            raise InputError(f"module {module.name} ({module.type}) is not supported: {_SUPPORTED}")
        if not module.type.startswith("sentence_transformers."):
            raise InputError(f"module {module.type} is custom code: not supported, {_SUPPORTED}")


def _chains(modules: Sequence[Module]) -> Iterator[list[Module]]:
    """The modules that a text goes through, for each route; one without a Router that is open."""
    at = next((i for i, module in enumerate(modules) if module.routes), None)
    if at is None:
        yield list(modules)
        return
    for route in modules[at].routes.values():
        yield [*modules[:at], *route, *modules[at + 1 :]]


def _is_ordered(names: Sequence[str]) -> bool:
    if names[0] not in INPUTS:
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
