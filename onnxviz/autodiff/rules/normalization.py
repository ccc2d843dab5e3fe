"""Normalisation layers.

Most of them centre, c = x - mean of x, and scale, n = c / d with d = sqrt(mean of c^2 + epsilon). Backwards,
dc = (dn - n * mean of (dn n)) / d and dx = dc - mean of dc: each step is nearly its own transpose.
"""

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import (
    Answers,
    Cotangent,
    cast_like,
    data,
    shared_out,
    unbroadcast,
    wide,
)
from onnxviz.autodiff.rules.reduction import over_norm
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops, rank_of


@vjp("BatchNormalization")
def _batch_normalization(
    op: Ops, node: ir.Node, g: Cotangent, g_mean: Cotangent = None, g_var: Cotangent = None
) -> Answers:
    if node.attributes.get_int("training_mode", 0):
        return _batch_normalization_in_training(op, node, g, g_mean, g_var)
    return _batch_normalization_at_inference(op, node, g)


def _batch_normalization_at_inference(op: Ops, node: ir.Node, g: Cotangent) -> Answers:
    """y = scale * n + shift with n = (x - mean) / sqrt(var + epsilon), all per channel."""
    x, scale, _shift, mean, var = node.inputs
    assert x is not None
    others = _all_but_channels(op, x)
    deviation = op.Sqrt(op.Add(var, _epsilon(node)))
    slope = op.Div(scale, deviation)
    dshift = op.ReduceSum(g, others, keepdims=0)
    normal = op.Div(op.Sub(x, _across(op, mean, x)), _across(op, deviation, x))
    dscale = op.ReduceSum(op.Mul(g, normal), others, keepdims=0)
    dmean = op.Neg(op.Mul(slope, dshift))
    dvar = op.Mul(op.Div(op.Mul(dscale, slope), deviation), -0.5)
    return op.Mul(g, _across(op, slope, x)), dscale, dshift, dmean, dvar


def _batch_normalization_in_training(
    op: Ops, node: ir.Node, g: Cotangent, g_mean: Cotangent, g_var: Cotangent
) -> Answers:
    """n is of x's own mean and variance; the part 1 - momentum of these joins the running ones."""
    x, scale, shift, *_running = node.inputs
    assert x is not None
    assert scale is not None
    assert shift is not None
    momentum = node.attributes.get_float("momentum", 0.9)
    axes = _all_but_channels(op, x)
    c = _centred(op, wide(op, x), axes)
    d = _deviation(op, c, axes, node)
    n, g = op.Div(c, d), _arriving(op, g, x)
    dc = _scaled_back(op, op.Mul(g, _across(op, wide(op, scale), x)), n, d, axes)
    if g_var is not None:
        share = shared_out(op, op.Mul(wide(op, g_var), 2 * (1 - momentum)), x)
        dc = op.Add(dc, op.Mul(c, _across(op, share, x)))
    dx = _centred(op, dc, axes)
    if g_mean is not None:
        share = shared_out(op, op.Mul(wide(op, g_mean), 1 - momentum), x)
        dx = op.Add(dx, _across(op, share, x))
    return (
        cast_like(op, dx, x),
        cast_like(op, op.ReduceSum(op.Mul(g, n), axes, keepdims=0), scale),
        cast_like(op, op.ReduceSum(g, axes, keepdims=0), shift),
        ZERO if g_mean is None else op.Mul(g_mean, momentum),
        ZERO if g_var is None else op.Mul(g_var, momentum),
    )


@vjp("LayerNormalization")
def _layer_normalization(
    op: Ops, node: ir.Node, g: Cotangent, g_mean: Cotangent = None, g_inverse: Cotangent = None
) -> Answers:
    """1 / d, an output as the mean is, changes by -n dc / (N d^2), where the means are over N."""
    x, scale, *shift = node.inputs
    assert x is not None
    assert scale is not None
    axes = _last_axes(op, node, x)
    c = _centred(op, wide(op, x), axes)
    d = _deviation(op, c, axes, node)
    n, g = op.Div(c, d), _arriving(op, g, x)
    dc = _scaled_back(op, op.Mul(g, wide(op, scale)), n, d, axes)
    if g_inverse is not None:
        share = shared_out(op, cast_like(op, g_inverse, c), x)
        dc = op.Sub(dc, op.Div(op.Mul(share, n), op.Mul(d, d)))
    dx = _centred(op, dc, axes)
    if g_mean is not None:
        dx = op.Add(dx, shared_out(op, cast_like(op, g_mean, c), x))
    dscale = cast_like(op, unbroadcast(op, op.Mul(g, n), scale, x), scale)
    return (
        cast_like(op, dx, x),
        dscale,
        *(None if b is None else cast_like(op, unbroadcast(op, g, b, x), b) for b in shift),
    )


