"""Normalisation layers as they run at inference."""

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, data
from onnxviz.autodiff.ruleset import node_name, vjp
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.ops import Ops, rank_of


@vjp("BatchNormalization")
def _batch_normalization(op: Ops, node: ir.Node, g: ir.Value, *_statistics: ir.Value) -> Answers:
    """y = scale * n + shift with n = (x - mean) / sqrt(var + epsilon), all per channel."""
    if node.attributes.get_int("training_mode", 0):
        raise UnsupportedOperator(
            f"BatchNormalization node {node_name(node)!r} is in training mode; export the model for inference"
        )
    x, scale, _shift, mean, var = node.inputs
    assert x is not None
    rank = rank_of(x)
    others = op.ints(0, *range(2, rank))

    def across(channel: ir.Value | None) -> ir.Value:
        return op.Reshape(channel, op.ints(-1, *[1] * (rank - 2)))

    deviation = op.Sqrt(op.Add(var, node.attributes.get_float("epsilon", 1e-5)))
    slope = op.Div(scale, deviation)
    dshift = op.ReduceSum(g, others, keepdims=0)
    normal = op.Div(op.Sub(x, across(mean)), across(deviation))
    dscale = op.ReduceSum(op.Mul(g, normal), others, keepdims=0)
    dmean = op.Neg(op.Mul(slope, dshift))
    dvar = op.Mul(op.Div(op.Mul(dscale, slope), deviation), -0.5)
    return op.Mul(g, across(slope)), dscale, dshift, dmean, dvar


@vjp("LRN")
def _lrn(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = x s^-beta with s = bias + alpha * mean of x^2 over `size` neighbouring channels.

    dx = g s^-beta - 2 alpha beta / size * x * sum over the windows that contain x of (g y / s).
    """
    x, (y,) = data(node), node.outputs
    attributes = node.attributes
    size = attributes.get_int("size")
    alpha, beta = attributes.get_float("alpha", 1e-4), attributes.get_float("beta", 0.75)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    s = op.Add(
        op.Mul(_channel_mean(op, op.Mul(x, x), x, size, before, after), alpha),
        attributes.get_float("bias", 1.0),
    )
    pushed = _channel_mean(op, op.Div(op.Mul(g, y), s), x, size, after, before)
    return (op.Sub(op.Mul(g, op.Pow(s, -beta)), op.Mul(op.Mul(x, pushed), 2 * alpha * beta)),)


def _channel_mean(op: Ops, v: ir.Value, x: ir.Value, size: int, before: int, after: int) -> ir.Value:
    """The sum over channels c - before ... c + after, divided by `size` at the ends too."""
    flat = op.Reshape(v, op.Concat(op.shape(x, 0, 1), op.ints(1), op.shape(x, 1, 2), op.ints(-1), axis=0))
    mean = op.AveragePool(flat, kernel_shape=[size, 1], pads=[before, 0, after, 0], count_include_pad=1)
    return op.reshape_like(mean, x)
