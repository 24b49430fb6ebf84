"""The files of a sentence-transformers model: which there must be, and in what state."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from unitvec_export.errors import InputError, first_line
from unitvec_export.layout.checkpoint import WEIGHTS, find_weights

_SUPPORTED = "Transformer -> Pooling (mean or cls) -> Normalize or nothing"
_POINTER = b"version https://git-lfs.github.com/spec/"


def check_files(folder: Path) -> list[dict[str, str]]:
    """Looks for the files that a sentence-transformers model cannot do without.

    Returns:
        The modules, as `read_modules` does.

    Raises:
        InputError: A module is not supported, or a file is missing, damaged or a mere pointer.
    """
    if not (folder / "modules.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise InputError(_adapter(folder))
        raise InputError(f"{folder} is not a sentence-transformers model: it has no modules.json")
    modules = read_modules(folder)
    check_module_types(module["type"] for module in modules)
    root = folder / modules[0]["path"]
    _check_pointers([folder, *(folder / module["path"] for module in modules)])
    if (root / "adapter_config.json").is_file():
        raise InputError(_adapter(root))
    for path in (root / "config.json", folder / modules[1]["path"] / "config.json"):
        if not path.is_file():
            raise InputError(f"{folder} is incomplete: it has no {path.relative_to(folder)}")
    if find_weights(root) is None:
        raise InputError(f"{folder} has no weights: none of {', '.join(WEIGHTS)}")
    return modules


def _adapter(folder: Path) -> str:
    return (
        f"{folder} holds an adapter (adapter_config.json), not a whole model: load it with peft, "
        "merge it with merge_and_unload(), save the result and export that"
    )


def _check_pointers(folders: Iterable[Path]) -> None:
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.glob("*")):
            if path.is_file() and _is_pointer(path):
                raise InputError(
                    f"{path} is a git-lfs pointer, not the file itself: run git lfs pull there"
                )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def read_modules(folder: Path) -> list[dict[str, str]]:
    """Type and path of each module in `modules.json`.

    Raises:
        InputError: It cannot be read.
    """
    path = folder / "modules.json"
    try:
        modules = [
            {"type": str(module["type"]), "path": str(module["path"])}
            for module in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{path} is damaged: {first_line(exc)}") from exc
    if not modules:
        raise InputError(f"{path} lists no modules")
    return modules


def check_module_types(types: Iterable[str]) -> None:
    """Refuses pipelines other than Transformer, Pooling and an optional Normalize.

    Args:
        types: Class paths in the order of `modules.json`.

    Raises:
        InputError: A module is not supported, or the order is another.
    """
    names = []
    for path in types:
        name = path.rpartition(".")[2]
        if name not in ("Transformer", "Pooling", "Normalize"):
            raise InputError(f"module {name} ({path}) is not supported: only {_SUPPORTED}")
        if not path.startswith("sentence_transformers."):
            raise InputError(f"module {path} is custom code: not supported, only {_SUPPORTED}")
        names.append(name)
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(f"modules {' -> '.join(names)} are not supported: only {_SUPPORTED}")