@vjp("RMSNormalization")
def _rms_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, scale = node.inputs
    assert x is not None
    assert scale is not None
    axes = _last_axes(op, node, x)
    c, g = wide(op, x), wide(op, g)
    d = _deviation(op, c, axes, node)
    n = op.Div(c, d)
    dx = _scaled_back(op, op.Mul(g, wide(op, scale)), n, d, axes)
    return cast_like(op, dx, x), cast_like(op, unbroadcast(op, op.Mul(g, n), scale, x), scale)


@vjp("InstanceNormalization", "GroupNormalization")
def _group_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """The means are per group of channels; scale and shift are per channel or, before opset 21, per group."""
    x, scale, shift = node.inputs
    assert x is not None
    assert scale is not None
    assert shift is not None
    per_scale = op.Concat(op.ints(0), op.shape(scale), op.ints(-1), axis=0)
    groups = node.attributes.get("num_groups")
    per_group = per_scale if groups is None else op.ints(0, groups.as_int(), -1)
    c = _centred(op, op.Reshape(wide(op, x), per_group), op.ints(2))
    d = _deviation(op, c, op.ints(2), node)
    n, g = op.Div(c, d), op.Reshape(wide(op, g), per_scale)
    dn = op.Reshape(op.Mul(g, op.Unsqueeze(wide(op, scale), op.ints(1))), per_group)
    dx = _centred(op, _scaled_back(op, dn, n, d, op.ints(2)), op.ints(2))
    dscale = op.ReduceSum(op.Mul(g, op.Reshape(n, per_scale)), op.ints(0, 2), keepdims=0)
    dshift = op.ReduceSum(g, op.ints(0, 2), keepdims=0)
    return (
        cast_like(op, op.reshape_like(dx, x), x),
        cast_like(op, dscale, scale),
        cast_like(op, dshift, shift),
    )


@vjp("MeanVarianceNormalization")
def _mean_variance_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x = data(node)
    axes = op.ints(*node.attributes.get_ints("axes", (0, 2, 3)))
    c = _centred(op, wide(op, x), axes)
    # This epsilon is outside the root, and too small to show in the derivative otherwise.
    d = op.Add(op.Sqrt(op.ReduceMean(op.Mul(c, c), axes)), 1e-9)
    dc = _scaled_back(op, wide(op, g), op.Div(c, d), d, axes)
    return (cast_like(op, _centred(op, dc, axes), x),)


@vjp("LpNormalization")
def _lp_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = x / norm: dx = (g - slope * sum of g y) / norm, where slope is the norm's own, sign x or y."""
    x, (y,) = data(node), node.outputs
    axis = op.ints(node.attributes.get_int("axis", -1))
    one = node.attributes.get_int("p", 2) == 1
    norm = op.ReduceL1(x, axis) if one else op.ReduceL2(x, axis)
    slope = op.Sign(x) if one else y
    along = op.ReduceSum(op.Mul(g, y), axis)
    return (over_norm(op, op.Sub(g, op.Mul(slope, along)), norm),)


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


def _centred(op: Ops, x: ir.Value, axes: ir.Value) -> ir.Value:
    return op.Sub(x, op.ReduceMean(x, axes))


def _deviation(op: Ops, c: ir.Value, axes: ir.Value, node: ir.Node) -> ir.Value:
    return op.Sqrt(op.Add(op.ReduceMean(op.Mul(c, c), axes), _epsilon(node)))


def _scaled_back(op: Ops, dn: ir.Value, n: ir.Value, d: ir.Value, axes: ir.Value) -> ir.Value:
    """dc of n = c / d."""
    return op.Div(op.Sub(dn, op.Mul(n, op.ReduceMean(op.Mul(dn, n), axes))), d)


def _arriving(op: Ops, g: Cotangent, x: ir.Value) -> ir.Value:
    """The cotangent of the first output, zeros if only the statistics are read."""
    return wide(op, op.zeros_like(x) if g is None else g)


def _epsilon(node: ir.Node) -> float:
    return node.attributes.get_float("epsilon", 1e-5)


def _last_axes(op: Ops, node: ir.Node, x: ir.Value) -> ir.Value:
    """The axes from `axis` on."""
    rank = rank_of(x)
    return op.ints(*range(node.attributes.get_int("axis", -1) % rank, rank))


def _all_but_channels(op: Ops, x: ir.Value) -> ir.Value:
    return op.ints(0, *range(2, rank_of(x)))


def _across(op: Ops, channel: ir.Value | None, x: ir.Value) -> ir.Value:
    """One number per channel, to be spread over x."""
    return op.Reshape(channel, op.ints(-1, *[1] * (rank_of(x) - 2)))
