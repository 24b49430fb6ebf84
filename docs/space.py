"""Computes the fingerprint `space` as docs/identity.md defines it, without unitvec.

python docs/space.py MODEL ARTIFACT

MODEL is the folder of a sentence-transformers model, which has weights and architecture. ARTIFACT
is what unitvec-export made of it, which has tokenizer and settings. A test holds this program
against the exporter.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

NO_EFFECT = re.compile(r"(?m)^- of .*?: (`.*`)$")
"""Lines of docs/identity.md that list settings without effect."""


def sha256(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """The one form of a JSON value that is hashed."""

    def plain(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: plain(item) for key, item in part.items()}
        if isinstance(part, (list, tuple)):
            return [plain(item) for item in part]
        if isinstance(part, float):
            whole = part == int(part) and abs(part) < 2**53
            return int(part) if whole else struct.pack(">d", part).hex()
        return part

    return json.dumps(
        plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":")
    ).encode()


def by_value(tensor: Any) -> list[Any]:
    """Shape and digest of a tensor."""
    return [list(tensor.shape), sha256(tensor.detach().float().numpy().astype("<f4").tobytes())]


def weights(model: Any) -> str:
    """Digest of the tensors of a model, by value."""
    tensors = {
        name: by_value(tensor)
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and "pooler" not in name
    }
    return sha256(canonical(tensors))


def pipeline(modules: list[Any], truncate_dim: int | None) -> list[dict[str, Any]]:
    """What becomes of token vectors, step by step."""
    steps: list[dict[str, Any]] = []
    for module in modules:
        kind = type(module).__name__
        step: dict[str, Any] = {"type": kind}
        if kind == "StaticEmbedding":  # which is a mean by itself
            step = {"type": "Pooling", "modes": ["mean"], "include_prompt": True}
        elif kind == "Pooling":
            mode = module.pooling_mode
            step["modes"] = [mode] if isinstance(mode, str) else list(mode)
            step["include_prompt"] = module.include_prompt
        elif kind == "Dense":
            linear = module.linear
            step["weights"] = by_value(linear.weight.T)
            step["bias"] = None if linear.bias is None else by_value(linear.bias)
            step["activation"] = type(module.activation_function).__name__
            step["on_tokens"] = module.module_input_name == "token_embeddings"
        elif kind == "LayerNorm":
            norm = module.norm
            step |= {"gain": by_value(norm.weight), "bias": by_value(norm.bias)}
            step["epsilon"] = norm.eps
        if kind not in ("Transformer", "Dropout"):
            steps.append(step)
    return steps + ([{"type": "Cut", "dim": truncate_dim}] if truncate_dim else [])


def architecture(config: Any) -> dict[str, Any]:
    """Settings that count and are not the defaults of their class."""
    page = Path(__file__).with_name("identity.md").read_text("utf-8")
    names = {name for line in NO_EFFECT.findall(page) for name in re.findall(r"`(\w+)`", line)}
    parts = ("dropout", "layerdrop", "classifier", "loss", "pooler")
    own, usual = config.to_dict(), type(config)().to_dict()
    settings = {
        key: value
        for key, value in own.items()
        if value != usual.get(key)
        and key not in names
        and not key.startswith("_")
        and not any(part in key for part in parts)
        and (key, value) != ("position_embedding_type", "absolute")
    }
    return {**settings, "model_type": config.model_type}


def tokenizer(whole: dict[str, Any]) -> str:
    """Digest of a `tokenizer.json`, by what it does."""

    def no_nulls(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: no_nulls(item) for key, item in part.items() if item is not None}
        return [no_nulls(item) for item in part] if isinstance(part, list) else part

    def around(step: dict[str, Any] | None, ids: list[Any]) -> list[Any]:
        if step is None or step["type"] == "ByteLevel":
            return ids
        if step["type"] == "Sequence":
            for inner in step["processors"]:
                ids = around(inner, ids)
            return ids
        if step["type"] in ("BertProcessing", "RobertaProcessing"):
            return [step["cls"][1], *ids, step["sep"][1]]
        found: list[Any] = []
        for piece in step["single"]:
            special = piece.get("SpecialToken")
            found += step["special_tokens"][special["id"]]["ids"] if special else ids
        return found

    model = {key: val for key, val in whole["model"].items() if val is not False and val != ""}
    merges = model.get("merges", [])
    if merges and isinstance(merges[0], str):
        model["merges"] = [merge.split(" ") for merge in merges]
    parts = {
        "added_tokens": sorted(whole["added_tokens"], key=lambda token: token["id"]),
        "normalizer": whole["normalizer"],
        "pre_tokenizer": whole["pre_tokenizer"],
        "post_processor": around(whole["post_processor"], ["A"]),
        "model": model,
    }
    return sha256(canonical(no_nulls(parts)))


def space(model: Path, artifact: Path) -> str:
    """The fingerprint of a model in an artifact."""
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(str(model), device="cpu")
    manifest = json.loads((artifact / "manifest.json").read_text("utf-8"))
    folders = sorted({folder for folder in manifest["routes"].values() if folder})
    ways = by_folder(list(loaded), folders)
    spaces = {
        folder: space_of(ways[folder], loaded.truncate_dim, artifact / folder, {})
        for folder in folders
    }
    return space_of(ways[""], loaded.truncate_dim, artifact, spaces)


def by_folder(modules: list[Any], folders: list[str]) -> dict[str, list[Any]]:
    """Modules that texts go through, by the folder of the artifact: empty for what is left."""
    at = next((n for n, module in enumerate(modules) if hasattr(module, "sub_modules")), None)
    if at is None:
        return {"": modules}
    ways = {}
    for name, route in modules[at].sub_modules.items():
        folder = "route-" + re.sub(r"[^\w-]", "_", name)
        key = folder if folder in folders else ""
        ways[key] = [*modules[:at], *route, *modules[at + 1 :]]
    return ways


def space_of(
    modules: list[Any], truncate_dim: int | None, artifact: Path, routes: dict[str, str]
) -> str:
    """The fingerprint of one way through a model, and of those that other prompts take."""
    manifest = json.loads((artifact / "manifest.json").read_text("utf-8"))
    first = getattr(modules[0], "auto_model", modules[0])
    static = {"model_type": "StaticEmbedding"}
    record = {
        "weights": weights(first),
        "architecture": architecture(first.config) if hasattr(first, "config") else static,
        "tokenizer": tokenizer(json.loads((artifact / "tokenizer.json").read_text("utf-8"))),
        "pipeline": pipeline(modules, truncate_dim),
        "max_seq_length": manifest["max_seq_length"],
        "truncation_side": manifest["truncation_side"],
        "prompts": {name: text for name, text in manifest["prompts"].items() if text},
        "default_prompt_name": manifest["default_prompt_name"],
        "split_special_tokens": manifest["split_special_tokens"],
    }
    if routes:
        elsewhere = {name: routes[way] for name, way in manifest["routes"].items() if way}
        record["routes"] = elsewhere
    return "s1-" + sha256(canonical(record))[:20]


if __name__ == "__main__":
    print(space(*map(Path, sys.argv[1:])))
