"""The standard's optimizers: a step of training as an operator; T counts the steps that were made."""

from collections.abc import Callable, Sequence

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import cast_like
from onnxviz.autodiff.ruleset import lowering
from onnxviz.graph.ops import Ops


@lowering("ai.onnx.preview.training::Adagrad")
def _adagrad(op: Ops, node: ir.Node) -> list[ir.Value]:
    """H' = H + G^2, X' = X - R / (1 + T decay) G / (sqrt(H') + epsilon)."""
    decay = node.attributes.get_float("decay_factor", 0.0)
    epsilon = node.attributes.get_float("epsilon", 1e-6)

    def step(
        rate: ir.Value, steps: ir.Value, x: ir.Value, g: ir.Value, h: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        h = op.Add(h, op.Mul(g, g))
        rate = op.Div(rate, op.Add(op.Mul(steps, decay), 1))
        return op.Sub(x, op.Div(op.Mul(rate, g), op.Add(_root(op, h), epsilon))), h

    return _each(op, node, 3, step)


@lowering("ai.onnx.preview.training::Adam")
def _adam(op: Ops, node: ir.Node) -> list[ir.Value]:
    """V' = a V + (1 - a) G, H' = b H + (1 - b) G^2, X' = (1 - post) (X - r V' / (sqrt(H') + epsilon)).

    r = R sqrt(1 - b^T) / (1 - a^T), and R before the first step.
    """
    alpha, beta = node.attributes.get_float("alpha", 0.9), node.attributes.get_float("beta", 0.999)
    epsilon = node.attributes.get_float("epsilon", 1e-6)
    post = node.attributes.get_float("norm_coefficient_post", 0.0)

    def step(
        rate: ir.Value, steps: ir.Value, x: ir.Value, g: ir.Value, v: ir.Value, h: ir.Value
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        v = op.Add(op.Mul(v, alpha), op.Mul(g, 1 - alpha))
        h = op.Add(op.Mul(h, beta), op.Mul(op.Mul(g, g), 1 - beta))
        moved = op.Max(steps, 1)
        unbiased = op.Div(op.Sqrt(op.Sub(1, op.Pow(beta, moved))), op.Sub(1, op.Pow(alpha, moved)))
        rate = op.Mul(rate, op.Where(op.Greater(steps, 0), unbiased, 1))
        x = op.Sub(x, op.Div(op.Mul(rate, v), op.Add(_root(op, h), epsilon)))
        return op.Mul(x, 1 - post), v, h

    return _each(op, node, 4, step)


@lowering("ai.onnx.preview.training::Momentum")
def _momentum(op: Ops, node: ir.Node) -> list[ir.Value]:
    """V' = alpha V + beta G (G in the first step), X' = X - R V', or X - R (G + alpha V') by Nesterov."""
    alpha, beta = node.attributes.get_float("alpha"), node.attributes.get_float("beta")
    ahead = node.attributes.get_string("mode") == "nesterov"

    def step(
        rate: ir.Value, steps: ir.Value, x: ir.Value, g: ir.Value, v: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        v = op.Add(op.Mul(v, alpha), op.Where(op.Greater(steps, 0), op.Mul(g, beta), g))
        return op.Sub(x, op.Mul(rate, op.Add(g, op.Mul(v, alpha)) if ahead else v)), v

    return _each(op, node, 3, step)


def _each(op: Ops, node: ir.Node, count: int, step: Callable[..., Sequence[ir.Value]]) -> list[ir.Value]:
    """`step` for each tensor X, of which `count` inputs tell: first all X, then all G = G + norm X, ..."""
    rate, steps, *tensors = (value for value in node.inputs if value is not None)
    norm = node.attributes.get_float("norm_coefficient", 0.0)
    made = []
    for first in range(len(tensors) // count):
        x, g, *moments = tensors[first :: len(tensors) // count]
        g = op.Add(op.Mul(x, norm), g) if norm else g
        made.append(step(cast_like(op, rate, x), cast_like(op, steps, x), x, g, *moments))
    return [y for kind in zip(*made, strict=True) for y in kind]


def _root(op: Ops, h: ir.Value) -> ir.Value:
    """sqrt(h) with slope 0 at 0: where nothing has moved yet it multiplies zeros."""
    still = op.Equal(h, 0)
    return op.Where(still, 0, op.Sqrt(op.Where(still, 1, h)))
