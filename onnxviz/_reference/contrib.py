"""Operators of the domain com.microsoft, which onnx's evaluator does not know."""

import onnx.defs
import onnx_ir as ir
from onnx.reference.op_run import OpRun

import onnxviz.autodiff.rules  # noqa: F401 - fills GRADIENT
from onnxviz.autodiff.ruleset import GRADIENT, operator_key
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops

OPERATORS: tuple[type[OpRun], ...] = ()


def lowered(model: Model) -> Model:
    """The model with those operators written in standard ones, as their rules have it.

    The tests compare what that computes with ONNX Runtime's own kernels.
    """
    if all(onnx.defs.has(node.op_type, node.domain) for node in model.ir_model.graph):
        return model
    copy = model.ir_model.clone()
    op = Ops(copy.graph, prefix="lowered")
    for node in list(copy.graph):
        body = getattr(GRADIENT.by_type.get(operator_key(node)), "__wrapped__", None)
        if body is None or onnx.defs.has(node.op_type, node.domain):
            continue
        made = body(op, node)
        for there, y in zip(node.outputs, [made] if isinstance(made, ir.Value) else made, strict=False):
            if y is not None and there.name:
                there.name, y.name = f"{there.name}/replaced", there.name
                y.type, y.shape = there.type, there.shape
                ir.convenience.replace_all_uses_with(there, y, replace_graph_outputs=True)
    copy.graph.sort()
    copy.graph.remove([node for node in copy.graph if _is_idle(node, copy.graph)], safe=True)
    return Model(copy, model.path)


def _is_idle(node: ir.Node, graph: ir.Graph) -> bool:
    return not any(y.uses() or y in graph.outputs for y in node.outputs)
