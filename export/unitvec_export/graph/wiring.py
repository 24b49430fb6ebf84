"""Who makes and who reads each value of an ONNX graph, kept true while nodes change."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from unitvec_export.graph.weights import make_tensor, read_values, store_of

Dims = tuple[int | str, ...]
"""A shape: known sizes as integers, others by the name of the dimension."""

_ROOT = "unitvec/"


class Wiring:
    """A view of a model's graph to rewrite it by. Changes reach the graph with `write`.

    Shapes that the graph declares are taken as they are, and written back: no rewriting changes the
    shape of a value that keeps its name. Where it declares none they are inferred: it takes long.

    Args:
        model: Its constants become initializers; otherwise changed by `write` only.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._constants = {tensor.name: read_values(tensor) for tensor in model.graph.initializer}
        self._store = store_of(model)
        self._outside = {
            tensor.name: (self._constants[tensor.name], tensor)
            for tensor in (model.graph.initializer if self._store else ())
        }
        self.nodes = [node for node in model.graph.node if not self._take_constant(node)]
        self._values = _declared(model.graph) if model.graph.value_info else _infer(model)
        self.outputs = {value.name for value in model.graph.output}

    def _take_constant(self, node: onnx.NodeProto) -> bool:
        if node.op_type != "Constant":
            return False
        values = {attribute.name: attribute for attribute in node.attribute}
        if "value" not in values:
            return False
        self._constants[node.output[0]] = numpy_helper.to_array(values["value"].t)
        return True

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a name that never changes."""
        return self._constants.get(name)

    def add_constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Adds or replaces a constant; returns its name."""
        self._constants[name] = value
        return name

    def dims(self, name: str) -> Dims | None:
        """Shape of a value, if it is known."""
        value = self._values.get(name)
        if value is None or not value.HasField("shape"):
            return None
        dims = value.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims)

    def declare(self, name: str, dims: Sequence[int | None]) -> None:
        """Tells the shape of a new value of float32; None is a size that is not known."""
        declared = helper.make_tensor_type_proto(TensorProto.FLOAT, dims)
        self._values[name] = declared.tensor_type

    def is_float(self, name: str) -> bool:
        """Whether a value is known to be of float32."""
        value = self._values.get(name)
        return value is not None and value.elem_type == TensorProto.FLOAT

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value."""
        return next((node for node in self.nodes if name in node.output), None)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value."""
        return [node for node in self.nodes if name in read_by(node)]

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a value; None if more do, or the graph returns it.

        Who asks for its shape only does not count.
        """
        consumers = [node for node in self.consumers(name) if node.op_type != "Shape"]
        return consumers[0] if len(consumers) == 1 and name not in self.outputs else None

    def redirect(self, old: str, new: str) -> None:
        """Lets all that read `old` read `new`."""
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def write(self) -> None:
        """Puts nodes and constants into the graph, without those that nothing needs."""
        graph = self._model.graph
        nodes, tensors = self._needed(self.outputs)
        _assign(graph.node, nodes)
        _assign(graph.initializer, tensors)
        _declare(graph, self._values)

    def part(self, names: Sequence[str]) -> onnx.ModelProto:
        """A model of the same inputs that returns these float32 values, and of what they need."""
        nodes, tensors = self._needed(set(names))
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        graph = helper.make_graph(nodes, "part", self._model.graph.input, outputs, tensors)
        return helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )

    def _needed(
        self, outputs: Iterable[str]
    ) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """Nodes in order, and constants, that lead to values."""
        needed = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(read_by(node))
        return kept[::-1], [self._tensor(name) for name in self._constants if name in needed]

    def _tensor(self, name: str) -> onnx.TensorProto:
        """A constant as the graph has it; of a large one, what did not change stays where it is."""
        value = self._constants[name]
        former, tensor = self._outside.get(name, (None, None))
        return tensor if value is former else make_tensor(name, value, self._store)


def new_node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """A node named after what it makes."""
    return helper.make_node(op, list(inputs), [output], name=f"{_ROOT}{op}_{output}", **attributes)


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names a node reads, those of its subgraphs included."""
    yield from node.input
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from read_by(inner)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Branches and loop bodies of a node."""
    for part in node.attribute:
        if part.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            yield from (part.g, *part.graphs)


def splits_heads(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether it reshapes (B, S, K) -> (B, S, heads, d): each channel stays one of each token."""
    if node.op_type != "Reshape":
        return False
    before, after = wiring.dims(node.input[0]), wiring.dims(node.output[0])
    if before is None or after is None or (len(before), len(after)) != (3, 4):
        return False
    width, heads, size = before[2], after[2], after[3]
    if not (isinstance(width, int) and isinstance(heads, int) and isinstance(size, int)):
        return False
    return before[0] == after[0] and heads * size == width


def is_linear(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether a MatMul multiplies by a constant matrix."""
    weights = wiring.constant(node.input[1])
    return weights is not None and weights.ndim == 2


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """The value of a node's attribute; -1, the default of axes, if it has none of this name."""
    found = [onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return found[0] if found else -1


def declare_shapes(model: onnx.ModelProto) -> None:
    """Writes type and shape of each value into a graph, as far as they can be inferred."""
    _declare(model.graph, _infer(model))


def _infer(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Type and shape of each value."""
    # onnx's own inference loses the names of dimensions at every reshape.
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    try:
        # Of a graph that it does not understand it leaves a copy, weights and all, where it runs.
        # There it looks for values outside as well.
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(store_of(model) or folder):
            inferred = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
    except Exception:  # noqa: BLE001 - it raises bare classes on graphs it does not understand
        inferred = None
    return _declared((inferred or onnx.shape_inference.infer_shapes(model, data_prop=True)).graph)


def _declared(graph: onnx.GraphProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Type and shape of each value for which a graph tells them."""
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.name: value.type.tensor_type for value in values}


def _declare(graph: onnx.GraphProto, types: Mapping[str, onnx.TypeProto.Tensor]) -> None:
    """Tells of type and shape of what a graph makes, and of nothing else."""
    del graph.value_info[:]
    made = {name for node in graph.node for name in node.output}
    for name in sorted(types.keys() & made):
        graph.value_info.add(name=name).type.tensor_type.CopyFrom(types[name])


def _assign(repeated: Any, items: Iterable[Any]) -> None:
    kept = list(items)
    del repeated[:]
    repeated.extend(kept)
