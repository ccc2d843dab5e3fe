"""Functions of one number: powers, exponentials, trigonometric and hyperbolic functions."""

import math

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers
from onnxviz.autodiff.ruleset import vjp
from onnxviz.graph.ops import Ops


@vjp("Neg")
def _neg(op: Ops, _node: ir.Node, g: ir.Value) -> Answers:
    return (op.Neg(g),)


@vjp("Abs")
def _abs(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, op.Sign(node.inputs[0])),)


@vjp("Reciprocal")
def _reciprocal(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    return (op.Neg(op.Mul(g, op.Mul(y, y))),)


@vjp("Sqrt")
def _sqrt(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Div(g, op.Mul(2, node.outputs[0])),)


@vjp("Exp")
def _exp(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, node.outputs[0]),)


@vjp("Log")
def _log(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Div(g, node.inputs[0]),)


@vjp("Erf")
def _erf(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (x,) = node.inputs
    return (op.Mul(g, op.Mul(2 / math.sqrt(math.pi), op.Exp(op.Neg(op.Mul(x, x))))),)


@vjp("Sin")
def _sin(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, op.Cos(node.inputs[0])),)


@vjp("Cos")
def _cos(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Neg(op.Mul(g, op.Sin(node.inputs[0]))),)


@vjp("Tan")
def _tan(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    return (op.Mul(g, op.Add(1, op.Mul(y, y))),)


@vjp("Asin")
def _asin(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Div(g, op.Sqrt(_one_minus_square(op, node.inputs[0]))),)


@vjp("Acos")
def _acos(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Neg(op.Div(g, op.Sqrt(_one_minus_square(op, node.inputs[0])))),)


@vjp("Atan")
def _atan(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (x,) = node.inputs
    return (op.Div(g, op.Add(1, op.Mul(x, x))),)


@vjp("Sinh")
def _sinh(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, op.Cosh(node.inputs[0])),)


@vjp("Cosh")
def _cosh(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, op.Sinh(node.inputs[0])),)


@vjp("Asinh")
def _asinh(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """dy/dx = 1 / sqrt(x^2 + 1) = 1 / cosh y, whose square cannot overflow."""
    return (op.Div(g, op.Cosh(node.outputs[0])),)


@vjp("Acosh")
def _acosh(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """dy/dx = 1 / sqrt(x^2 - 1) = 1 / sinh y, whose square cannot overflow."""
    return (op.Div(g, op.Sinh(node.outputs[0])),)


@vjp("Atanh")
def _atanh(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Div(g, _one_minus_square(op, node.inputs[0])),)


def _one_minus_square(op: Ops, x: ir.Value | None) -> ir.Value:
    """1 - x^2, exact to the last digit near 1 too."""
    return op.Mul(op.Sub(1, x), op.Add(1, x))
