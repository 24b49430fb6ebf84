"""The files of a sentence-transformers model: which there must be, and in what state."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unitvec_export.errors import InputError
from unitvec_export.layout.checkpoint import WEIGHTS, find_weights
from unitvec_export.layout.modules import MODULES_FILE, Module, read_modules, walk

_POINTER = b"version https://git-lfs.github.com/spec/"
_CONFIGURED = ("Transformer", "Pooling", "Dense", "LayerNorm")
"""Modules that cannot do without a config.json."""
_WEIGHTED = ("Transformer", "StaticEmbedding", "Dense", "LayerNorm")
"""Modules that cannot do without weights."""


def check_files(folder: Path, *, weights: bool = True) -> list[Module]:
    """Looks for the files that a sentence-transformers model cannot do without.

    Args:
        folder: The model.
        weights: Whether its weights are among them.

    Returns:
        The modules, as `read_modules` does.

    Raises:
        InputError: A module is not supported, or a file is missing, damaged or a mere pointer.
    """
    if not (folder / MODULES_FILE).is_file():
        _check_plain(folder)
    modules = read_modules(folder)
    every = list(walk(modules))
    _check_pointers([folder, *(folder / module.path for module in every)])
    for module in every:
        _check_module(folder, module, weights=weights)
    return modules


def _check_plain(folder: Path) -> None:
    """Makes sure that a folder without modules.json is a whole model of transformers."""
    if (folder / "adapter_config.json").is_file():
        raise InputError(_adapter(folder))
    others = sorted(folder.glob("[0-9]_*"))
    if others:
        raise InputError(
            f"{folder} is incomplete: it has no {MODULES_FILE}, which would say what to do with "
            f"its {others[0].name}"
        )
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} is not a model of sentence-transformers, nor of transformers: it has no "
            f"{MODULES_FILE} and no config.json"
        )


def _check_module(folder: Path, module: Module, *, weights: bool) -> None:
    root = folder / module.path
    if (root / "adapter_config.json").is_file():
        raise InputError(_adapter(root))
    config = root / "config.json"
    if module.name in _CONFIGURED and not config.is_file():
        raise InputError(f"{folder} is incomplete: it has no {config.relative_to(folder)}")
    if weights and module.name in _WEIGHTED and find_weights(root) is None:
        raise InputError(f"{root} has no weights: none of {', '.join(WEIGHTS)}")


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
