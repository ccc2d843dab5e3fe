"""Preprocessing as nodes: from a picture of any size, uint8 [N, H, W, 3], to the model's input."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxviz.errors import PreprocessError
from onnxviz.graph.ops import Ops
from onnxviz.graph.resample import bicubic, bilinear, exact, weights
from onnxviz.vision.images import PictureInput
from onnxviz.vision.preprocess import Preprocess

_FIXED_POINT = float(2**22)
_KERNELS = {"bilinear": bilinear, "bicubic": bicubic, "nearest": None}
_LUMA = np.array([19595, 38470, 7471], np.float32)


@dataclass(frozen=True)
class Span:
    """Along one axis: the picture's length, and where in its pixels the model's input begins and ends.

    `length` is int64 of rank 0; `start` and `stop` are float64, outside of the picture where it is padded.
    """

    length: ir.Value
    start: ir.Value
    stop: ir.Value


@dataclass(frozen=True)
class Plan:
    """How one axis is resized: the pixels from `start` to `stop` become `pixels`, with `before` in front."""

    region: Span
    start: ir.Value
    stop: ir.Value
    pixels: ir.Value
    before: ir.Value | None = None


@dataclass(frozen=True)
class Folded:
    """The model's input, and the region of the picture that fills it, down and across."""

    value: ir.Value
    down: Span
    across: Span


def folded(
    op: Ops, image: ir.Value, where: PictureInput, preprocess: Preprocess, size: tuple[int, int]
) -> Folded:
    """Make a picture the model's input as `prepare` does: resized, its colours ordered, scaled.

    Args:
        op: Where to write.
        image: uint8 [N, H, W, 3] in RGB, of any height and width.
        where: The model's input.
        preprocess: How.
        size: Height and width that the model takes, pixels.

    Raises:
        PreprocessError: The colours do not fill the input.
    """
    if where.channels not in (None, len(preprocess.color)):
        raise PreprocessError(
            f"{preprocess.source}: color {preprocess.color} does not fill input {where.name!r} of "
            f"{where.channels} channels"
        )
    planes = op.Transpose(op.Cast(image, to=ir.DataType.FLOAT), perm=[0, 3, 1, 2])
    height, width = (op.Gather(op.Shape(image), op.scalar(axis)) for axis in (1, 2))
    down, across = _plans(op, preprocess, height, width, size)
    resized = _resized(op, planes, preprocess, down, across)
    if preprocess.resize == "pad":
        resized = _padded(op, resized, down, across, size)
    values = _numbers(op, _ordered(op, resized, preprocess), where, preprocess)
    return Folded(values, down.region, across.region)


def _plans(
    op: Ops, preprocess: Preprocess, height: ir.Value, width: ir.Value, size: tuple[int, int]
) -> tuple[Plan, Plan]:
    """How the picture's height and width become the model's."""
    rows, columns = size
    tall, wide = exact(op, height), exact(op, width)
    if preprocess.resize == "squash":
        return _whole(op, height, tall, rows), _whole(op, width, wide, columns)
    if preprocess.resize == "crop":
        across = op.Min(wide, op.Div(op.Mul(tall, float(columns)), float(rows)))
        down = op.Min(tall, op.Div(op.Mul(wide, float(rows)), float(columns)))
        return _middle(op, height, tall, down, rows), _middle(op, width, wide, across, columns)
    fit = op.Min(op.Div(float(columns), wide), op.Div(float(rows), tall))
    return _fitted(op, height, tall, fit, rows), _fitted(op, width, wide, fit, columns)


def _whole(op: Ops, length: ir.Value, long: ir.Value, size: int) -> Plan:
    zero = op.constant(np.array(0.0))
    return Plan(Span(length, zero, long), zero, long, op.scalar(size))


def _middle(op: Ops, length: ir.Value, long: ir.Value, kept: ir.Value, size: int) -> Plan:
    """The middle of an axis; Pillow keeps its ends, and reckons the way between them, in single precision."""
    start, stop = (
        op.Cast(end, to=ir.DataType.FLOAT)
        for end in (op.Mul(op.Sub(long, kept), 0.5), op.Mul(op.Add(long, kept), 0.5))
    )
    way = exact(op, op.Sub(stop, start))
    first = exact(op, start)
    last = op.Add(first, way)
    return Plan(Span(length, first, last), first, last, op.scalar(size))


def _fitted(op: Ops, length: ir.Value, long: ir.Value, fit: ir.Value, size: int) -> Plan:
    """All of an axis, `fit` times as long, in whole pixels, in the middle of `size`."""
    pixels = op.Max(op.Round(op.Mul(long, fit)), 1.0)
    before = op.Floor(op.Mul(op.Sub(float(size), pixels), 0.5))
    scale = op.Div(long, pixels)
    region = Span(length, op.Neg(op.Mul(before, scale)), op.Mul(op.Sub(float(size), before), scale))
    zero = op.constant(np.array(0.0))
    return Plan(region, zero, long, _int(op, pixels), _int(op, before))


