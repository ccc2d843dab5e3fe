"""Gathers and scatters: what was taken from a place goes back to it."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import (
    Answers,
    Cotangent,
    cast_like,
    count_of,
    data,
    positions,
    produced,
    scatter_add,
    scatter_back,
    type_of,
    wide,
)
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops, rank_of

Move = Callable[..., ir.Value]


@vjp("Gather")
def _gather(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, indices = data(node), node.inputs[1]
    assert indices is not None
    axis = node.attributes.get_int("axis", 0)
    places = op.Unsqueeze(op.Cast(indices, to=int(ir.DataType.INT64)), op.ints(-1))
    return _slices_back(op, x, places, g, axis, rank_of(indices) if axis else 1), ZERO


@vjp("GatherElements")
def _gather_elements(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, indices = data(node), node.inputs[1]
    axis = node.attributes.get_int("axis", 0)
    added = wide(op, g)
    zeros = op.full(op.shape(x), 0, type_of(added))
    summed = op.ScatterElements(zeros, indices, added, axis=axis, reduction="add")
    return cast_like(op, summed, g), ZERO


@vjp("GatherND")
def _gather_nd(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, indices = data(node), node.inputs[1]
    assert indices is not None
    batch = node.attributes.get_int("batch_dims", 0)
    if batch:
        where = op.GatherND(positions(op, x), indices, batch_dims=batch)
        return scatter_back(op, x, where, g), ZERO
    return _slices_back(op, x, indices, g), ZERO


@vjp("ScatterElements")
def _scatter_elements(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    axis, indices = node.attributes.get_int("axis", 0), node.inputs[1]

    def scatter(onto: ir.Value, updates: ir.Value, reduction: str) -> ir.Value:
        return op.ScatterElements(onto, indices, updates, axis=axis, reduction=reduction)

    return _scatter_back(op, node, g, scatter, lambda x: op.GatherElements(x, indices, axis=axis))


@vjp("ScatterND")
def _scatter_nd(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    indices = node.inputs[1]

    def scatter(onto: ir.Value, updates: ir.Value, reduction: str) -> ir.Value:
        return op.ScatterND(onto, indices, updates, reduction=reduction)

    return _scatter_back(op, node, g, scatter, lambda x: op.GatherND(x, indices))


@vjp("TensorScatter")
def _tensor_scatter(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """The updates are slices [start, start + length) of the axis, with a start for each batch."""
    past, updates, *starts = node.inputs
    assert past is not None
    assert updates is not None
    axis = node.attributes.get_int("axis", -2) % rank_of(past)
    length, along = op.Squeeze(op.shape(updates, axis, axis + 1)), [1] * rank_of(past)
    along[axis] = -1
    places = op.Reshape(op.Range(op.scalar(0), length, op.scalar(1)), op.ints(*along))
    if starts:
        places = op.Add(places, op.Reshape(starts[0], op.ints(-1, *[1] * (rank_of(past) - 1))))
    if node.attributes.get_string("mode", "linear") == "circular":
        places = op.Mod(places, op.shape(past, axis, axis + 1))
    dpast = op.emit("TensorScatter", [g, op.zeros_like(updates), *starts], dict(node.attributes))[0]
    dupdates = op.GatherElements(g, op.Expand(places, op.shape(updates)), axis=axis)
    return dpast, dupdates, *(ZERO for _ in starts)


@vjp("TopK")
def _top_k(op: Ops, node: ir.Node, g: ir.Value, _indices: Cotangent = None) -> Answers:
    x, indices = data(node), produced(op, node, 1, ir.DataType.INT64)
    return op.ScatterElements(op.zeros_like(x), indices, g, axis=node.attributes.get_int("axis", -1)), ZERO


@vjp("Compress")
def _compress(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    places = op.Transpose(op.NonZero(node.inputs[1]), perm=[1, 0])
    return _some_back(op, data(node), places, g, node.attributes.get_int("axis", None)), ZERO


@vjp("Unique")
def _unique(op: Ops, node: ir.Node, g: ir.Value, *_others: Cotangent) -> Answers:
    """To the first of equal inputs."""
    places = op.Unsqueeze(produced(op, node, 1, ir.DataType.INT64), op.ints(-1))
    return (_some_back(op, data(node), places, g, node.attributes.get_int("axis", None)),)


@vjp("OneHot")
def _one_hot(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """Each element of y is one of two values: their places are the one-hot encoding of 0 and 1."""
    indices, depth, values = node.inputs
    assert values is not None
    assert values.dtype is not None
    off_on = op.constant(np.array([0, 1], values.dtype.numpy()))
    where = op.OneHot(indices, depth, off_on, axis=node.attributes.get_int("axis", -1))
    where.type = values.type
    return ZERO, ZERO, scatter_add(op, op.ints(2), op.Cast(where, to=int(ir.DataType.INT64)), g)


def _scatter_back(op: Ops, node: ir.Node, g: ir.Value, scatter: Move, gather: Move) -> Answers:
    """The gradients of data and updates, `scatter` and `gather` being the node's own way there and back."""
    (x, _, updates), (y,) = node.inputs, node.outputs
    assert x is not None
    assert updates is not None
    match node.attributes.get_string("reduction", "none"):
        case "none":
            return scatter(g, op.zeros_like(updates), "none"), ZERO, gather(g)
        case "add":
            return g, ZERO, gather(g)
        case "mul":
            return _mul_back(op, x, updates, g, scatter, gather)
    # The largest or smallest, in equal shares where several are.
    chosen, taken = (cast_like(op, op.Equal(a, b), g) for a, b in ((x, y), (updates, gather(y))))
    share = op.Div(g, scatter(chosen, taken, "add"))
    return op.Mul(share, chosen), ZERO, op.Mul(gather(share), taken)


