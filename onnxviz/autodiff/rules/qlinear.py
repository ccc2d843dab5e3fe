"""Operators on quantised tensors: each is written on the floats that its integers stand for."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.functions import through
from onnxviz.autodiff.rules.helpers import channels_first, data
from onnxviz.autodiff.rules.quantization import behind_floats, quantised, straight_through
from onnxviz.autodiff.ruleset import ZERO, lowering, node_name, vjp
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.ops import Ops, rank_of


def floats(op: Ops, node: ir.Node, place: int, axis: int | None = None) -> ir.Value:
    """An input of a node, dequantised by the scale and zero point that come behind it."""
    q, scale, zero = (*node.inputs[place : place + 3], None)[:3]
    return dequantised(op, q, scale, zero, axis)


def dequantised(
    op: Ops, q: ir.Value | None, scale: ir.Value | None, zero: ir.Value | None = None, axis: int | None = None
) -> ir.Value:
    """The floats that integers stand for."""
    assert q is not None
    assert scale is not None
    return _typed(op.DequantizeLinear(q, scale, zero, axis=axis), q, scale.dtype)


def number(op: Ops, q: ir.Value | None, zero: ir.Value | None) -> ir.Value:
    """An integer less its zero point, as a float."""
    one = op.constant(np.ones((), np.float32))
    x = dequantised(op, q, one)
    return x if zero is None else op.Sub(x, dequantised(op, zero, one))


def _typed(value: ir.Value, like: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    value.type, value.shape = ir.TensorType(dtype or ir.DataType.FLOAT), like.shape
    return value


@quantised("QLinearConv", "com.microsoft::QLinearConv", scale=6)
def _qlinear_conv(op: Ops, node: ir.Node) -> ir.Value:
    x, w = floats(op, node, 0), floats(op, node, 3, axis=0)
    bias = [
        op.DequantizeLinear(b, op.Mul(node.inputs[1], node.inputs[4]), axis=0) for b in node.inputs[8:] if b
    ]
    return channels_first(op, node, x, lambda x, kept: op.emit("Conv", [x, w, *bias], kept)[0])


@quantised("QLinearMatMul", scale=6)
def _qlinear_matmul(op: Ops, node: ir.Node) -> ir.Value:
    rows = max(rank_of(data(node)) - 2, 0)
    return op.MatMul(floats(op, node, 0, axis=rows), floats(op, node, 3, axis=-1))


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


@straight_through("com.microsoft::QGemm")
def _qgemm_straight(op: Ops, node: ir.Node, g: ir.Value) -> Any:
    return (behind_floats(_qgemm, scale=7) if node.inputs[7:] else through(_qgemm))(op, node, g)


@lowering("MatMulInteger")
def _matmul_integer(op: Ops, node: ir.Node) -> ir.Value:
    a, b, za, zb = (*node.inputs, None, None)[:4]
    if za is not None and a is not None and rank_of(za) == 1 and rank_of(a) > 1 and not False:
        za = op.Unsqueeze(za, op.ints(-1))
    return op.MatMul(number(op, a, za), number(op, b, zb))


@lowering("ConvInteger")
def _conv_integer(op: Ops, node: ir.Node) -> ir.Value:
    x, w, zx, zw = (*node.inputs, None, None)[:4]
    assert w is not None
    if zw is not None and rank_of(zw) == 1:
        zw = op.Reshape(zw, op.ints(-1, *[1] * (rank_of(w) - 1)))
    return op.emit("Conv", [number(op, x, zx), number(op, w, zw)], dict(node.attributes))[0]


@lowering("com.microsoft::MatMulIntegerToFloat")
def _matmul_integer_to_float(op: Ops, node: ir.Node) -> ir.Value:
    a, b, scale_a, scale_b, za, zb, bias = (*node.inputs, None, None, None)[:7]
    y = op.Mul(op.MatMul(number(op, a, za), number(op, b, zb)), op.Mul(scale_a, scale_b))
    return op.Add(y, bias) if bias is not None else y


@straight_through("com.microsoft::DynamicQuantizeMatMul")
@through
def _dynamic_quantize_matmul(op: Ops, node: ir.Node) -> ir.Value:
    """As for DynamicQuantizeLinear: the scale of a is a constant, and nothing lies beyond its range."""
    a, b, scale, zero, bias = (*node.inputs, None, None)[:5]
    y = op.Mul(op.MatMul(a, number(op, b, zero)), scale)
    return op.Add(y, bias) if bias is not None else y


@lowering("com.microsoft::MatMulNBits")
def _matmul_n_bits(op: Ops, node: ir.Node) -> ir.Value:
    """a w^T, w packed in bytes: [N, blocks, bytes], the first number in the lowest bits."""
    a, packed, scales, zero, places, bias = (*node.inputs, None, None, None)[:6]
    bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size")
    assert a is not None
    assert scales is not None
    if places is not None:
        raise UnsupportedOperator(f"MatMulNBits node {node_name(node)!r} reorders its groups (g_idx)")
    n, k = node.attributes.get_int("N"), node.attributes.get_int("K")
    blocks = -(-k // block)
    number = op.Reshape(_unpacked(op, packed, bits, a), op.ints(n, blocks, block))
    shift: ir.Value | float = 2.0 ** (bits - 1)
    if zero is not None:
        loose = zero if zero.dtype == scales.dtype else _unpacked(op, zero, bits, a)
        rows = op.Reshape(loose, op.ints(n, -1))
        shift = op.Reshape(op.Slice(rows, op.ints(0), op.ints(blocks), op.ints(1)), op.ints(n, blocks, 1))
    real = op.Mul(op.Sub(number, shift), op.Reshape(scales, op.ints(n, blocks, 1)))
    w = op.Slice(op.Reshape(real, op.ints(n, blocks * block)), op.ints(0), op.ints(k), op.ints(1))
    y = op.MatMul(a, op.Transpose(w, perm=[1, 0]))
    return op.Add(y, bias) if bias is not None else y


def _unpacked(op: Ops, packed: ir.Value | None, bits: int, like: ir.Value) -> ir.Value:
    """The numbers in each byte, as floats."""
    assert like.dtype is not None
    shifts, most = (op.constant(np.array(v, np.uint8)) for v in (range(0, 8, bits), 2**bits - 1))
    spread = op.BitShift(op.Unsqueeze(packed, op.ints(-1)), shifts, direction="RIGHT")
    return op.Cast(op.BitwiseAnd(spread, most), to=int(like.dtype))
