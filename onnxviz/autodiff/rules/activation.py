"""Activation functions. Masks come from the output where they can, so that Conv + activation stays fused."""

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, data, unbroadcast
from onnxviz.autodiff.ruleset import vjp
from onnxviz.graph.ops import Ops


@vjp("Relu")
def _relu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    return (op.Where(op.Greater(y, 0), g, 0),)


@vjp("LeakyRelu")
def _leaky_relu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (x,) = node.inputs
    alpha = node.attributes.get_float("alpha", 0.01)
    return (op.Where(op.Less(x, 0), op.Mul(g, alpha), g),)


@vjp("PRelu")
def _prelu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, slope = data(node), node.inputs[1]
    below = op.Less(x, 0)
    dslope = op.Where(below, op.Mul(g, x), 0)
    return op.Where(below, op.Mul(g, slope), g), unbroadcast(op, dslope, slope, x)


@vjp("Clip")
def _clip(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, *bounds = node.inputs
    low, high = (*bounds, None, None)[:2]
    (y,) = node.outputs
    dx = g
    if low is not None:
        dx = op.Where(op.Greater(y, low), dx, 0)
    if high is not None:
        dx = op.Where(op.Less(y, high), dx, 0)

    def at(bound: ir.Value | None, outside: str) -> ir.Value | None:
        if bound is None:
            return None
        return op.ReduceSum(op.Where(op.emit(outside, [x, bound], {})[0], g, 0), keepdims=0)

    return (dx, at(low, "Less"), at(high, "Greater"))[: len(node.inputs)]


@vjp("Sigmoid")
def _sigmoid(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    return (op.Mul(g, op.Mul(y, op.Sub(1, y))),)


@vjp("HardSigmoid")
def _hard_sigmoid(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    alpha = node.attributes.get_float("alpha", 0.2)
    inside = op.And(op.Greater(y, 0), op.Less(y, 1))
    return (op.Where(inside, op.Mul(g, alpha), 0),)


@vjp("HardSwish")
def _hard_swish(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (x,) = node.inputs
    gate = op.HardSigmoid(x, alpha=1 / 6, beta=0.5)
    slope = op.Where(op.Less(op.Abs(x), 3), op.Div(x, 6), 0)
    return (op.Mul(g, op.Add(gate, slope)),)


@vjp("Tanh")
def _tanh(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    return (op.Mul(g, op.Sub(1, op.Mul(y, y))),)


@vjp("Softmax")
def _softmax(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    axis = op.ints(node.attributes.get_int("axis", -1))
    return (op.Mul(y, op.Sub(g, op.ReduceSum(op.Mul(g, y), axis, keepdims=1))),)


@vjp("LogSoftmax")
def _log_softmax(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    axis = op.ints(node.attributes.get_int("axis", -1))
    return (op.Sub(g, op.Mul(op.Exp(y), op.ReduceSum(g, axis, keepdims=1))),)