def _resized(op: Ops, planes: ir.Value, preprocess: Preprocess, down: Plan, across: Plan) -> ir.Value:
    """The picture resized as Pillow does it, to the last bit: along one axis, rounded, then along the other.

    Pillow's weights are whole numbers of 22 bits, so that products and sums are exact in float64. It goes
    across first, or down where that is shortened by more than twice as many pixels (since Pillow 13).
    """
    kernel, planes = _KERNELS[preprocess.filter], exact(op, planes)
    tables = []
    for plan in (across, down):
        table = weights(op, plan.pixels, plan.region.length, plan.start, plan.stop, kernel)
        tables.append(op.Div(_rounded(op, op.Mul(table, _FIXED_POINT)), _FIXED_POINT))
    rows, columns = tables[1], op.Transpose(tables[0], perm=[1, 0])

    def across_first(inside: Ops) -> list[ir.Value]:
        return [_level(inside, inside.MatMul(rows, _level(inside, inside.MatMul(planes, columns))))]

    def down_first(inside: Ops) -> list[ir.Value]:
        return [_level(inside, inside.MatMul(_level(inside, inside.MatMul(rows, planes)), columns))]

    shorter, narrower = (op.Sub(plan.region.length, plan.pixels) for plan in (down, across))
    much = op.And(op.Greater(shorter, 0), op.Greater(shorter, op.Mul(narrower, 2)))
    branches = {"then_branch": op.nested([], down_first), "else_branch": op.nested([], across_first)}
    (resized,) = op.emit("If", [much], branches)
    resized.type = planes.type
    return op.Cast(resized, to=ir.DataType.FLOAT)


def _level(op: Ops, value: ir.Value) -> ir.Value:
    """A whole number from 0 to 255, halves rounded up."""
    return op.Clip(op.Floor(op.Add(value, 0.5)), 0.0, 255.0)


def _rounded(op: Ops, value: ir.Value) -> ir.Value:
    """To the nearest whole number, halves away from zero."""
    return op.Mul(op.Sign(value), op.Floor(op.Add(op.Abs(value), 0.5)))


def _padded(op: Ops, planes: ir.Value, down: Plan, across: Plan, size: tuple[int, int]) -> ir.Value:
    """The resized picture in the middle of black."""
    assert down.before is not None
    assert across.before is not None
    before = [op.Unsqueeze(plan.before, op.ints(0)) for plan in (down, across)]
    made = [op.Unsqueeze(plan.pixels, op.ints(0)) for plan in (down, across)]
    after = [op.Sub(op.Sub(op.ints(s), m), b) for s, m, b in zip(size, made, before, strict=True)]
    return op.Pad(planes, op.Concat(op.ints(0, 0), *before, op.ints(0, 0), *after, axis=0))


def _int(op: Ops, value: ir.Value) -> ir.Value:
    return op.Cast(value, to=ir.DataType.INT64)


def _ordered(op: Ops, planes: ir.Value, preprocess: Preprocess) -> ir.Value:
    if preprocess.color == "L":
        # Pillow's weights of the colours, in 65536ths, the sum rounded.
        grey = op.ReduceSum(op.Mul(planes, op.constant(_LUMA.reshape(1, 3, 1, 1))), op.ints(1), keepdims=1)
        return op.Floor(op.Div(op.Add(grey, 32768.0), 65536.0))
    return op.Gather(planes, op.ints(2, 1, 0), axis=1) if preprocess.color == "BGR" else planes


def _numbers(op: Ops, planes: ir.Value, where: PictureInput, preprocess: Preprocess) -> ir.Value:
    """(pixel * scale - mean) / std in the input's layout and type; integers are rounded and kept in range."""
    mean, std = (
        np.array(numbers, np.float32).reshape(1, -1, 1, 1) for numbers in (preprocess.mean, preprocess.std)
    )
    scaled = planes if preprocess.scale == 1 else op.Mul(planes, float(preprocess.scale))
    centred = op.Sub(scaled, op.constant(mean)) if mean.any() else scaled
    values = op.Div(centred, op.constant(std)) if (std != 1).any() else centred
    dtype = ir.DataType[_NAMES[where.dtype]]
    if dtype.is_integer():
        kind = np.iinfo(where.dtype)
        values = op.Clip(op.Round(values), float(kind.min), float(kind.max))
    if dtype != ir.DataType.FLOAT:
        values = op.Cast(values, to=dtype)
    return values if where.layout == "NCHW" else op.Transpose(values, perm=[0, 2, 3, 1])


_NAMES = {"float16": "FLOAT16", "float32": "FLOAT", "float64": "DOUBLE"} | {
    name: name.upper() for bits in (8, 16, 32, 64) for name in (f"int{bits}", f"uint{bits}")
}
