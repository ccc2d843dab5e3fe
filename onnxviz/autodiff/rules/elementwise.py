"""Arithmetic, choice and conversion, element by element (broadcasting undone)."""

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, cast_like, data, unbroadcast
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops


@vjp("Identity")
def _identity(_op: Ops, _node: ir.Node, g: ir.Value) -> Answers:
    return (g,)


@vjp("Cast")
def _cast(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x = data(node)
    if x.dtype is None:
        return (None,)
    if not x.dtype.is_floating_point():
        return (ZERO,)
    # The smallest floats stand for others, as integers do: a cotangent is none of them.
    return (g if x.dtype.bitwidth < 16 else op.Cast(g, to=int(x.dtype)),)


@vjp("CastLike")
def _cast_like(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return *_cast(op, node, g), ZERO


@vjp("BitCast")
def _bit_cast(_op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """Floats read as the type that they are; read as another they have no derivative."""
    return (g if data(node).dtype == node.outputs[0].dtype else None,)


@vjp("Add", "Sum")
def _sum(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return [unbroadcast(op, g, x, node.outputs[0]) for x in node.inputs if x is not None]


@vjp("Mean")
def _mean(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    share = op.Div(g, len(node.inputs))
    return [unbroadcast(op, share, x, node.outputs[0]) for x in node.inputs]


@vjp("Max", "Min")
def _extreme(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """To the largest or smallest, in equal shares where several are."""
    (y,) = node.outputs
    chosen = [cast_like(op, op.Equal(x, y), y) for x in node.inputs]
    share = op.Div(g, op.Sum(*chosen))
    return [unbroadcast(op, op.Mul(c, share), x, y) for c, x in zip(chosen, node.inputs, strict=True)]


@vjp("Sub")
def _sub(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (a, b), (y,) = node.inputs, node.outputs
    return unbroadcast(op, g, a, y), unbroadcast(op, op.Neg(g), b, y)


@vjp("Mul")
def _mul(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (a, b), (y,) = node.inputs, node.outputs
    return unbroadcast(op, op.Mul(g, b), a, y), unbroadcast(op, op.Mul(g, a), b, y)


@vjp("Div")
def _div(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (a, b), (y,) = node.inputs, node.outputs
    over = op.Div(g, b)
    return unbroadcast(op, over, a, y), unbroadcast(op, op.Neg(op.Mul(over, y)), b, y)


@vjp("Mod")
def _mod(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = a - q b with a whole q, which `fmod` says how to round."""
    (a, b), (y,) = node.inputs, node.outputs
    quotient = op.Round(op.Div(op.Sub(a, y), b))
    return unbroadcast(op, g, a, y), unbroadcast(op, op.Neg(op.Mul(g, quotient)), b, y)


@vjp("Pow")
def _pow(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (a, b), (y,) = node.inputs, node.outputs
    assert a is not None
    assert b is not None
    exponent = cast_like(op, b, a)
    lowered = op.Mul(exponent, op.Pow(a, op.Sub(exponent, 1)))
    # 0 ** b is 0 for every b > 0: the logarithm must not turn that into a NaN.
    logarithm = op.Log(op.Where(op.Greater(a, 0), a, 1))
    grown = cast_like(op, op.Mul(g, op.Mul(y, logarithm)), b)
    return unbroadcast(op, op.Mul(g, lowered), a, y), unbroadcast(op, grown, b, y)


@vjp("Where")
def _where(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (condition, a, b), (y,) = node.inputs, node.outputs
    return (
        ZERO,
        unbroadcast(op, op.Where(condition, g, 0), a, y),
        unbroadcast(op, op.Where(condition, 0, g), b, y),
    )
