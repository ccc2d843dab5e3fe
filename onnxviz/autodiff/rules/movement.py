"""Operators that only move data: what they took from a place goes back to it."""

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, data, positions, scatter_add, scatter_back, unbroadcast
from onnxviz.autodiff.ruleset import ZERO, node_name, vjp
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.ops import Ops, constant_of, rank_of


@vjp("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, rest = data(node), node.inputs[1:]
    return op.reshape_like(g, x), *(ZERO for _ in rest)


@vjp("Dropout")
def _dropout(_op: Ops, node: ir.Node, g: ir.Value, *_mask: ir.Value) -> Answers:
    rest = node.inputs[1:]
    training = rest[1] if len(rest) == 2 else None
    if training is not None:
        flag = constant_of(training)
        if flag is None or flag.any():
            raise UnsupportedOperator(
                f"Dropout node {node_name(node)!r} may be in training mode; export the model for inference"
            )
    return g, *(ZERO for _ in rest)


@vjp("Transpose")
def _transpose(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x = data(node)
    perm = node.attributes.get_ints("perm", ()) or range(rank_of(x))[::-1]
    return (op.Transpose(g, perm=[int(axis) for axis in np.argsort(perm)]),)


@vjp("Expand")
def _expand(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return unbroadcast(op, g, data(node), node.outputs[0]), ZERO


@vjp("Concat")
def _concat(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    axis = node.attributes.get_int("axis")
    widths = [_width(op, x, axis) for x in node.inputs if x is not None]
    return op.emit("Split", [g, op.Concat(*widths, axis=0)], {"axis": axis}, outputs=len(widths))


@vjp("Split")
def _split(op: Ops, node: ir.Node, *gs: ir.Value | None) -> Answers:
    rest = node.inputs[1:]
    parts = [op.zeros_like(y) if g is None else g for g, y in zip(gs, node.outputs, strict=True)]
    return op.Concat(*parts, axis=node.attributes.get_int("axis", 0)), *(ZERO for _ in rest)


@vjp("Gather")
def _gather(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, indices = data(node), node.inputs[1]
    where = op.Gather(positions(op, x), indices, axis=node.attributes.get_int("axis", 0))
    return scatter_back(op, x, where, g), ZERO


@vjp("Slice")
def _slice(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, bounds = data(node), node.inputs[1:]
    pads = _slice_as_pads(node)
    if pads is not None:
        return op.Pad(g, op.ints(*pads)), *(ZERO for _ in bounds)
    where = op.Slice(positions(op, x), *bounds)
    return scatter_back(op, x, where, g), *(ZERO for _ in bounds)


@vjp("Pad")
def _pad(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, (pads, *rest) = data(node), node.inputs[1:]
    fill, axes = (*rest, None, None)[:2]
    mode = node.attributes.get_string("mode", "constant")
    if mode != "constant":
        where = op.Pad(positions(op, x), pads, None, axes, mode=mode)
        return scatter_back(op, x, where, g), *(ZERO for _ in node.inputs[1:])
    # What was filled in goes to a place behind the last, and from there to the fill value.
    size = op.Reshape(op.Size(x), op.ints(1))
    where = op.Pad(positions(op, x), pads, op.Reshape(size, op.ints()), axes)
    landed = scatter_add(op, op.Add(size, 1), where, g)
    dx = op.reshape_like(op.Slice(landed, op.ints(0), size), x)
    dfill = fill and op.reshape_like(op.Slice(landed, size, op.Add(size, 1)), fill)
    return (dx, ZERO, dfill, ZERO)[: len(node.inputs)]


def _width(op: Ops, x: ir.Value, axis: int) -> ir.Value:
    """The size of one axis, as a vector of one."""
    return op.shape(x, axis, axis + 1 or None)


def _slice_as_pads(node: ir.Node) -> list[int] | None:
    """The pads that undo a slice of known bounds and step 1; None for any other."""
    x, bounds = data(node), node.inputs[1:]
    arrays = [constant_of(bound) for bound in bounds]
    if any(array is None for array in arrays[:2]):
        return None
    starts, ends = (array.tolist() for array in arrays[:2] if array is not None)
    axes = arrays[2].tolist() if len(arrays) > 2 and arrays[2] is not None else list(range(len(starts)))
    steps = arrays[3].tolist() if len(arrays) > 3 and arrays[3] is not None else [1] * len(starts)
    if any(bound is not None and array is None for bound, array in zip(bounds, arrays, strict=True)):
        return None
    rank = rank_of(x)
    assert x.shape is not None
    before, after = [0] * rank, [0] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        if step != 1 or not isinstance(size, int):
            return None
        first, stop, _ = slice(start, end).indices(size)
        before[axis], after[axis] = first, size - max(first, stop)
    return before + after
