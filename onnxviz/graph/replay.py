"""Write nodes of a graph once more, with other inputs; tell what new nodes make."""

from collections.abc import Iterable, Mapping, Sequence

import onnx
import onnx_ir as ir

from onnxviz.graph.flow import nested_graphs, reads
from onnxviz.graph.normalise import infer_shapes
from onnxviz.graph.ops import Ops, constant_of

_SMALL = 256  # elements: shapes and axes are read from constants up to this size

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


def annotate(nodes: Sequence[ir.Node], opset_imports: Mapping[str, int]) -> None:
    """Infer, in place, the types and shapes of what `nodes` make, where they are not known."""
    unknown = [v for node in nodes for v in node.outputs if v.type is None or v.shape is None]
    if not unknown:
        return
    model = as_model(nodes, opset_imports)
    symbols = {str(dim) for value in _read_by(nodes) for dim in value.shape or ()}
    known = {proto.name: proto for proto in infer_shapes(model).graph.value_info}
    for value in unknown:
        if value.name in known:
            ir.serde.deserialize_value_info_proto(known[value.name], value)
            # The inference makes up symbols, and the same ones in each model.
            if value.shape is not None:
                value.shape = ir.Shape(
                    [dim if isinstance(dim, int) or str(dim) in symbols else None for dim in value.shape]
                )


def as_model(nodes: Sequence[ir.Node], opset_imports: Mapping[str, int]) -> onnx.ModelProto:
    """A model of those nodes alone, without outputs; it reads what they read, small constants inside."""
    inputs, weights = [], []
    for value in _read_by(nodes):
        array = constant_of(value) if _is_small(value) else None
        if array is not None:
            weights.append(onnx.numpy_helper.from_array(array, value.name))
        else:
            inputs.append(ir.to_proto(value))
    graph = onnx.helper.make_graph([ir.to_proto(node) for node in nodes], "nodes", inputs, [], weights)
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opset_imports.items()]
    return onnx.helper.make_model(graph, opset_imports=imports)


def _read_by(nodes: Sequence[ir.Node]) -> Iterable[ir.Value]:
    """What `nodes` read and do not make."""
    made = {value for node in nodes for value in node.outputs}
    return dict.fromkeys(value for node in nodes for value in reads(node) if value not in made)


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