def _mul_back(op: Ops, x: ir.Value, u: ir.Value, g: ir.Value, scatter: Move, gather: Move) -> Answers:
    """A factor's gradient is g times the product of the others at its place, right for zeros too.

    The others' product is that of all nonzero factors over the factor itself, and 0 where another is 0.
    """
    ones = op.full(op.shape(x), 1, type_of(g))
    x_zero, u_zero = (op.Equal(factor, 0) for factor in (x, u))
    u_safe = op.Where(u_zero, 1, u)
    product = scatter(op.Where(x_zero, 1, x), u_safe, "mul")
    u_missing = cast_like(op, u_zero, g)
    zeros = scatter(cast_like(op, x_zero, g), u_missing, "add")
    alone = op.Equal(gather(zeros), u_missing)
    du = op.Where(alone, op.Div(gather(op.Mul(g, product)), u_safe), 0)
    return op.Mul(g, scatter(ones, u, "mul")), ZERO, du


def _some_back(op: Ops, x: ir.Value, places: ir.Value, g: ir.Value, axis: int | None) -> ir.Value:
    """Add what was taken from `places` [n, 1] back there, on an axis or, without one, in the flattened x."""
    if axis is not None:
        return _slices_back(op, x, places, g, axis)
    return op.reshape_like(_scatter_slices(op, count_of(op, x), places, g), x)


def _slices_back(
    op: Ops, x: ir.Value, places: ir.Value, g: ir.Value, axis: int = 0, several: int = 1
) -> ir.Value:
    """Add slices of g back onto those slices of x, on an axis, that `places` [..., 1] names.

    That axis has become `several` in g; ScatterND wants them first.
    """
    if axis == 0:
        return _scatter_slices(op, op.shape(x), places, g)
    rank = rank_of(x)
    axis %= rank
    front = [axis, *range(axis), *range(axis + 1, rank)]
    g_front = [*range(axis, axis + several), *range(axis), *range(axis + several, rank - 1 + several)]
    size = op.Gather(op.shape(x), op.ints(*front))
    summed = _scatter_slices(op, size, places, op.Transpose(g, perm=g_front))
    return op.Transpose(summed, perm=[int(a) for a in np.argsort(front)])


def _scatter_slices(op: Ops, size: ir.Value, places: ir.Value, g: ir.Value) -> ir.Value:
    """Zeros of that size with slices of g added at `places`."""
    added = wide(op, g)
    return cast_like(op, op.ScatterND(op.full(size, 0, type_of(added)), places, added, reduction="add"), g)
