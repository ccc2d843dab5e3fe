"""Operators differentiated through simpler ones: the function bodies of the standard, and our own."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, TypeAlias

import onnx
import onnx.defs
import onnx.inliner
import onnx_ir as ir

from onnxviz.graph.annotate import annotate, as_model
from onnxviz.graph.flow import reads
from onnxviz.graph.replay import replay

Body: TypeAlias = Callable[[Any, ir.Node], ir.Value | Sequence[ir.Value | None]]

_through: set[Callable[..., Any]] = set()


def through(body: Body) -> Callable[..., Mapping[ir.Value, Any]]:
    """The rule of an operator that `body` writes in simpler operators: the walk goes back through those.

    `body` is called as ``body(op, node)`` and returns a value for each output of the node (None for one
    that carries no gradient). The node itself stays: what is written serves the backward graph alone, and
    only what that reads of it is kept.
    """

    @wraps(body)
    def rule(op: Any, node: ir.Node, *cotangents: ir.Value | None) -> Mapping[ir.Value, Any]:
        before = len(op.nodes)
        made = body(op, node)
        written = op.nodes[before:]
        annotate(written, op.opset_imports)
        outputs = [made] if isinstance(made, ir.Value) else made
        pairs = zip(outputs, cotangents, strict=False)
        arriving = {y: _typed(op, g, y) for y, g in pairs if y is not None and g is not None}
        answers: Mapping[ir.Value, Any] = op.pull_back(written, arriving, list(reads(node)))
        if node.domain:
            _reuse(outputs, node, written)
        return answers

    _through.add(rule)
    return rule


def _typed(op: Any, g: ir.Value, y: ir.Value) -> ir.Value:
    """The cotangent of a node in the type of floats that the body writes, which may stand for integers."""
    if y.dtype in (None, g.dtype) or not y.dtype.is_floating_point():
        return g
    cast: ir.Value = op.Cast(g, to=int(y.dtype))
    return cast


def is_through(rule: Callable[..., Any]) -> bool:
    """Whether `through` made a rule: it answers by whichever rules are in force for the simpler operators."""
    return rule in _through


def _reuse(outputs: Sequence[ir.Value | None], node: ir.Node, written: Sequence[ir.Node]) -> None:
    """Read what a fused node has computed instead of computing it again (a Relu's mask, say)."""
    for y, there in zip(outputs, node.outputs, strict=False):
        same = y is not None and there.name and y.dtype == there.dtype is not None
        if y is not None and same and y.producer() in written:
            y.replace_all_uses_with(there)


@cache
def has_function_body(domain: str, op_type: str) -> bool:
    """Whether the standard defines an operator by a function of simpler ones."""
    if not onnx.defs.has(op_type, domain):
        return False
    schema = onnx.defs.get_schema(op_type, domain)
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


@through
def function_body(op: Any, node: ir.Node) -> Sequence[ir.Value | None]:
    """The node in the operators of its function body, as onnx's own inliner writes it."""
    model = as_model([node], op.opset_imports)
    body = _body_as_function(node, op.opset_imports[""])
    model.functions.append(body)
    model.graph.node[0].domain, model.graph.node[0].op_type = body.domain, body.name
    model.opset_import.add(domain=body.domain, version=1)
    model.graph.output.extend(ir.to_proto(y) for y in node.outputs if y.name)
    # The inliner asks for the types of weights too.
    model.graph.value_info.extend(ir.to_proto(x) for x in reads(node) if x.const_value is not None)
    graph = ir.from_proto(onnx.inliner.inline_local_functions(model, convert_version=True)).graph
    outer = {value.name: value for value in reads(node)}
    given = {value: outer[value.name] for value in (*graph.inputs, *graph.initializers.values())}
    replay(op, graph, given)
    made = {y.name: given[y] for y in graph.outputs}
    return [made.get(y.name) for y in node.outputs]


def _body_as_function(node: ir.Node, opset: int) -> onnx.FunctionProto:
    """The body of a node's operator as a function of a domain of its own."""
    schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    if schema.has_context_dependent_function:
        nothing = onnx.TypeProto()
        types = [nothing if x is None or x.type is None else ir.to_proto(x).type for x in node.inputs]
        body = onnx.FunctionProto()
        body.ParseFromString(
            schema.get_context_dependent_function(
                ir.to_proto(node).SerializeToString(), [kind.SerializeToString() for kind in types]
            )
        )
    else:
        body = onnx.FunctionProto()
        body.CopyFrom(schema.function_body)
    body.domain, body.name = "onnxviz.bodies", node.op_type
    return body
