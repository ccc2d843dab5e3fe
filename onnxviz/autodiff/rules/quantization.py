"""Quantisers and the operators on quantised tensors.

In truth what rounds is constant almost everywhere. `straight-through` is the saturating straight-through
estimator (Bengio et al. 2013, with the range clipped, as PyTorch's fake_quantize has it): the rounding
counts as the identity where its result lies within the range of the integer type, and as a constant beyond.
An integer is differentiated as the number it is, so a dequantiser and the sums of ConvInteger are linear.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.backward import is_float
from onnxviz.autodiff.functions import Body, through
from onnxviz.autodiff.rules.helpers import Answers, Cotangent, cast_like, data
from onnxviz.autodiff.ruleset import (
    ZERO,
    Rule,
    constant_everywhere,
    gradient_of,
    lowering,
    operator_key,
    vjp,
)
from onnxviz.graph.ops import Ops, constant_of, rank_of

_rounding: dict[str, Rule] = {}


def is_quantiser(node: ir.Node) -> bool:
    """Whether a node rounds numbers to integers that stand for them."""
    return operator_key(node) in _rounding


def rounding(*operators: str) -> Callable[[Rule], Rule]:
    """Register the straight-through derivative of operators that round."""

    def register(rule: Rule) -> Rule:
        _rounding.update(dict.fromkeys(operators, rule))
        return rule

    return register


constant_everywhere("QuantizeLinear", "com.microsoft::QuantizeLinear")


@rounding("QuantizeLinear", "com.microsoft::QuantizeLinear")
def _quantize(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = round(x / s) + z within the type's range: dx = g / s, and ds = -dx x / s as in LSQ (Esser 2020)."""
    (x, s, *zero), (y,) = node.inputs, node.outputs
    assert x is not None
    assert s is not None
    like = x if is_float(x) else s
    scale = _spread(op, node, s, like)
    shift = op.constant(np.zeros((), like.dtype.numpy()))  # type: ignore[union-attr]
    if zero and zero[0] is not None:
        shift = _spread(op, node, zero[0], like)
    dtype = y.dtype or ir.DataType.UINT8
    low, high = (op.Sub(_limit(end, like), shift) for end in (dtype.min, dtype.max))
    steps = op.Div(cast_like(op, x, like), scale)
    rounded = op.Round(steps) if dtype.is_integer() else steps
    inside = op.And(op.GreaterOrEqual(rounded, low), op.LessOrEqual(rounded, high))
    passed = op.Where(inside, cast_like(op, g, like), 0)
    dx = op.Div(passed, scale)
    ds = _gathered(op, node, op.Neg(op.Mul(dx, steps)), s)
    return dx, cast_like(op, ds, s), *(z and _gathered(op, node, passed, z) for z in zero)


@rounding("DynamicQuantizeLinear")
def _dynamic_quantize(op: Ops, node: ir.Node, g: Cotangent, *_parameters: Cotangent) -> Answers:
    """dx = g / scale: the range is that of x, and scale and zero point count as constants."""
    return (ZERO if g is None else op.Div(g, node.outputs[1]),)


