"""Write fused operators out: the model in the simpler operators that their rules differentiate."""

import inspect
from collections.abc import Callable

import onnx_ir as ir

import onnxviz.autodiff.rules  # noqa: F401 - fills GRADIENT
from onnxviz.autodiff.functions import is_through
from onnxviz.autodiff.ruleset import GRADIENT, node_name, operator_key
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.annotate import annotate
from onnxviz.graph.expose import prune
from onnxviz.graph.model import Model
from onnxviz.graph.normalise import with_shapes
from onnxviz.graph.ops import Ops


def spell_out(model: Model, chosen: Callable[[ir.Node], bool]) -> Model:
    """The model that computes the same with the chosen nodes written in simpler operators.

    Raises:
        UnsupportedOperator: The operator of a chosen node has no such form.
    """
    copy = model.ir_model.clone()
    op = Ops(copy.graph, "onnxviz.spelled")
    for node in [node for node in copy.graph if chosen(node)]:
        rule = GRADIENT.find(node)
        if not is_through(rule):
            raise UnsupportedOperator(
                f"{operator_key(node)} node {node_name(node)!r} cannot be written in simpler operators"
            )
        before = len(op.nodes)
        made = inspect.unwrap(rule)(op, node)
        annotate(op.nodes[before:], op.opset_imports)
        values = [made] if isinstance(made, ir.Value) else made
        for old, new in zip(node.outputs, values, strict=False):
            if new is not None:
                old.replace_all_uses_with(new, replace_graph_outputs=True)
    copy.graph.sort()
    prune(copy)
    return Model(with_shapes(copy), model.path)
