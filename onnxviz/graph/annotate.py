"""Tell the types and shapes of what nodes make, where onnx's inference must be led through loops."""

from collections.abc import Iterable, Mapping, Sequence

import onnx
import onnx_ir as ir

from onnxviz.graph.flow import nested_graphs, reads
from onnxviz.graph.normalise import infer_shapes
from onnxviz.graph.ops import constant_of

_SMALL = 256  # elements: shapes and axes are read from constants up to this size


def annotate(nodes: Sequence[ir.Node], opset_imports: Mapping[str, int]) -> None:
    """Infer, in place, the types and shapes of what `nodes` make, where they are not known."""
    _infer(nodes, opset_imports)
    for node in nodes:
        if any(True for _ in nested_graphs(node)) and any(value.shape is None for value in node.outputs):
            _look_inside(node, opset_imports)
            _infer(nodes, opset_imports)


def annotate_body(node: ir.Node, opset_imports: Mapping[str, int]) -> None:
    """Say, in place, what is the same at every turn of a Loop or Scan in the shapes inside its body.

    A carried value has the shape that it has before the first turn; sizes that another turn changes are
    not known.
    """
    body, lead = node.attributes["body"].as_graph(), 2 if node.op_type == "Loop" else 0
    nodes, inputs = list(body), body.inputs[lead:]
    initial = [value for value in node.inputs[lead:] if value is not None]
    states = len(inputs) - node.attributes.get_int("num_scan_inputs", 0)
    guessed = [x.shape is None for x in inputs]
    unknown = [value for inner in nodes for value in inner.outputs if value.shape is None]
    axes = node.attributes.get_ints("scan_input_axes", [0] * len(inputs))
    for j, (x, value) in enumerate(zip(inputs, initial, strict=True)):
        x.type = x.type or value.type
        if x.shape is None and value.shape is not None:
            sizes = list(value.shape)
            if j >= states:
                del sizes[axes[j - states]]
            x.shape = ir.Shape(sizes)
    while True:
        annotate(nodes, opset_imports)
        wider = False
        for x, y, guess in zip(inputs[:states], body.outputs[lead // 2 :], guessed, strict=False):
            shape = _common(x.shape, y.shape)
            if guess and shape != x.shape:
                x.shape, wider = shape, True
        if not wider:
            return
        for value in unknown:
            value.shape = None


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
    known = (value for node in nodes for value in node.outputs if value.type and value.shape is not None)
    graph.value_info.extend(map(ir.to_proto, known))
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opset_imports.items()]
    return onnx.helper.make_model(graph, opset_imports=imports)


def _read_by(nodes: Sequence[ir.Node]) -> Iterable[ir.Value]:
    """What `nodes` read and do not make."""
    made = {value for node in nodes for value in node.outputs}
    return dict.fromkeys(value for node in nodes for value in reads(node) if value not in made)


def _is_small(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.size <= _SMALL


def _infer(nodes: Sequence[ir.Node], opset_imports: Mapping[str, int]) -> None:
    unknown = [v for node in nodes for v in node.outputs if v.type is None or v.shape is None]
    if not unknown:
        return
    symbols = {str(dim) for value in _read_by(nodes) for dim in value.shape or ()}
    inferred = infer_shapes(as_model(nodes, opset_imports)).graph
    known = {proto.name: proto for proto in inferred.value_info}
    for value in unknown:
        if value.name in known:
            ir.serde.deserialize_value_info_proto(known[value.name], value)
            # The inference makes up symbols, and the same ones for each model.
            sizes = value.shape and [
                d if isinstance(d, int) or str(d) in symbols else None for d in value.shape
            ]
            value.shape = None if sizes is None else ir.Shape(sizes)


def _look_inside(node: ir.Node, opset_imports: Mapping[str, int]) -> None:
    """Read the shapes of a node's outputs from its nested graphs, in place."""
    if node.op_type == "If":
        one, other = nested_graphs(node)
        for branch in (one, other):
            annotate(list(branch), opset_imports)
        made = [_common(a.shape, b.shape) for a, b in zip(one.outputs, other.outputs, strict=True)]
    elif node.op_type in ("Loop", "Scan"):
        annotate_body(node, opset_imports)
        body, lead = node.attributes["body"].as_graph(), int(node.op_type == "Loop")
        made = [value.shape for value in body.outputs[lead:]]
        states = len(node.inputs) - 2 * lead - node.attributes.get_int("num_scan_inputs", 0)
        for j, value in enumerate(node.inputs[2 * lead :][:states]):
            made[j] = _common(made[j], None if value is None else value.shape)
        scans = node.attributes.get_ints("scan_output_axes", [0] * len(made))
        for j, axis in zip(range(states, len(made)), scans, strict=False):
            made[j] = _stacked(made[j], axis)
    else:
        return
    for value, shape in zip(node.outputs, made, strict=True):
        if value.shape is None:
            value.shape = shape


def _stacked(shape: ir.Shape | None, axis: int) -> ir.Shape | None:
    """A shape with an axis of unknown size at `axis`."""
    if shape is None:
        return None
    place = axis % (len(shape) + 1)
    return ir.Shape([*shape[:place], None, *shape[place:]])


def _common(a: ir.Shape | None, b: ir.Shape | None) -> ir.Shape | None:
    """What two shapes agree on."""
    if a is None or b is None or len(a) != len(b):
        return None
    return ir.Shape([m if m == n else None for m, n in zip(a, b, strict=True)])
