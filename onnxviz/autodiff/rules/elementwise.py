"""Arithmetic and elementary functions, element by element (broadcasting undone)."""

import math

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, cast_like, data, unbroadcast
from onnxviz.autodiff.ruleset import ZERO, constant_everywhere, vjp
from onnxviz.graph.ops import Ops

constant_everywhere("Floor", "Ceil", "Round", "Sign", "ConstantOfShape")


@vjp("Identity")
def _identity(_op: Ops, _node: ir.Node, g: ir.Value) -> Answers:
    return (g,)


@vjp("Neg")
def _neg(op: Ops, _node: ir.Node, g: ir.Value) -> Answers:
    return (op.Neg(g),)


@vjp("Exp")
def _exp(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, node.outputs[0]),)


@vjp("Log")
def _log(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Div(g, node.inputs[0]),)


@vjp("Sqrt")
def _sqrt(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Div(g, op.Mul(2, node.outputs[0])),)


@vjp("Abs")
def _abs(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, op.Sign(node.inputs[0])),)


@vjp("Erf")
def _erf(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (x,) = node.inputs
    return (op.Mul(g, op.Mul(2 / math.sqrt(math.pi), op.Exp(op.Neg(op.Mul(x, x))))),)


@vjp("Cast")
def _cast(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x = data(node)
    if x.dtype is None:
        return (None,)
    return (op.Cast(g, to=int(x.dtype)) if x.dtype.is_floating_point() else ZERO,)


@vjp("Add", "Sum")
def _sum(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return [unbroadcast(op, g, x, node.outputs[0]) for x in node.inputs if x is not None]


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
