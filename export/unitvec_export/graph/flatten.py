"""Token vectors (B, S, K) as rows (B * S, K), wherever each is treated alone.

Matrices then meet matrices, and onnxruntime makes one step of a product and its bias.
"""

from __future__ import annotations

import numpy as np
import onnx

from unitvec_export.graph.wiring import Wiring, attribute, is_linear, new_node, splits_heads

_BATCH_AND_SEQUENCE = "unitvec/batch_and_sequence"
_ELEMENT_WISE = ("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "Erf", "Tanh", "Sigmoid", "Relu")
_ROW_WISE = frozenset({"MatMul", "LayerNormalization", *_ELEMENT_WISE})
"""Operators that treat each token vector alone, if what else they read is the same for all."""


def flatten(wiring: Wiring) -> None:
    """Lets rows (B * S, K) pass where token vectors (B, S, K) did."""
    _Flattening(wiring).run()


class _Flattening:
    """One pass over the nodes in order."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._leading = wiring.dims("input_ids") or ()
        self._nodes: list[onnx.NodeProto] = [new_node("Shape", ["input_ids"], _BATCH_AND_SEQUENCE)]
        self._rows: dict[str, str] = {}  # by the name of the token vectors
        self._restored: set[str] = set()
        self._shapes: set[str] = {_BATCH_AND_SEQUENCE}

    def run(self) -> None:
        """Replaces the nodes."""
        for node in self._wiring.nodes:
            if self._is_row_wise(node):
                self._flatten(node)
            elif node.input and self._width(node.input[0]) and splits_heads(self._wiring, node):
                self._split(node)
            else:
                for name in node.input:
                    self._restore(name)
                self._nodes.append(node)
        for name in self._wiring.outputs:
            self._restore(name)
        self._wiring.nodes = self._nodes

    def _width(self, name: str) -> int:
        """K of token vectors (B, S, K); 0 for anything else."""
        dims = self._wiring.dims(name) or ()
        known = len(dims) == 3 and dims[:2] == self._leading and isinstance(dims[2], int)
        return int(dims[2]) if known else 0

    def _is_row_wise(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _ROW_WISE or not self._width(node.output[0]):
            return False
        if node.op_type == "MatMul":
            return bool(self._width(node.input[0])) and is_linear(self._wiring, node)
        if node.op_type == "LayerNormalization" and attribute(node, "axis") != -1:
            return False
        width = self._width(node.output[0])
        return all(self._fits(name, width) for name in node.input)

    def _fits(self, name: str, width: int) -> bool:
        value = self._wiring.constant(name)
        return self._width(name) == width if value is None else value.ndim <= 1

    def _flatten(self, node: onnx.NodeProto) -> None:
        for index, name in enumerate(node.input):
            if self._wiring.constant(name) is None:
                node.input[index] = self._rows_of(name)
        name = node.output[0]
        self._rows[name] = node.output[0] = self._name_rows(name)
        self._nodes.append(node)

    def _rows_of(self, name: str) -> str:
        if name not in self._rows:
            width = self._width(name)
            shape = self._wiring.add_constant(f"unitvec/rows_{width}", np.array([-1, width]))
            maker = self._wiring.producer(name)
            source = maker.input[0] if maker is not None and maker.op_type == "Reshape" else name
            self._rows[name] = self._name_rows(name)
            self._nodes.append(new_node("Reshape", [source, shape], self._rows[name]))
        return self._rows[name]

    def _name_rows(self, name: str) -> str:
        """What the rows (B * S, K) of token vectors are called."""
        self._wiring.declare(f"{name}/rows", [None, self._width(name)])
        return f"{name}/rows"

    def _split(self, node: onnx.NodeProto) -> None:
        """(B * S, heads * d) -> (B, S, heads, d)."""
        dims = self._wiring.dims(node.output[0]) or ()
        shape = self._shape(tuple(int(size) for size in dims[2:]))
        self._nodes.append(
            new_node("Reshape", [self._rows_of(node.input[0]), shape], node.output[0])
        )

    def _restore(self, name: str) -> None:
        """Rows -> token vectors, for a reader that wants them."""
        if name in self._rows and name not in self._restored:
            self._restored.add(name)
            if self._wiring.producer(name) is not None:
                return  # it was never flattened, only read as rows as well
            shape = self._shape((self._width(name),))
            self._nodes.append(new_node("Reshape", [self._rows[name], shape], name))

    def _shape(self, sizes: tuple[int, ...]) -> str:
        """The name of B, S and further sizes."""
        name = "unitvec/shape_" + "_".join(map(str, sizes))
        if name not in self._shapes:
            self._shapes.add(name)
            rest = self._wiring.add_constant(f"{name}/rest", np.array(sizes, np.int64))
            self._nodes.append(new_node("Concat", [_BATCH_AND_SEQUENCE, rest], name, axis=0))
        return name
