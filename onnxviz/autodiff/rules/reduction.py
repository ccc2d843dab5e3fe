"""Reductions over axes that may be given, computed or left out."""

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, data, shared_out
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops


@vjp("ReduceSum")
def _reduce_sum(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, axes = data(node), node.inputs[1:]
    return op.Expand(_kept(op, node, g), op.shape(x)), *(ZERO for _ in axes)


@vjp("ReduceMean")
def _reduce_mean(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, axes = data(node), node.inputs[1:]
    share = shared_out(op, _kept(op, node, g), x)
    return op.Expand(share, op.shape(x)), *(ZERO for _ in axes)


def _kept(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """The cotangent with the reduced axes put back as axes of size 1.

    Where no axes are named all were reduced, to a scalar that stretches by itself, or none.
    """
    axes = node.inputs[1:]
    if node.attributes.get_int("keepdims", 1) or not axes or axes[0] is None:
        return g
    return op.Unsqueeze(g, axes[0])
