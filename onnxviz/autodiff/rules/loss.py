"""Losses, as training graphs hold them."""

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, Cotangent, cast_like, data, wide
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops, rank_of


@vjp("NegativeLogLikelihoodLoss")
def _negative_log_likelihood_loss(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return _likelihood(op, node, g, data(node))


@vjp("SoftmaxCrossEntropyLoss")
def _softmax_cross_entropy_loss(op: Ops, node: ir.Node, g: Cotangent, g_log: Cotangent = None) -> Answers:
    """The likelihood loss of p = log softmax x: dx = dp - exp(p) * sum of dp over the classes."""
    x, others = data(node), node.inputs[1:]
    p = op.LogSoftmax(x, axis=1)
    dp, *rest = (g_log, *(ZERO for _ in others)) if g is None else _likelihood(op, node, g, p)
    if g is not None and g_log is not None:
        dp = op.Add(dp, g_log)
    return op.Sub(dp, op.Mul(op.Exp(p), op.ReduceSum(dp, op.ints(1), keepdims=1))), *rest


def _likelihood(op: Ops, node: ir.Node, g: ir.Value, x: ir.Value) -> Answers:
    """loss = -w_t x_t, with t the right class; or their sum; or that over the sum of the w_t.

    With share = -g, or -g over the sum of the w_t: dx_t = share * w_t, and dw_t = share * x_t, or
    share * (x_t + loss) for the mean. The other classes get 0.
    """
    scores, weight = data(node), node.inputs[2] if len(node.inputs) == 3 else None
    rank, right = rank_of(scores), _right(op, node)
    x, share = wide(op, x), op.Neg(wide(op, g))
    if weight is None:
        counted = cast_like(op, right, x)
    else:
        counted = op.Where(right, op.Reshape(wide(op, weight), op.ints(-1, *[1] * (rank - 2))), 0)
    reduction = node.attributes.get_string("reduction", "mean")
    if reduction == "none":
        share = op.Unsqueeze(share, op.ints(1))
    if reduction == "mean":
        share = op.Div(share, op.ReduceSum(counted, keepdims=0))
        x = op.Add(x, wide(op, node.outputs[0]))
    # Where and not Mul: if no class counts, the share is no number.
    dx = cast_like(op, op.Where(right, op.Mul(share, counted), 0), scores)
    if weight is None:
        return (dx, *(ZERO for _ in node.inputs[1:]))
    dw = op.ReduceSum(op.Where(right, op.Mul(share, x), 0), op.ints(0, *range(2, rank)), keepdims=0)
    return dx, ZERO, cast_like(op, dw, weight)


def _right(op: Ops, node: ir.Node) -> ir.Value:
    """[N, C, ...]: whether a class is the one that counts."""
    x = data(node)
    target = op.Unsqueeze(op.Cast(node.inputs[1], to=int(ir.DataType.INT64)), op.ints(1))
    classes = op.Range(op.scalar(0), op.Squeeze(op.shape(x, 1, 2)), op.scalar(1))
    right = op.Equal(target, op.Reshape(classes, op.ints(-1, *[1] * (rank_of(x) - 2))))
    ignored = node.attributes.get("ignore_index")
    return right if ignored is None else op.And(right, op.Not(op.Equal(target, ignored.as_int())))
