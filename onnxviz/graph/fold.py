"""Compute what depends on weights alone once, and not each time the model runs."""

import math
from collections.abc import Iterable, Iterator

import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from onnxviz.graph.annotate import annotate

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
        if all(value is None or value.is_initializer() for value in node.inputs):
            _fold(graph, node)


def _of_weights(graph: ir.Graph, nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    """The plain nodes that read weights, or what such nodes make."""
    made = set[ir.Value]()
    for node in nodes:
        plain = node.graph is graph and node.op_type in _PLAIN and node.domain == ""
        if plain and all(v is None or v in made or _in_memory(v) for v in node.inputs):
            made.update(node.outputs)
            yield node


def _in_memory(value: ir.Value) -> bool:
    tensor = value.const_value
    return value.is_initializer() and tensor is not None and not isinstance(tensor, ir.ExternalTensor)


def _fold(graph: ir.Graph, node: ir.Node) -> None:
    (y,) = node.outputs
    if y.dtype is None or y.shape is None or not y.shape.is_static() or y.is_graph_output():
        return
    if y.dtype.itemsize * math.prod(y.shape.numpy()) > LIMIT:
        return
    name, proto = y.name, ir.to_proto(node)
    y.name = f"{name}/computed"
    weights = {str(value.name): value.const_value for value in node.inputs if value is not None}

    def computed() -> ir.TensorProtocol:
        given = {key: weight.numpy() for key, weight in weights.items() if weight is not None}
        (array,) = ReferenceEvaluator(proto).run(None, given)
        return ir.tensor(array)

    tensor = ir.LazyTensor(computed, y.dtype, ir.Shape(y.shape), cache=True, name=name)
    weight = ir.Value(name=name, type=y.type, shape=y.shape, const_value=tensor)
    graph.register_initializer(weight)
    y.replace_all_uses_with(weight)
    graph.remove(node)
