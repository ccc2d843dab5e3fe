"""Write nodes of a graph once more, with other inputs; tell what new nodes make."""

from collections.abc import Iterable, Mapping, Sequence

import onnx
import onnx_ir as ir

from onnxviz.graph.flow import nested_graphs, reads
from onnxviz.graph.normalise import infer_shapes
from onnxviz.graph.ops import Ops, constant_of

_SMALL = 256  # elements: shapes and axes are read from constants up to this size


def replay(op: Ops, nodes: Iterable[ir.Node], given: dict[ir.Value, ir.Value]) -> None:
    """Write copies of `nodes` that read what `given` says instead; add their outputs to it, in place."""
    for node in nodes:
        inputs = [value if value is None else given.get(value, value) for value in node.inputs]
        attributes = {name: _copied(attribute, given) for name, attribute in node.attributes.items()}
        made = op.emit(node.op_type, inputs, attributes, len(node.outputs), node.domain)
        for old, new in zip(node.outputs, made, strict=True):
            given[old] = new
            new.type, new.shape = old.type, old.shape


def annotate(nodes: Sequence[ir.Node], opset_imports: Mapping[str, int]) -> None:
    """Infer, in place, the types and shapes of what `nodes` make; what cannot be told stays unknown."""
    inferred = infer_shapes(as_model(nodes, opset_imports)).graph
    known = {proto.name: proto for proto in inferred.value_info}
    for value in (value for node in nodes for value in node.outputs):
        if value.name in known:
            ir.serde.deserialize_value_info_proto(known[value.name], value)


def as_model(nodes: Sequence[ir.Node], opset_imports: Mapping[str, int]) -> onnx.ModelProto:
    """A model of those nodes alone, without outputs; it reads what they read, small constants inside."""
    made = {value for node in nodes for value in node.outputs}
    inputs, weights = [], []
    for value in dict.fromkeys(value for node in nodes for value in reads(node) if value not in made):
        array = constant_of(value) if _is_small(value) else None
        if array is not None:
            weights.append(onnx.numpy_helper.from_array(array, value.name))
        else:
            inputs.append(ir.to_proto(value))
    graph = onnx.helper.make_graph([ir.to_proto(node) for node in nodes], "nodes", inputs, [], weights)
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opset_imports.items()]
    return onnx.helper.make_model(graph, opset_imports=imports)


def _is_small(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.size <= _SMALL


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
