"""Reductions over axes that may be given, computed or left out, and running sums and products."""

import math

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, cast_like, data, shared_out
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops, constant_of, rank_of


@vjp("ReduceSum")
def _reduce_sum(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x = data(node)
    return op.Expand(_kept(op, node, g), op.shape(x)), *_axes(node)


@vjp("ReduceMean")
def _reduce_mean(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x = data(node)
    share = shared_out(op, _kept(op, node, g), x)
    return op.Expand(share, op.shape(x)), *_axes(node)


@vjp("ReduceMax", "ReduceMin")
def _reduce_extreme(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """To the largest or smallest, in equal shares where several are."""
    x, (y,) = data(node), node.outputs
    chosen = cast_like(op, op.Equal(x, _kept(op, node, y)), x)
    share = op.Div(_kept(op, node, g), _reduced(op, node, "ReduceSum", chosen))
    return op.Mul(chosen, share), *_axes(node)


@vjp("ReduceL1")
def _reduce_l1(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return op.Mul(_kept(op, node, g), op.Sign(data(node))), *_axes(node)


@vjp("ReduceL2")
def _reduce_l2(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    norm = _kept(op, node, node.outputs[0])
    return op.Mul(_kept(op, node, g), over_norm(op, data(node), norm)), *_axes(node)


@vjp("ReduceSumSquare")
def _reduce_sum_square(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return op.Mul(_kept(op, node, g), op.Mul(data(node), 2)), *_axes(node)


@vjp("ReduceLogSum")
def _reduce_log_sum(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x = data(node)
    share = op.Div(_kept(op, node, g), _reduced(op, node, "ReduceSum", x))
    return op.Expand(share, op.shape(x)), *_axes(node)


@vjp("ReduceLogSumExp")
def _reduce_log_sum_exp(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, y = data(node), _kept(op, node, node.outputs[0])
    # Where every x is -inf so is y, and x - y would be no number.
    level = op.Where(op.Equal(y, -math.inf), 0, y)
    return op.Mul(_kept(op, node, g), op.Exp(op.Sub(x, level))), *_axes(node)


@vjp("ReduceProd")
def _reduce_prod(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """To each x the product of the others: of those that are not 0, times those that are.

    The latter is 1 if there is none, else 0; one alone stands as itself, for a second derivative.
    """
    x = data(node)
    zero = op.Equal(x, 0)
    filled, zeros, count = op.Where(zero, 1, x), op.Where(zero, x, 0), cast_like(op, zero, x)
    elsewhere = op.Sub(_reduced(op, node, "ReduceSum", count), count)
    alone = op.Sub(_reduced(op, node, "ReduceSum", zeros), zeros)
    vanishing = op.Where(op.Equal(elsewhere, 0), 1, op.Where(op.Equal(elsewhere, 1), alone, 0))
    others = op.Mul(op.Div(_reduced(op, node, "ReduceProd", filled), filled), vanishing)
    return op.Mul(_kept(op, node, g), others), *_axes(node)


@vjp("CumSum")
def _cum_sum(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    exclusive, reverse = (node.attributes.get_int(name, 0) for name in ("exclusive", "reverse"))
    return op.CumSum(g, node.inputs[1], exclusive=exclusive, reverse=1 - reverse), ZERO


@vjp("CumProd")
def _cum_prod(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """dx_i = sum of g_k times y_k without the factor x_i, over the k whose product holds x_i.

    Without a division, and so right where there are zeros: along the axis, all i stand against all k.
    """
    x, axis = data(node), node.inputs[1]
    exclusive, reverse = (node.attributes.get_int(name, 0) for name in ("exclusive", "reverse"))
    at, i_axis, k_axis = _doubled(op, axis, rank_of(x))
    place = op.CumSum(op.full(op.shape(x), 1, ir.DataType.FLOAT), at, reverse=reverse)
    i, k = op.Unsqueeze(place, k_axis), op.Unsqueeze(place, i_axis)
    factors = op.Where(op.Equal(i, k), 1, op.Unsqueeze(x, i_axis))
    products = op.CumProd(factors, op.Squeeze(k_axis), exclusive=exclusive, reverse=reverse)
    holds = op.Less(i, k) if exclusive else op.LessOrEqual(i, k)
    share = op.Where(holds, op.Mul(op.Unsqueeze(g, i_axis), products), 0)
    return op.ReduceSum(share, k_axis, keepdims=0), ZERO


def over_norm(op: Ops, x: ir.Value, norm: ir.Value) -> ir.Value:
    """x / norm, and 0 where the norm is 0."""
    return op.Div(x, op.Where(op.Equal(norm, 0), math.inf, norm))


def _doubled(op: Ops, axis: ir.Value | None, rank: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    """An axis as a scalar, then it and the one behind it as vectors; counted from the front."""
    known = constant_of(axis)
    if known is not None:
        place = int(known.item()) % rank
        return op.scalar(place), op.ints(place), op.ints(place + 1)
    at = op.Mod(op.Cast(axis, to=int(ir.DataType.INT64)), rank)
    return at, op.Reshape(at, op.ints(1)), op.Add(op.Reshape(at, op.ints(1)), 1)


def _kept(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """What is shaped like the output, with the reduced axes put back as axes of size 1.

    Where no axes are named all were reduced, to a scalar that stretches by itself, or none.
    """
    axes = node.inputs[1:]
    if node.attributes.get_int("keepdims", 1) or not axes or axes[0] is None:
        return g
    return op.Unsqueeze(g, axes[0])


def _reduced(op: Ops, node: ir.Node, operator: str, x: ir.Value) -> ir.Value:
    """Another reduction of x over the same axes, which are kept."""
    noop = node.attributes.get_int("noop_with_empty_axes", 0)
    axes = node.inputs[1:]
    return op.emit(operator, [x, *axes], {"keepdims": 1, "noop_with_empty_axes": noop})[0]


def _axes(node: ir.Node) -> Answers:
    """The answer for the axes, if they are an input."""
    return [ZERO] * len(node.inputs[1:])