@vjp("DequantizeLinear", "com.microsoft::DequantizeLinear")
def _dequantize(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = (x - z) s."""
    x, s, *zero = node.inputs
    assert x is not None
    assert s is not None
    dx = op.Mul(g, _spread(op, node, s, g))
    number = cast_like(op, x, g)
    if zero and zero[0] is not None:
        number = op.Sub(number, _spread(op, node, zero[0], g))
    ds = _gathered(op, node, op.Mul(g, number), s)
    return dx, cast_like(op, ds, s), *(z and op.Neg(_gathered(op, node, dx, z)) for z in zero)


def _cast(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """The sums of integer operators go on as floats: a cast keeps the number."""
    x = data(node)
    return (g,) if x.dtype is not None and x.dtype.is_integer() else gradient_of(op, node, g)


def _spread(op: Ops, node: ir.Node, s: ir.Value, like: ir.Value) -> ir.Value:
    """A scale or zero point, broadcast against the data: one for all, one per place on an axis, or per block."""
    x, block = data(node), node.attributes.get_int("block_size", 0)
    if _is_single(s):
        wide = s if s.shape == [] else op.Reshape(s, op.ints())
    elif rank_of(s) == 1:
        wide = op.Reshape(s, op.ints(-1, *[1] * (rank_of(x) - _axis(node) - 1)))
    else:
        axis = _axis(node)
        places = op.Range(op.scalar(0), op.Squeeze(op.shape(x, axis, axis + 1)), op.scalar(1))
        wide = op.Gather(s, op.Div(places, block), axis=axis)
    return cast_like(op, wide, like)


def _gathered(op: Ops, node: ir.Node, g: ir.Value, s: ir.Value) -> ir.Value:
    """The transpose of `_spread`: sums of g, shaped like the scale s."""
    x = data(node)
    if _is_single(s):
        return op.Reshape(op.ReduceSum(g, keepdims=0), op.shape(s))
    axis, block = _axis(node), node.attributes.get_int("block_size", 0)
    if rank_of(s) == 1:
        return op.ReduceSum(g, op.ints(*(i for i in range(rank_of(x)) if i != axis)), keepdims=0)
    size, blocks = op.shape(x, axis, axis + 1), op.shape(s, axis, axis + 1)
    missing = op.Sub(op.Mul(blocks, block), size)
    full = op.Pad(g, op.Concat(op.ints(0), missing, axis=0), None, op.ints(axis))
    split = op.Concat(op.shape(x, 0, axis), blocks, op.ints(block), op.shape(x, axis + 1), axis=0)
    return op.ReduceSum(op.Reshape(full, split), op.ints(axis + 1), keepdims=0)


def _is_single(s: ir.Value) -> bool:
    return s.shape is not None and all(size == 1 for size in s.shape) and len(s.shape) < 2


def _axis(node: ir.Node) -> int:
    return node.attributes.get_int("axis", 1) % rank_of(data(node))


def _limit(end: float, like: ir.Value) -> float:
    """An end of a type's range, if need be the largest float beside it (the end of uint16 is no half float)."""
    assert like.dtype is not None
    return max(like.dtype.min, min(end, like.dtype.max))


# Operators on quantised tensors, as their floats compute


def floats(op: Ops, node: ir.Node, place: int, axis: int | None = None) -> ir.Value:
    """An input of a node, dequantised by the scale and zero point that come behind it."""
    q, scale, zero = (*node.inputs[place : place + 3], None)[:3]
    assert q is not None
    assert scale is not None
    return _typed(op.DequantizeLinear(q, scale, zero, axis=axis), q, scale.dtype)


def number(op: Ops, q: ir.Value | None, zero: ir.Value | None) -> ir.Value:
    """An integer less its zero point, as a float."""
    one = op.constant(np.ones((), np.float32))
    x, shift = (q and _typed(op.DequantizeLinear(q, one), q, ir.DataType.FLOAT) for q in (q, zero))
    return op.Sub(x, shift) if shift is not None else x  # type: ignore[return-value]


def _typed(value: ir.Value, like: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    value.type, value.shape = ir.TensorType(dtype or ir.DataType.FLOAT), like.shape
    return value


def straight_through(body: Body, scale: int) -> Rule:
    """The rule of an operator that is `body` on floats, then quantised by the inputs from `scale` on.

    g / scale where the integer that came out lies strictly inside its type's range (a Relu is often nothing
    but the end of that range), and from there back through the floats.
    """
    back = through(body)

    def rule(op: Any, node: ir.Node, g: ir.Value) -> Mapping[ir.Value, Any]:
        (y,), parameters = node.outputs, node.inputs[scale : scale + 2]
        dtype = y.dtype or ir.DataType.UINT8
        came = op.Cast(y, to=int(ir.DataType.FLOAT))
        inside = op.And(op.Greater(came, float(dtype.min)), op.Less(came, float(dtype.max)))
        answers = back(op, node, op.Div(op.Where(inside, g, 0), parameters[0]))
        return {**answers, **{value: None for value in parameters if value is not None}}

    return rule


def quantised(*operators: str, scale: int) -> Callable[[Body], Body]:
    """Register operators that are `body` on floats, then quantised: see `straight_through`."""

    def register(body: Body) -> Body:
        constant_everywhere(*operators)
        rounding(*operators)(straight_through(body, scale))
        return body

    return register


@quantised("QLinearConv", "com.microsoft::QLinearConv", scale=6)
def _qlinear_conv(op: Ops, node: ir.Node) -> ir.Value:
    x, w = floats(op, node, 0), floats(op, node, 3, axis=0)
    bias = [op.DequantizeLinear(b, op.Mul(node.inputs[1], node.inputs[4]), axis=0) for b in node.inputs[8:] if b]
    return channels_first(op, node, x, lambda x, kept: op.emit("Conv", [x, w, *bias], kept)[0])


@quantised("QLinearMatMul", scale=6)
def _qlinear_matmul(op: Ops, node: ir.Node) -> ir.Value:
    a, b = node.inputs[0], node.inputs[3]
    assert a is not None
    return op.MatMul(floats(op, node, 0, axis=max(rank_of(a) - 2, 0)), floats(op, node, 3, axis=-1))


@quantised("com.microsoft::QLinearAdd", scale=6)
def _qlinear_add(op: Ops, node: ir.Node) -> ir.Value:
    return op.Add(floats(op, node, 0), floats(op, node, 3))


@quantised("com.microsoft::QLinearMul", scale=6)
def _qlinear_mul(op: Ops, node: ir.Node) -> ir.Value:
    return op.Mul(floats(op, node, 0), floats(op, node, 3))


@quantised("com.microsoft::QLinearConcat", scale=0)
def _qlinear_concat(op: Ops, node: ir.Node) -> ir.Value:
    parts = [floats(op, node, place) for place in range(2, len(node.inputs), 3)]
    return op.Concat(*parts, axis=node.attributes.get_int("axis"))


@quantised("com.microsoft::QLinearWhere", scale=7)
def _qlinear_where(op: Ops, node: ir.Node) -> ir.Value:
    return op.Where(node.inputs[0], floats(op, node, 1), floats(op, node, 4))


@quantised("com.microsoft::QLinearSigmoid", scale=3)
def _qlinear_sigmoid(op: Ops, node: ir.Node) -> ir.Value:
    return op.Sigmoid(floats(op, node, 0))


@quantised("com.microsoft::QLinearLeakyRelu", scale=3)
def _qlinear_leaky_relu(op: Ops, node: ir.Node) -> ir.Value:
    return op.LeakyRelu(floats(op, node, 0), alpha=node.attributes.get_float("alpha", 0.01))


@quantised("com.microsoft::QLinearSoftmax", scale=3)
def _qlinear_softmax(op: Ops, node: ir.Node) -> ir.Value:
    x, axis = floats(op, node, 0), node.attributes.get_int("axis", -1)
    if node.attributes.get_int("opset", 13) >= 13:
        return op.Softmax(x, axis=axis)
    return op.Reshape(op.Softmax(op.Flatten(x, axis=axis), axis=-1), op.shape(x))


@quantised("com.microsoft::QLinearAveragePool", scale=3)
def _qlinear_average_pool(op: Ops, node: ir.Node) -> ir.Value:
    x = floats(op, node, 0)
    return channels_first(op, node, x, lambda x, kept: op.emit("AveragePool", [x], kept)[0])


@quantised("com.microsoft::QLinearGlobalAveragePool", scale=3)
def _qlinear_global_average_pool(op: Ops, node: ir.Node) -> ir.Value:
    return channels_first(op, node, floats(op, node, 0), lambda x, _kept: op.GlobalAveragePool(x))


@quantised("com.microsoft::QLinearReduceMean", scale=3)
def _qlinear_reduce_mean(op: Ops, node: ir.Node) -> ir.Value:
    axes = node.attributes.get_ints("axes", None)
    return op.ReduceMean(
        floats(op, node, 0), axes and op.ints(*axes), keepdims=node.attributes.get_int("keepdims", 1)
    )


def channels_first(
    op: Ops,
    node: ir.Node,
    x: ir.Value,
    body: Callable[[ir.Value, Mapping[str, Any]], ir.Value],
    last: bool | None = None,
) -> ir.Value:
    """`body` on x with its channels on axis 1, and by the node's attributes but `channels_last`."""
    kept = dict(node.attributes)
    said = kept.pop("channels_last", None)
    if not (last if last is not None else said is not None and said.as_int()):
        return body(x, kept)
    rank = rank_of(x)
    moved = op.Transpose(x, perm=[0, rank - 1, *range(1, rank - 1)])
    if x.shape is not None:
        moved.shape = ir.Shape([x.shape[0], x.shape[-1], *list(x.shape)[1:-1]])
    return op.Transpose(body(moved, kept), perm=[0, *range(2, rank), 1])


def _qgemm(op: Ops, node: ir.Node) -> ir.Value:
    """alpha a b + c, where c has the scale alpha s_a s_b."""
    attributes = node.attributes
    alpha = attributes.get_float("alpha", 1.0)
    a, b = floats(op, node, 0), floats(op, node, 3, axis=1 - attributes.get_int("transB", 0))
    c = [
        op.DequantizeLinear(value, op.Mul(op.Mul(node.inputs[1], node.inputs[4]), alpha))
        for value in node.inputs[6:7]
        if value is not None
    ]
    return op.emit("Gemm", [a, b, *c], dict(attributes))[0]


@vjp("com.microsoft::QGemm")
def _qgemm_exactly(op: Ops, node: ir.Node, g: ir.Value) -> Any:
    """Without a scale its output are floats, and nothing is rounded."""
    return [ZERO] * len(node.inputs) if node.inputs[7:] else through(_qgemm)(op, node, g)


@rounding("com.microsoft::QGemm")
def _qgemm_straight(op: Ops, node: ir.Node, g: ir.Value) -> Any:
    return (straight_through(_qgemm, scale=7) if node.inputs[7:] else through(_qgemm))(op, node, g)


@lowering("MatMulInteger")
def _matmul_integer(op: Ops, node: ir.Node) -> ir.Value:
    a, b, za, zb = (*node.inputs, None, None)[:4]
    if za is not None and a is not None and rank_of(za) == 1 and rank_of(a) > 1 and not _is_single(za):
        za = op.Unsqueeze(za, op.ints(-1))
    return op.MatMul(number(op, a, za), number(op, b, zb))


@lowering("ConvInteger")
def _conv_integer(op: Ops, node: ir.Node) -> ir.Value:
    x, w, zx, zw = (*node.inputs, None, None)[:4]
    assert w is not None
    if zw is not None and rank_of(zw) == 1:
        zw = op.Reshape(zw, op.ints(-1, *[1] * (rank_of(w) - 1)))
    return op.emit("Conv", [number(op, x, zx), number(op, w, zw)], dict(node.attributes))[0]


STRAIGHT_THROUGH_RULES: Mapping[str, Rule] = MappingProxyType({**_rounding, "Cast": _cast})
