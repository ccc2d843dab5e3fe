"""Compute what depends on weights alone once, and not each time the model runs."""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from onnxviz.graph.annotate import annotate
from onnxviz.graph.ops import constant_of

LIMIT = 2**24  # bytes; what is larger is left to the runtime

# What onnx's evaluator and every runtime compute alike; a pool, say, is the runtime's own.
_PLAIN = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Concat",
        "Div",
        "Expand",
        "Gather",
        "Mul",
        "Neg",
        "Reciprocal",
        "Reshape",
        "Slice",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    ]
)


def fold_constants(graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Replace, in place, those of `nodes` that read weights alone by weights, computed when first needed.

    What is made of weights that stay on disk is not folded, so that they stay there.
    """
    constant = list(_of_weights(graph, nodes))
    annotate(constant, graph.opset_imports)
    for node in constant:
        weights = {str(v.name): _weight(v) for v in node.inputs if v is not None}
        if all(weight is not None for weight in weights.values()):
            _fold(graph, node, weights)


def _of_weights(graph: ir.Graph, nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    """The plain nodes that read weights, or what such nodes make."""
    made = set[ir.Value]()
    for node in nodes:
        plain = node.graph is graph and node.op_type in _PLAIN and node.domain == ""
        if plain and all(v is None or v in made or _weight(v) is not None for v in node.inputs):
            made.update(node.outputs)
            yield node


def _weight(value: ir.Value) -> ir.TensorProtocol | None:
    """What a value holds if that is known and in memory; some exporters write weights as nodes."""
    node = value.producer()
    if node is not None and node.op_type == "ConstantOfShape" and not node.domain:
        return _filled(node)
    tensor = ir.convenience.get_const_tensor(value)
    return None if isinstance(tensor, ir.ExternalTensor) else tensor


def _filled(node: ir.Node) -> ir.TensorProtocol | None:
    sizes = constant_of(node.inputs[0])
    if sizes is None:
        return None
    number = (
        node.attributes["value"].as_tensor().numpy()
        if "value" in node.attributes
        else np.zeros(1, np.float32)
    )
    dtype = ir.tensor(number).dtype
    return ir.LazyTensor(
        lambda: ir.tensor(np.full(sizes, number[0], number.dtype)), dtype, ir.Shape(sizes.tolist())
    )


def _fold(graph: ir.Graph, node: ir.Node, weights: Mapping[str, ir.TensorProtocol | None]) -> None:
    (y,) = node.outputs
    if y.dtype is None or y.shape is None or not y.shape.is_static() or y.is_graph_output():
        return
    if y.dtype.itemsize * math.prod(y.shape.numpy()) > LIMIT:
        return
    name, proto = y.name, ir.to_proto(node)
    y.name = f"{name}/computed"

    def computed() -> ir.TensorProtocol:
        given = {key: weight.numpy() for key, weight in weights.items() if weight is not None}
        (array,) = ReferenceEvaluator(proto).run(None, given)
        return ir.tensor(array)

    tensor = ir.LazyTensor(computed, y.dtype, ir.Shape(y.shape), cache=True, name=name)
    weight = ir.Value(name=name, type=y.type, shape=y.shape, const_value=tensor)
    graph.register_initializer(weight)
    y.replace_all_uses_with(weight)
    graph.remove(node)
