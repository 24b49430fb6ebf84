"""Files of transformers 5 and sentence-transformers 6, in the words of their former versions.

The weights are the same; class names and a few settings are spelled anew. A former version
stumbles over some of them and, worse, passes over others, such as the base of rotary positions.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unitvec_export.errors import InputError
from unitvec_export.layout.modules import MODULES_FILE, Module

_Json = dict[str, Any]


@contextlib.contextmanager
def translated(folder: Path, modules: Sequence[Module]) -> Iterator[Path]:
    """Yields a folder that the installed libraries can load: this one, or links and new files.

    Args:
        folder: The model.
        modules: Its modules, from `modules.json`.

    Raises:
        InputError: A setting has no counterpart.
    """
    changed = _translate(folder, modules) if _is_former() else {}
    if not changed:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="unitvec-export-") as parent:
        copy = Path(parent) / folder.name
        shutil.copytree(folder, copy, copy_function=os.symlink)
        for path, content in changed.items():
            (copy / path).unlink()
            (copy / path).write_text(json.dumps(content), encoding="utf-8")
        yield copy


def _is_former() -> bool:
    return int(importlib.metadata.version("transformers").partition(".")[0]) < 5


def _translate(folder: Path, modules: Sequence[Module]) -> dict[Path, Any]:
    """New content of the files that need it."""
    steps: dict[Path, Callable[[Any], Any]] = {Path(MODULES_FILE): _translate_modules}
    for root in (Path(module.path) for module in modules if module.name == "Transformer"):
        config = _read(folder / root / "config.json")
        steps[root / "tokenizer_config.json"] = functools.partial(
            _translate_tokenizer, config=config
        )
        steps[root / "config.json"] = translate_config
    changed = {}
    for path, step in steps.items():
        if (folder / path).is_file():
            content = _read(folder / path)
            new = step(content)
            if new != content:
                changed[path] = new
    return changed


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _translate_modules(entries: list[_Json]) -> list[_Json]:
    """Gives a module that has moved its older path, which all versions know."""
    moved = "sentence_transformers.base.modules.normalize.Normalize"
    older = "sentence_transformers.models.Normalize"
    return [
        {**entry, "type": older if entry["type"] == moved else entry["type"]} for entry in entries
    ]


def _translate_tokenizer(tokenizer: _Json, *, config: _Json) -> _Json:
    if tokenizer.get("tokenizer_class") != "TokenizersBackend":
        return tokenizer
    new = {**tokenizer, "tokenizer_class": "PreTrainedTokenizerFast"}
    if "type_vocab_size" not in config:
        # The newer models pass over token types that they do not have; the former raise.
        new["model_input_names"] = ["input_ids", "attention_mask"]
    if isinstance(tokenizer.get("extra_special_tokens"), list):
        extra = new.pop("extra_special_tokens")
        new["additional_special_tokens"] = [*new.get("additional_special_tokens", []), *extra]
    return new


def translate_config(config: _Json) -> _Json:
    """Spells the bases of rotary positions as transformers 4 does.

    Raises:
        InputError: It has no words for them.
    """
    ropes = config.get("rope_parameters")
    if not ropes:
        return config
    new = {key: value for key, value in config.items() if key != "rope_parameters"}
    if config.get("model_type") == "modernbert":
        return {**new, **_modernbert(config, ropes)}
    if any(isinstance(value, Mapping) for value in ropes.values()):
        raise _untranslatable("rope_parameters", config)
    scaling = {k: v for k, v in ropes.items() if k not in ("rope_theta", "partial_rotary_factor")}
    if scaling.get("rope_type", "default") != "default":
        new["rope_scaling"] = scaling
    named = ("rope_theta", "partial_rotary_factor")
    return {**new, **{key: ropes[key] for key in named if key in ropes}}


def _modernbert(config: _Json, ropes: _Json) -> _Json:
    """Bases of the two kinds of layers, and which layers are of which kind."""
    kinds = config.get("layer_types", [])
    every = (kinds[1:].index("full_attention") + 1) if "full_attention" in kinds[1:] else len(kinds)
    expected = ["sliding_attention" if i % every else "full_attention" for i in range(len(kinds))]
    bases = {
        new: rope.get("rope_theta")
        for new, kind in _MODERNBERT_BASES.items()
        if isinstance(rope := ropes.get(kind), Mapping) and rope.get("rope_type") == "default"
    }
    if len(bases) < len(_MODERNBERT_BASES) or kinds != expected:
        raise _untranslatable("rope_parameters and layer_types", config)
    return {**bases, "global_attn_every_n_layers": every}


_MODERNBERT_BASES = {
    "global_rope_theta": "full_attention",
    "local_rope_theta": "sliding_attention",
}


def _untranslatable(key: str, config: _Json) -> InputError:
    return InputError(
        f"config.json: {key} of this {config.get('model_type')} model were written by transformers "
        f"{config.get('transformers_version', '5')} and have no counterpart in the installed "
        f"{importlib.metadata.version('transformers')}: not supported"
    )
