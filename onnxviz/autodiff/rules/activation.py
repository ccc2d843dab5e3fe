"""Activation functions. Masks come from the output where they can, so that Conv + activation stays fused."""

import math

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


@vjp("ThresholdedRelu")
def _thresholded_relu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    alpha = node.attributes.get_float("alpha", 1.0)
    return (op.Where(op.Greater(node.inputs[0], alpha), g, 0),)


@vjp("Shrink")
def _shrink(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    lambd = node.attributes.get_float("lambd", 0.5)
    return (op.Where(op.Greater(op.Abs(node.inputs[0]), lambd), g, 0),)


@vjp("Clip")
def _clip(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = min(max(x, low), high), also where low > high."""
    x, *bounds = node.inputs
    low, high = (*bounds, None, None)[:2]
    (y,) = node.outputs
    dx = g
    if low is not None:
        dx = op.Where(op.Greater(y, low), dx, 0)
    if high is not None:
        dx = op.Where(op.Less(y, high), dx, 0)

    def total(where: ir.Value) -> ir.Value:
        return op.ReduceSum(op.Where(where, g, 0), keepdims=0)

    def at_low() -> ir.Value:
        below = op.Less(x, low)
        return total(below if high is None else op.And(below, op.Less(low, high)))

    def at_high() -> ir.Value:
        return total(op.Greater(x if low is None else op.Max(x, low), high))

    return (dx, low and at_low, high and at_high)[: len(node.inputs)]


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


@vjp("Elu")
def _elu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (x,) = node.inputs
    alpha = node.attributes.get_float("alpha", 1.0)
    return (op.Where(op.Greater(x, 0), g, op.Mul(g, op.Mul(op.Exp(op.Min(x, 0)), alpha))),)


@vjp("Selu")
def _selu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (x,) = node.inputs
    alpha = node.attributes.get_float("alpha", 1.67326319217681884765625)
    gamma = node.attributes.get_float("gamma", 1.05070102214813232421875)
    return (op.Mul(g, op.Where(op.Greater(x, 0), gamma, op.Mul(op.Exp(op.Min(x, 0)), alpha * gamma))),)


@vjp("Celu")
def _celu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    alpha = node.attributes.get_float("alpha", 1.0)
    return (op.Mul(g, op.Exp(op.Div(op.Min(node.inputs[0], 0), alpha))),)


@vjp("Softplus")
def _softplus(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, op.Sigmoid(node.inputs[0])),)


@vjp("Softsign")
def _softsign(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    below = op.Add(1, op.Abs(node.inputs[0]))
    return (op.Div(op.Div(g, below), below),)


@vjp("Mish")
def _mish(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = x t with t = tanh(softplus(x)): dy/dx = t + x (1 - t^2) sigmoid(x)."""
    (x,) = node.inputs
    t = op.Tanh(op.Softplus(x))
    bend = op.Mul(op.Sub(1, op.Mul(t, t)), op.Sigmoid(x))
    return (op.Mul(g, op.Add(t, op.Mul(x, bend))),)


@vjp("Swish")
def _swish(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return (op.Mul(g, _swish_slope(op, data(node), node)),)


@vjp("SwiGLU")
def _swiglu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = swish(a) b."""
    a, b = data(node), node.inputs[1]
    swish = op.Mul(a, _gate(op, a, node))
    return op.Mul(op.Mul(g, b), _swish_slope(op, a, node)), op.Mul(g, swish)


def _gate(op: Ops, x: ir.Value, node: ir.Node) -> ir.Value:
    """s = sigmoid(alpha x)."""
    alpha = node.attributes.get_float("alpha", 1.0)
    return op.Sigmoid(x if alpha == 1 else op.Mul(x, alpha))


def _swish_slope(op: Ops, x: ir.Value, node: ir.Node) -> ir.Value:
    """The derivative of x s: s + alpha x s (1 - s)."""
    s = _gate(op, x, node)
    bend = op.Mul(op.Mul(s, op.Sub(1, s)), node.attributes.get_float("alpha", 1.0))
    return op.Add(s, op.Mul(x, bend))


@vjp("Gelu")
def _gelu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = x p, with p = (1 + erf(x / sqrt 2)) / 2 or (1 + tanh u) / 2: dy/dx = p + x dp/dx."""
    # Beyond 10 the slope is 0 or 1, and powers of x would overflow a half float.
    x = op.Clip(node.inputs[0], -10, 10)
    square = op.Mul(x, x)
    if node.attributes.get_string("approximate", "none") == "tanh":
        c = math.sqrt(2 / math.pi)
        t = op.Tanh(op.Mul(op.Mul(x, c), op.Add(1, op.Mul(square, 0.044715))))
        du = op.Mul(op.Add(1, op.Mul(square, 3 * 0.044715)), c)
        p, dp = op.Add(1, t), op.Mul(op.Sub(1, op.Mul(t, t)), du)
    else:
        p = op.Add(1, op.Erf(op.Mul(x, math.sqrt(0.5))))
        dp = op.Mul(op.Exp(op.Mul(square, -0.5)), math.sqrt(2 / math.pi))
    return (op.Mul(g, op.Mul(op.Add(p, op.Mul(x, dp)), 0.5)),)


@vjp("Tanh")
def _tanh(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    return (op.Mul(g, op.Sub(1, op.Mul(y, y))),)


@vjp("Softmax")
def _softmax(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    if _is_chosen_from(y):  # as in attention: what is no number, in a row that is masked whole, is not taken
        y = op.Where(op.IsNaN(y), 0, y)
    axis = op.ints(node.attributes.get_int("axis", -1))
    return (op.Mul(y, op.Sub(g, op.ReduceSum(op.Mul(g, y), axis, keepdims=1))),)


def _is_chosen_from(y: ir.Value) -> bool:
    """Whether a value, maybe in another type, is asked for numbers or set against another one."""
    return any(
        use.node.op_type in ("IsNaN", "Where")
        or (use.node.op_type in ("Cast", "CastLike") and _is_chosen_from(use.node.outputs[0]))
        for use in y.uses()
    )


@vjp("LogSoftmax")
def _log_softmax(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (y,) = node.outputs
    axis = op.ints(node.attributes.get_int("axis", -1))
    return (op.Sub(g, op.Mul(op.Exp(y), op.ReduceSum(g, axis, keepdims=1))),)
