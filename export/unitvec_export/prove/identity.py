"""Where a model's vectors come from, as digests: what `space` is made of.

`docs/identity.md` has the definition. It is of values, not of files: a checkpoint may be saved
again by another release, in half precision where its values allow, in parts or in one, with or
without a pooler or tied tensors twice, and stays the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_export.pipeline.tail import Step
from unitvec_export.prove.model import Model
from unitvec_server.model.fingerprints import bits_of, is_reproducible, space_of
from unitvec_server.model.identity import Identity, digest, tokenizer_digest
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import Manifest

_LITTLE_ENDIAN_FLOAT32 = "<f4"


def identify(model: Model) -> Identity:
    """Digests of a model; the manifest's own settings make the rest of its space."""
    tokenizer_json = model.tokenizer_json()
    return Identity(
        space="",
        weights=weights_digest(model.tensors),
        architecture=model.architecture,
        tokenizer=tokenizer_digest(tokenizer_json),
        tokenizer_sha256=hashlib.sha256(tokenizer_json.encode()).hexdigest(),
        pipeline=[_describe(step) for step in model.facts.steps],
    )


def with_fingerprints(manifest: Manifest, routes: Mapping[str, str]) -> Manifest:
    """A finished manifest with its space, and the bits of the graphs that have them everywhere.

    Args:
        manifest: The manifest.
        routes: Spaces of its routes, by the names of their folders.
    """
    if manifest.identity is None:
        return manifest
    kernels = find_kernels()
    bits = {
        name: bits_of(manifest, name, kernels.runtime(name))
        for name in manifest.graphs
        if is_reproducible(manifest, name)
    }
    identity = dataclasses.replace(manifest.identity, space=space_of(manifest, routes), bits=bits)
    return dataclasses.replace(manifest, identity=identity)


def weights_digest(tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    """Digest of a transformer's tensors: their names, shapes, and values in float32.

    Args:
        tensors: All of them, by the names that transformers has for those of the bare model.
            Poolers do not count, nor tables of whole numbers, which are made of the settings.
    """
    return digest(dict(_digests(tensors)))


def _digests(tensors: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[str, list[Any]]]:
    for name, tensor in tensors.items():
        if "pooler" in name or not np.issubdtype(tensor.dtype, np.floating):
            continue
        yield name, _by_value(tensor)


def _describe(step: Step) -> dict[str, Any]:
    """A step by its kind and its fields."""
    fields = {field.name: getattr(step, field.name) for field in dataclasses.fields(step)}
    named = {key: _by_value(v) if isinstance(v, np.ndarray) else v for key, v in fields.items()}
    return {"type": type(step).__name__, **named}


def _by_value(tensor: npt.NDArray[Any]) -> list[Any]:
    """Shape and digest of a tensor's values."""
    values = np.ascontiguousarray(tensor, _LITTLE_ENDIAN_FLOAT32)
    return [list(values.shape), hashlib.sha256(values.data).hexdigest()]
