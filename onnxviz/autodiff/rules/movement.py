"""Operators that only move data: what they took from a place goes back to it."""

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import (
    Answers,
    Cotangent,
    cast_like,
    data,
    positions,
    produced,
    scatter_back,
    type_of,
    unbroadcast,
    wide,
)
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops, constant_of, rank_of


@vjp("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, rest = data(node), node.inputs[1:]
    return op.reshape_like(g, x), *(ZERO for _ in rest)


@vjp("Dropout")
def _dropout(op: Ops, node: ir.Node, g: ir.Value, _mask: Cotangent = None) -> Answers:
    """In training y = x mask / (1 - ratio), with the mask that the node itself has drawn.

    So dx = g mask / (1 - ratio) and, while no element crosses over, dratio = sum(x dx) / (1 - ratio).
    """
    ratio, training = (*node.inputs[1:], None, None)[:2]
    flag = constant_of(training)
    if training is None or (flag is not None and not flag.any()):
        return g, *(ZERO for _ in node.inputs[1:])
    rate = cast_like(op, op.constant(np.array(0.5)) if ratio is None else ratio, g)
    kept = op.Where(produced(op, node, 1, ir.DataType.BOOL), op.Div(g, op.Sub(1, rate)), 0)

    def dratio() -> ir.Value:
        assert ratio is not None
        total = op.ReduceSum(wide(op, op.Mul(kept, data(node))), keepdims=0)
        slope = cast_like(op, op.Div(total, cast_like(op, op.Sub(1, rate), total)), ratio)
        return slope if flag is not None else op.Where(training, slope, 0)

    return kept if flag is not None else op.Where(training, kept, g), dratio, ZERO


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
    dx = op.Pad(g, op.Neg(pads), None, axes)
    filled = op.Pad(op.zeros_like(x), pads, op.constant(np.ones((), type_of(g).numpy())), axes)
    dfill = fill and op.reshape_like(op.ReduceSum(op.Mul(g, filled), keepdims=0), fill)
    return (dx, ZERO, dfill, ZERO)[: len(node.inputs)]


@vjp("Tile")
def _tile(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """Each axis of g is [repeat, size]; sum over the repeats."""
    x, repeats = data(node), node.inputs[1]
    column, every_other = op.ints(-1, 1), range(0, 2 * rank_of(x), 2)
    pairs = op.Concat(op.Reshape(repeats, column), op.Reshape(op.shape(x), column), axis=1)
    copies = op.Reshape(g, op.Reshape(pairs, op.ints(-1)), allowzero=1)
    return op.ReduceSum(copies, op.ints(*every_other), keepdims=0, noop_with_empty_axes=1), ZERO


@vjp("Trilu")
def _trilu(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    rest = node.inputs[1:]
    return op.Trilu(g, *rest, upper=node.attributes.get_int("upper", 1)), *(ZERO for _ in rest)


@vjp("DepthToSpace")
def _depth_to_space(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    deep = op.SpaceToDepth(g, blocksize=node.attributes.get_int("blocksize"))
    if node.attributes.get_string("mode", "DCR") == "DCR":
        return (deep,)
    # SpaceToDepth has no CRD before opset 28: its channels [block * block, C] turn to [C, block * block].
    x = data(node)
    taps = node.attributes.get_int("blocksize") ** 2
    split = op.Reshape(deep, op.Concat(op.ints(0, taps, -1), op.shape(x, 2), axis=0))
    return (op.reshape_like(op.Transpose(split, perm=[0, 2, 1, 3, 4]), x),)


@vjp("SpaceToDepth")
def _space_to_depth(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return op.emit("DepthToSpace", [g], dict(node.attributes))


@vjp("CenterCropPad")
def _center_crop_pad(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """What was padded is cropped and the reverse, with the odd one at the same end."""
    x, axes = data(node), node.attributes.get_ints("axes", None)
    size = op.shape(x) if axes is None else op.Gather(op.shape(x), op.ints(*axes))
    return op.CenterCropPad(g, size, axes=axes), ZERO


@vjp("ReverseSequence")
def _reverse_sequence(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return op.emit("ReverseSequence", [g, node.inputs[1]], dict(node.attributes))[0], ZERO


@vjp("Col2Im")
def _col2im(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """Its transpose reads each block again: a convolution whose kernels have a single 1."""
    x, (image, block) = data(node), node.inputs[1:]
    taps = op.ReduceProd(block, keepdims=1)
    square = op.full(op.Concat(taps, taps, axis=0), 0, type_of(x))
    kernels = op.Reshape(op.EyeLike(square), op.Concat(op.ints(-1, 1), block, axis=0))
    planes = op.Reshape(g, op.Concat(op.ints(-1, 1), image, axis=0))
    return op.reshape_like(op.emit("Conv", [planes, kernels], dict(node.attributes))[0], x), ZERO, ZERO


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
