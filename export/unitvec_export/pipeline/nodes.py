"""ONNX nodes and constants on their way into a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

_ROOT = "unitvec/"
_REDUCES_BY_INPUT = 18
"""Version of ONNX's operator set from which ReduceMax takes its axes as an input."""


class Nodes:
    """Collects nodes. Values are known by their names.

    Args:
        opset: Version of ONNX's operator set of the graph that they are for.
    """

    def __init__(self, *, opset: int) -> None:
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node with one output, whose name is returned."""
        output = f"{_ROOT}{len(self._nodes)}_{op}"
        self._nodes.append(
            helper.make_node(op, list(inputs), [output], name=f"{output}_node", **attributes)
        )
        return output

    def floats(self, value: npt.ArrayLike) -> str:
        """Adds a constant of float32."""
        return self._constant(np.asarray(value, np.float32))

    def integers(self, value: npt.ArrayLike) -> str:
        """Adds a constant of int64."""
        return self._constant(np.asarray(value, np.int64))

    def _constant(self, value: npt.NDArray[Any]) -> str:
        name = f"{_ROOT}constant_{len(self._constants)}"
        self._constants[name] = np.ascontiguousarray(value).reshape(value.shape)
        return name

    def to_float(self, name: str) -> str:
        """The same values as float32."""
        return self.add("Cast", [name], to=TensorProto.FLOAT)

    def to_bool(self, name: str) -> str:
        """Whether each value is other than 0."""
        return self.add("Cast", [name], to=TensorProto.BOOL)

    def expand(self, name: str) -> str:
        """One more axis of size 1 at the end."""
        return self.add("Unsqueeze", [name, self.integers([-1])])

    def sum(self, name: str, axis: int, *, keepdims: bool = False) -> str:
        """The sum over an axis."""
        return self.add("ReduceSum", [name, self.integers([axis])], keepdims=int(keepdims))

    def max(self, name: str, axis: int) -> str:
        """The largest over an axis, which goes."""
        if self._opset < _REDUCES_BY_INPUT:
            return self.add("ReduceMax", [name], axes=[axis], keepdims=0)
        return self.add("ReduceMax", [name, self.integers([axis])], keepdims=0)

    def write(self, graph: onnx.GraphProto, *, last: str, output: str) -> None:
        """Puts all of it into a graph.

        Args:
            graph: Gets the nodes at its end.
            last: A value that was made here, to be renamed.
            output: Its new name.
        """
        for node in self._nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == last:
                        names[index] = output
        graph.node.extend(self._nodes)
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self._constants.items()
        )
