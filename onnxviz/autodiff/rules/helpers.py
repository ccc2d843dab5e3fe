"""What several rules need: undoing a broadcast, and sending values back to where they came from."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx_ir as ir

from onnxviz.autodiff.ruleset import Answer
from onnxviz.graph.ops import Ops, rank_of

Answers: TypeAlias = Sequence[Answer]
Cotangent: TypeAlias = ir.Value | None


def data(node: ir.Node) -> ir.Value:
    """The first input of a node, which every operator that has a rule reads."""
    value = node.inputs[0]
    assert value is not None
    return value


def type_of(value: ir.Value) -> ir.DataType:
    """The element type of a value, which a differentiable one has."""
    assert value.dtype is not None
    return value.dtype


def produced(op: Ops, node: ir.Node, index: int, dtype: ir.DataType) -> ir.Value:
    """An optional output of a node; a node that leaves it out is made to produce it."""
    node.resize_outputs(max(index + 1, len(node.outputs)))
    for value in node.outputs:
        value.name = value.name or ""
    value = node.outputs[index]
    if not value.name:
        value.name, value.type = f"{op.prefix}{node.outputs[0].name}/{index}", ir.TensorType(dtype)
    return value


def cast_like(op: Ops, value: ir.Value, like: ir.Value) -> ir.Value:
    """`value` with the element type of `like`."""
    assert like.dtype is not None
    return value if value.dtype == like.dtype else op.Cast(value, to=int(like.dtype))


def wide(op: Ops, value: ir.Value) -> ir.Value:
    """`value`, in float32 if it is of half floats: for sums and squares beyond their range."""
    assert value.dtype is not None
    half = value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return op.Cast(value, to=int(ir.DataType.FLOAT)) if half else value


def unbroadcast(op: Ops, g: ir.Value, x: ir.Value | None, y: ir.Value) -> ir.Value:
    """Sum `g`, shaped like `y`, down to the shape of `x`: the transpose of broadcasting x to y."""
    assert x is not None
    if x.shape is None or y.shape is None:
        missing = op.Sub(op.Shape(op.Shape(g)), op.Shape(op.Shape(x)))
        return _unbroadcast_at_runtime(op, g, x, op.full(missing, 1, ir.DataType.INT64))
    lead = rank_of(y) - rank_of(x)
    pairs = list(zip(x.shape, list(y.shape)[lead:], strict=True))
    if any(a != 1 and not same_size(a, b) for a, b in pairs):
        return _unbroadcast_at_runtime(op, g, x, op.ints(*[1] * lead) if lead else None)
    axes = [*range(lead), *(lead + i for i, (a, b) in enumerate(pairs) if a == 1 and b != 1)]
    if not axes:
        return g
    summed = op.ReduceSum(g, op.ints(*axes), keepdims=1)
    return op.reshape_like(summed, x) if lead else summed


def same_size(a: object, b: object) -> bool:
    """Whether two sizes are known to be equal: the same number or the same symbol."""
    return a == b and not (isinstance(a, ir.SymbolicDim) and a.value is None)


def _unbroadcast_at_runtime(op: Ops, g: ir.Value, x: ir.Value, lead: ir.Value | None) -> ir.Value:
    """The same where a size, or the rank, is not known: the axes to sum over are those whose sizes differ.

    `lead` has a 1 for each axis that x lacks.
    """
    size = op.shape(x)
    if lead is not None:
        size = op.Concat(lead, size, axis=0)
    stretched = op.NonZero(op.Not(op.Equal(size, op.Shape(g))))
    axes = op.Reshape(stretched, op.ints(-1))
    return op.reshape_like(op.ReduceSum(g, axes, keepdims=1, noop_with_empty_axes=1), x)


def positions(op: Ops, x: ir.Value) -> ir.Value:
    """A tensor of x's shape that holds each element's place in the flattened x, int64.

    An operator that only moves data moves these alike, and so tells where every output came from.
    """
    size = op.Size(x)
    return op.reshape_like(op.Range(op.scalar(0), size, op.scalar(1)), x)


def scatter_back(op: Ops, x: ir.Value, where: ir.Value, g: ir.Value) -> ir.Value:
    """Add each element of `g` onto the element of x that `where` (flat places in x) names."""
    return op.reshape_like(scatter_add(op, count_of(op, x), where, g), x)


def count_of(op: Ops, x: ir.Value) -> ir.Value:
    """How many elements x has, as a vector of one: a constant where it is known."""
    if x.shape is not None and x.shape.is_static():
        return op.ints(math.prod(x.shape.numpy()))
    return op.Reshape(op.Size(x), op.ints(1))


def scatter_add(op: Ops, size: ir.Value, where: ir.Value, g: ir.Value) -> ir.Value:
    """A vector of `size` zeros with each element of `g` added at the place that `where` names."""
    # ONNX Runtime adds no half floats here, and sums of many would lose digits.
    added, flat = wide(op, g), op.ints(-1)
    zeros = op.full(size, 0, type_of(added))
    landed = op.ScatterElements(
        zeros, op.Reshape(where, flat), op.Reshape(added, flat), axis=0, reduction="add"
    )
    return cast_like(op, landed, g)


def _shrinks_by(x: ir.Value, y: ir.Value) -> int | None:
    """How many times more elements x has than y, which has 1 where x has more; None: not known."""
    if x.shape is None or y.shape is None or len(x.shape) != len(y.shape):
        return None
    lost = [a for a, b in zip(x.shape, y.shape, strict=True) if not same_size(a, b)]
    sizes = [size for size in lost if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(lost) else None


def shared_out(op: Ops, g: ir.Value, x: ir.Value) -> ir.Value:
    """`g` over how many elements of x went into each of the elements that it belongs to."""
    assert g.dtype is not None
    known = _shrinks_by(x, g)
    if known is not None and (known <= 2048 or g.dtype.itemsize > 2):
        return op.Div(g, known)
    # The count itself may lie beyond half floats.
    into, from_ = (op.Cast(op.Size(value), to=int(ir.DataType.DOUBLE)) for value in (g, x))
    return op.Mul(g, op.Cast(op.Div(into, from_), to=int(g.dtype)))


def channels_first(
    op: Ops,
    node: ir.Node,
    x: ir.Value,
    body: Callable[[ir.Value, Mapping[str, Any]], ir.Value],
    last: bool | None = None,
) -> ir.Value:
    """`body` on x with its channels on axis 1, and by the node's attributes but `channels_last`."""
    kept = dict(node.attributes)
    said = kept.pop("channels_last", None)
    if not (last if last is not None else said is not None and said.as_int()):
        return body(x, kept)
    rank = rank_of(x)
    moved = op.Transpose(x, perm=[0, rank - 1, *range(1, rank - 1)])
    if x.shape is not None:
        moved.shape = ir.Shape([x.shape[0], x.shape[-1], *list(x.shape)[1:-1]])
    return op.Transpose(body(moved, kept), perm=[0, *range(2, rank), 1])
