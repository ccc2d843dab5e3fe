"""Write nodes of a graph once more, with other inputs."""

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnxviz.graph.annotate import annotate
from onnxviz.graph.flow import nested_graphs
from onnxviz.graph.ops import Ops

REPLAYED = "replayed"
"""Where the `meta` of a node that was written once more holds the first one."""


def replay(op: Ops, nodes: Iterable[ir.Node], given: dict[ir.Value, ir.Value]) -> None:
    """Write copies of `nodes` that read what `given` says instead; add their outputs to it, in place."""
    for node in nodes:
        inputs = [value if value is None else given.get(value, value) for value in node.inputs]
        attributes = {name: _copied(attribute, given) for name, attribute in node.attributes.items()}
        made = op.emit(node.op_type, inputs, attributes, len(node.outputs), node.domain)
        for old, new in zip(node.outputs, made, strict=True):
            given[old] = new
            new.type, new.shape = old.type, old.shape
            op.nodes[-1].meta[REPLAYED] = node.meta.get(REPLAYED, node)


def rerun(op: Ops, graph: ir.Graph, given: dict[ir.Value, ir.Value]) -> list[ir.Value]:
    """Write the nodes of a nested graph once more, with the inputs that `given` says; returns its outputs."""
    for weight in graph.initializers.values():
        given[weight] = op.weight(weight)
    before = len(op.nodes)
    replay(op, graph, given)
    annotate(op.nodes[before:], op.opset_imports)
    return [given.get(value, value) for value in graph.outputs]


def _copied(attribute: ir.Attr, given: Mapping[ir.Value, ir.Value]) -> ir.Attr:
    """An attribute as it is; a graph as a copy that captures what `given` names."""
    if attribute.type != ir.AttributeType.GRAPH:
        return attribute
    graph = attribute.as_graph().clone(allow_outer_scope_values=True)
    _recapture(graph, given)
    return ir.AttrGraph(attribute.name, graph)


def _recapture(graph: ir.Graph, given: Mapping[ir.Value, ir.Value]) -> None:
    for node in graph:
        for place, value in enumerate(node.inputs):
            if value is not None and value in given:
                node.replace_input_with(place, given[value])
        for nested in nested_graphs(node):
            _recapture(nested, given)
