"""Masks that say the same for every query become one row of it: (B, 1, S, S) -> (B, 1, 1, S).

transformers makes its masks of comparisons of positions, and whatever they allow, they have a row
for each query. Those of plain encoders allow all real tokens to all queries, so one row is enough:
that is S times less to compute, to add to and to hold. Which ones these are, their shape does not
tell. So each is run by itself on a few texts, and one that is a function of `attention_mask` alone
on all of them, is replaced by that function.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from unitvec_export.graph.wiring import Wiring, new_node

_Values = Mapping[str, npt.NDArray[np.float32]]

_MAX_PROBE_TOKENS = 8192
"""Masks are looked at for texts up to this length: 256 MiB each."""


def keep_masks_small(wiring: Wiring, *, max_tokens: int) -> None:
    """Replaces the masks that are the same for every query.

    Args:
        wiring: The graph.
        max_tokens: Longest text of the model.
    """
    names = list(dict.fromkeys(_masks(wiring)))
    if not names or max_tokens > _MAX_PROBE_TOKENS:
        return
    weights: dict[str, tuple[float, float] | None] = {}
    part = wiring.part(names)
    for mask in _probes(max_tokens):
        for name, value in _run(part, mask).items():
            found = _allowed_and_not(value, mask)
            weights[name] = found if weights.get(name, found) == found else None
    for number, (name, found) in enumerate(weights.items()):
        if found is not None:
            _replace(wiring, name, f"unitvec/mask_{number}", found)


def _masks(wiring: Wiring) -> Iterator[str]:
    """Values added to something, with a row for each query and none for each head."""
    for node in wiring.nodes:
        for name in node.input if node.op_type == "Add" else ():
            dims = wiring.dims(name)
            if dims and len(dims) == 4 and dims[1] == 1 and dims[2] != 1:
                yield name


def _probes(max_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Attention masks (B, S), each with padding; the longest is one text alone."""
    for length in sorted({2, 7, max_tokens}):
        mask = np.ones((2 if length < max_tokens else 1, length), np.int64)
        mask[-1, length // 2 if length < max_tokens else -1 :] = 0
        yield mask


def _run(part: onnx.ModelProto, mask: npt.NDArray[np.int64]) -> _Values:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = ort.InferenceSession(part.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    feed = {"input_ids": np.ones_like(mask), "attention_mask": mask}
    return dict(zip(names, session.run(names, feed), strict=True))


def _allowed_and_not(
    value: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]
) -> tuple[float, float] | None:
    """What is added to scores of real tokens and of padding, if nothing else matters."""
    if value.shape[2] != mask.shape[1]:
        return None
    allowed, other = float(value[0, 0, 0, 0]), float(value.min())
    real = mask.astype(bool)[:, None, None, :]
    same = np.array_equal(value, np.broadcast_to(np.where(real, allowed, other), value.shape))
    return (allowed, other) if same else None


def _replace(wiring: Wiring, name: str, root: str, weights: tuple[float, float]) -> None:
    allowed, other = (
        wiring.add_constant(f"{root}/{kind}", np.array(weight, np.float32))
        for kind, weight in zip(("allowed", "other"), weights, strict=True)
    )
    axes = wiring.add_constant(f"{root}/axes", np.array([1, 2], np.int64))
    made = [
        new_node("Cast", ["attention_mask"], f"{root}/real", to=TensorProto.BOOL),
        new_node("Unsqueeze", [f"{root}/real", axes], f"{root}/row"),
        new_node("Where", [f"{root}/row", allowed, other], f"{root}/small"),
    ]
    wiring.nodes[:0] = made
    wiring.redirect(name, f"{root}/small")
