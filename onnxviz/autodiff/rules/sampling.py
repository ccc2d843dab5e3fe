"""Operators that read pictures at computed places, written as weighted sums of pixels.

So the gradients of the picture and of the places both follow, and are differentiable themselves.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, cast_like, data
from onnxviz.autodiff.ruleset import ZERO, lowering, node_name, vjp
from onnxviz.errors import ShapeError
from onnxviz.graph.ops import Ops, rank_of

_A = -0.75
_POLYNOMIALS = {
    "nearest": [[1]],
    "linear": [[1, 0], [-1, 1]],
    "cubic": [[0, 1, 0, 0], [_A, 0, -_A, 0], [-2 * _A, -_A - 3, 2 * _A + 3, _A], [_A, _A + 2, -_A - 2, -_A]],
}
"""The weights of the pixels around a place f behind a pixel: one row per power of f, one column per pixel."""
_FIRST = {"nearest": 0, "linear": 0, "cubic": -1}
_OLD_NAMES = {"bilinear": "linear", "bicubic": "cubic"}  # before opset 20


@lowering("GridSample")
def _grid_sample(op: Ops, node: ir.Node) -> ir.Value:
    x, grid = node.inputs
    assert x is not None
    assert grid is not None
    rank = rank_of(x) - 2
    mode = node.attributes.get_string("mode", "linear")
    padding = node.attributes.get_string("padding_mode", "zeros")
    aligned = node.attributes.get_int("align_corners", 0)
    xy = list(range(rank))[::-1]  # a grid names the last axis first
    sizes = cast_like(op, op.Concat(*(op.shape(x, 2 + axis, 3 + axis) for axis in xy), axis=0), grid)
    points = op.Reshape(grid, op.ints(0, -1, rank))
    if aligned:
        places = op.Mul(op.Add(points, 1), op.Mul(op.Sub(sizes, 1), 0.5))
    else:
        places = op.Mul(op.Sub(op.Mul(op.Add(points, 1), sizes), 1), 0.5)
    y = _interpolate(op, x, places, xy, _OLD_NAMES.get(mode, mode), padding, 0.0 if aligned else -0.5)
    return op.Reshape(y, op.Concat(op.ints(0, 0), op.shape(grid, 1, 1 + rank), axis=0))


@lowering("DeformConv")
def _deform_conv(op: Ops, node: ir.Node) -> ir.Value:
    """y = W c + B, where c are the pixels that each tap of the kernel reads, times the mask."""
    x, w, offset, bias, mask = (*node.inputs, None, None)[:5]
    assert x is not None
    assert w is not None
    assert w.shape is not None
    assert offset is not None
    assert offset.dtype is not None
    kernel = [size for size in list(w.shape)[2:] if isinstance(size, int)]
    rank, taps = len(kernel), math.prod(kernel)
    if rank != rank_of(x) - 2:
        raise ShapeError(f"DeformConv node {node_name(node)!r} has a kernel of unknown size")
    strides = np.array(node.attributes.get_ints("strides", [1] * rank))
    dilations = np.array(node.attributes.get_ints("dilations", [1] * rank))
    begin = np.array(node.attributes.get_ints("pads", [0] * 2 * rank)[:rank])
    group, offset_group = (node.attributes.get_int(name, 1) for name in ("group", "offset_group"))

    tap = np.stack(np.meshgrid(*map(np.arange, kernel), indexing="ij"), axis=-1).reshape(taps, 1, rank)
    every = op.Transpose(op.NonZero(op.full(op.shape(offset, 2), 1, ir.DataType.FLOAT)), perm=[1, 0])
    still = op.Add(op.Mul(every, op.constant(strides)), op.constant(tap * dilations - begin))
    moved = op.Transpose(op.Reshape(offset, op.ints(0, offset_group, taps, rank, -1)), perm=[0, 1, 2, 4, 3])
    images = op.Mul(op.shape(x, 0, 1), op.ints(offset_group))
    places = op.Reshape(
        op.Add(moved, cast_like(op, still, offset)), op.Concat(images, op.ints(-1, rank), axis=0)
    )
    pictures = op.Reshape(x, op.Concat(images, op.ints(-1), op.shape(x, 2), axis=0))
    read = _interpolate(op, pictures, places, range(rank), "linear", "zeros", 0.0)
    if mask is not None:
        read = op.Mul(read, op.Reshape(mask, op.Concat(images, op.ints(1, -1), axis=0)))
    width = op.Mul(op.shape(w, 1, 2), op.ints(taps))
    columns = op.Reshape(read, op.Concat(op.shape(x, 0, 1), op.ints(group), width, op.ints(-1), axis=0))
    kernels = op.Reshape(w, op.Concat(op.ints(group, -1), width, axis=0))
    y = op.Reshape(op.MatMul(kernels, columns), op.Concat(op.ints(0, -1), op.shape(offset, 2), axis=0))
    return y if bias is None else op.Add(y, op.Reshape(bias, op.ints(-1, *[1] * rank)))


@vjp("AffineGrid")
def _affine_grid(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = [e, 1] theta^T, where e is the grid of the identity."""
    theta, size = node.inputs
    assert theta is not None
    assert theta.shape is not None
    assert theta.dtype is not None
    rank = theta.shape[1]
    if not isinstance(rank, int):
        raise ShapeError(f"AffineGrid node {node_name(node)!r} has a matrix of unknown size")
    one = op.Concat(op.ints(1), op.Slice(size, op.ints(1), op.ints(2 + rank)), axis=0)
    identity = op.constant(np.eye(rank, rank + 1, dtype=theta.dtype.numpy())[None])
    grid = op.emit("AffineGrid", [identity, one], node.attributes)[0]
    corners = op.Pad(op.Reshape(grid, op.ints(-1, rank)), op.ints(0, 0, 0, 1), op.lift(1, theta.dtype))
    points = op.Reshape(g, op.ints(0, -1, rank))
    return op.MatMul(op.Transpose(points, perm=[0, 2, 1]), corners), ZERO


class _Samples(NamedTuple):
    """Where the bins of each region of interest are sampled along one axis, [region, bin, sample].

    `inside` is 1, or 0 for what lies outside the picture; `number` is how many samples a bin has.
    """

    places: ir.Value
    inside: ir.Value
    number: ir.Value


@lowering("RoiAlign")
def _roi_align(op: Ops, node: ir.Node) -> ir.Value:
    x, rois, batch = node.inputs
    assert x is not None
    assert rois is not None
    assert batch is not None
    half_pixel = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    corners = op.Mul(rois, node.attributes.get_float("spatial_scale", 1.0))
    corners = op.Sub(corners, 0.5) if half_pixel else corners
    left, top, right, bottom = _split(op, corners, 1, 4)
    rows, columns = _samples(op, node, top, bottom, 2), _samples(op, node, left, right, 3)
    if node.attributes.get_string("mode", "avg") == "max":
        return _largest_sample(op, x, batch, rows, columns)
    # Bilinear weights are products, y = R x C^T; all x C^T are one product of matrices.
    weights_of_rows, weights_of_columns = _averages(op, x, rows, 2), _averages(op, x, columns, 3)
    pictures, channels, height, width = (op.shape(x, axis, axis + 1) for axis in range(4))
    mine = op.Equal(op.Reshape(_numbers(op, pictures), op.ints(-1, 1, 1, 1)), op.Unsqueeze(batch, op.ints(1)))
    spread = op.Mul(cast_like(op, mine, x), op.Transpose(weights_of_columns, perm=[2, 0, 1]))
    inner = op.Mul(pictures, width)
    flat = op.Reshape(op.Transpose(x, perm=[1, 2, 0, 3]), op.Concat(op.ints(-1), inner, axis=0))
    mixed = op.MatMul(flat, op.Reshape(spread, op.Concat(inner, op.ints(-1), axis=0)))
    regions = op.Concat(channels, height, op.shape(rois, 0, 1), op.ints(-1), axis=0)
    by_region = op.Transpose(op.Reshape(mixed, regions), perm=[2, 0, 1, 3])
    return op.MatMul(op.Unsqueeze(weights_of_rows, op.ints(1)), by_region)


def _samples(op: Ops, node: ir.Node, begin: ir.Value, end: ir.Value, axis: int) -> _Samples:
    """The samples lie evenly in each bin; where no number of them is given, about one in each pixel."""
    attributes = node.attributes
    bins = attributes.get_int("output_height" if axis == 2 else "output_width", 1)
    assert begin.dtype is not None
    length = op.Sub(end, begin)
    if attributes.get_string("coordinate_transformation_mode", "half_pixel") != "half_pixel":
        length = op.Clip(length, 1)
    step = op.Unsqueeze(op.Div(length, bins), op.ints(2))
    ratio = attributes.get_int("sampling_ratio", 0)
    count = op.lift(ratio, begin.dtype) if ratio > 0 else op.Ceil(step)
    taps = cast_like(op, _numbers(op, op.ReduceMax(count, keepdims=0)), begin)
    exists, count = op.Less(taps, count), op.Max(count, 1)
    if attributes.get_string("mode", "avg") == "max":  # the last sample stands for those that do not exist
        taps = op.Min(taps, op.Sub(count, 1))
        exists = op.Less(0, step) if ratio <= 0 else exists
    numbers = op.constant(np.arange(bins, dtype=begin.dtype.numpy())[:, None])
    places = op.Add(
        op.Unsqueeze(begin, op.ints(2)), op.Mul(step, op.Add(op.Div(op.Add(taps, 0.5), count), numbers))
    )
    size = cast_like(op, op.Squeeze(op.shape(data(node), axis, axis + 1), op.ints(0)), begin)
    within = op.And(op.GreaterOrEqual(places, -1), op.LessOrEqual(places, size))
    inside = cast_like(op, op.And(exists, within), begin)
    return _Samples(op.Clip(places, 0, op.Sub(size, 1)), inside, count)


def _averages(op: Ops, x: ir.Value, samples: _Samples, axis: int) -> ir.Value:
    """The mean over the samples of the weight that each gives to each pixel, [region, bin, pixel]."""
    pixels = cast_like(op, _numbers(op, op.shape(x, axis, axis + 1)), x)
    last = op.ints(3)
    tent = op.Relu(op.Sub(1, op.Abs(op.Sub(op.Unsqueeze(samples.places, last), pixels))))
    share = op.Div(samples.inside, samples.number)
    return op.ReduceSum(op.Mul(tent, op.Unsqueeze(share, last)), op.ints(2), keepdims=0)


def _largest_sample(op: Ops, x: ir.Value, batch: ir.Value, rows: _Samples, columns: _Samples) -> ir.Value:
    """The largest of all pixels around all samples, each times its weight: not of the sums of four."""
    pixels, weights = [], []
    for samples, axis in ((rows, 2), (columns, 3)):
        last = op.ints(3)
        below = op.Floor(samples.places)
        beyond = op.Sub(samples.places, below)
        pair = [op.Unsqueeze(op.Mul(part, samples.inside), last) for part in (op.Sub(1, beyond), beyond)]
        both = [op.Unsqueeze(part, last) for part in (below, op.Add(below, 1))]
        inner = op.ints(0, 0, -1)
        weights.append(op.Reshape(op.Concat(*pair, axis=3), inner))
        limit = cast_like(op, op.Sub(op.shape(x, axis, axis + 1), op.ints(1)), below)
        pixels.append(op.Min(op.Reshape(op.Concat(*both, axis=3), inner), limit))
    return _largest(op, x, batch, pixels, weights)


@lowering("MaxRoiPool")
def _max_roi_pool(op: Ops, node: ir.Node) -> ir.Value:
    """Of each bin of whole pixels the largest; 0 where it is empty."""
    x, rois = node.inputs
    assert x is not None
    assert rois is not None
    assert rois.dtype is not None
    batch, *corners = _split(op, rois, 1, 5)
    scaled = [op.Mul(corner, node.attributes.get_float("spatial_scale", 1.0)) for corner in corners]
    halves_up = [op.Floor(op.Add(op.Abs(corner), 0.5)) for corner in scaled]
    left, top, right, bottom = map(op.Mul, map(op.Sign, scaled), halves_up)
    pixels, weights = [], []
    ends = (top, bottom), (left, right)
    for bins, (first, last), axis in zip(node.attributes.get_ints("pooled_shape"), ends, (2, 3), strict=True):
        size = cast_like(op, op.shape(x, axis, axis + 1), rois)
        step = op.Div(op.Max(op.Add(op.Sub(last, first), 1), 1), bins)
        numbers = op.constant(np.arange(bins, dtype=rois.dtype.numpy()))
        begin, end = (
            op.Unsqueeze(op.Max(op.Min(op.Add(edge, first), size), 0), op.ints(2))
            for edge in (op.Floor(op.Mul(step, numbers)), op.Ceil(op.Mul(step, op.Add(numbers, 1))))
        )
        taps = cast_like(op, _numbers(op, op.ReduceMax(op.Sub(end, begin), keepdims=0)), rois)
        # The last pixel stands for those that do not exist, and the first one, times 0, for an empty bin.
        pixels.append(op.Max(op.Min(op.Add(begin, taps), op.Sub(end, 1)), 0))
        weights.append(cast_like(op, op.Less(begin, end), x))
    return _largest(op, x, op.Squeeze(batch, op.ints(1)), pixels, weights)


def _largest(
    op: Ops, x: ir.Value, batch: ir.Value, pixels: Sequence[ir.Value], weights: Sequence[ir.Value]
) -> ir.Value:
    """The largest of a bin's pixels times their weights; pixels and weights are given as rows and columns."""
    (row, column), (row_weight, column_weight) = (
        (op.Unsqueeze(rows, op.ints(2, 4)), op.Unsqueeze(columns, op.ints(1, 3)))
        for rows, columns in (pixels, weights)
    )
    height, width = op.shape(x, 2, 3), op.shape(x, 3, 4)
    number = _int64(op, op.Reshape(batch, op.ints(-1, 1, 1, 1, 1)))
    line = op.Add(op.Mul(number, height), _int64(op, row))
    places = op.Add(op.Mul(line, width), _int64(op, column))  # [region, bin, bin, row, column]
    read = op.Gather(_rows_of_pixels(op, x, 2), places, axis=0)
    weighted = op.Mul(read, op.Unsqueeze(op.Mul(row_weight, column_weight), op.ints(5)))
    candidates = op.Reshape(weighted, op.Concat(op.ints(0, 0, 0, -1), op.shape(x, 1, 2), axis=0))
    first = op.GatherElements(candidates, op.ArgMax(candidates, axis=3), axis=3)
    return op.Transpose(op.Squeeze(first, op.ints(3)), perm=[0, 3, 1, 2])


def _interpolate(
    op: Ops, x: ir.Value, places: ir.Value, order: Sequence[int], mode: str, padding: str, low: float
) -> ir.Value:
    """Pictures [N, C, ...] read at `places` [N, P, axis], counted in pixels: [N, C, P].

    `order` says which spatial axis each coordinate is of; the border lies `low` (0 or -1/2) from the pixel 0.
    """
    sizes = [op.shape(x, 2 + axis, 3 + axis) for axis in range(len(order))]
    strides = [op.ints(1)]
    for size in sizes[:0:-1]:
        strides.insert(0, op.Mul(strides[0], size))
    limits = cast_like(op, op.Sub(op.Concat(*(sizes[axis] for axis in order), axis=0), op.ints(1)), places)
    first = op.Round(places) if mode == "nearest" else op.Floor(places)
    last = op.ints(3)
    behind, limits = op.Unsqueeze(op.Sub(places, first), last), op.Unsqueeze(limits, op.ints(1))
    assert places.dtype is not None
    polynomials = np.array(_POLYNOMIALS[mode], places.dtype.numpy())
    pixels = op.Add(
        op.Unsqueeze(first, last),
        op.constant(np.arange(polynomials.shape[1], dtype=polynomials.dtype) + _FIRST[mode]),
    )
    weights = (
        op.full(op.Shape(pixels), 1, places.dtype) if mode == "nearest" else op.constant(polynomials[-1])
    )
    for row in polynomials[-2::-1]:
        weights = op.Add(op.Mul(weights, behind), op.constant(row))
    if padding == "zeros":
        inside = op.And(op.GreaterOrEqual(pixels, 0), op.LessOrEqual(pixels, limits))
        weights = op.Where(inside, weights, 0)
    elif padding == "reflection":
        # Back and forth between both borders: as far from the first as from the nearest even multiple.
        from_border, period = op.Sub(pixels, low), op.Max(op.Mul(op.Sub(limits, 2 * low), 2), 1)
        even = op.Mul(op.Round(op.Div(from_border, period)), period)
        pixels = op.Add(op.Abs(op.Sub(from_border, even)), low)
    pixels = op.Max(op.Min(pixels, limits), 0)
    steps = op.Unsqueeze(op.Concat(*(strides[axis] for axis in order), axis=0), op.ints(1))
    offset = op.Mul(_numbers(op, op.shape(x, 0, 1)), op.Mul(strides[0], sizes[0]))
    flat = op.Reshape(offset, op.ints(-1, *[1] * (1 + len(order))))
    weight = None
    for place, share in zip(
        _along_own_axes(op, op.Mul(_int64(op, pixels), steps), len(order)),
        _along_own_axes(op, weights, len(order)),
        strict=True,
    ):
        flat, weight = op.Add(flat, place), share if weight is None else op.Mul(weight, share)
    read = op.Gather(_rows_of_pixels(op, x, len(order)), op.Reshape(flat, op.ints(0, 0, -1)), axis=0)
    assert weight is not None
    shares = cast_like(op, op.Reshape(weight, op.ints(0, 0, 1, -1)), x)
    return op.Transpose(op.Squeeze(op.MatMul(shares, read), op.ints(2)), perm=[0, 2, 1])


def _along_own_axes(op: Ops, x: ir.Value, rank: int) -> list[ir.Value]:
    """[N, P, axis, k] as one value for each axis, its k laid along an axis of its own."""
    return [
        op.Reshape(part, op.ints(0, 0, *[1] * axis, -1, *[1] * (rank - 1 - axis)))
        for axis, part in enumerate(_split(op, x, 2, rank))
    ]


def _split(op: Ops, x: ir.Value, axis: int, count: int) -> Sequence[ir.Value]:
    parts = op.emit("Split", [x], {"axis": axis, "num_outputs": count}, outputs=count)
    for part in parts:
        part.type = x.type
    return parts


def _rows_of_pixels(op: Ops, x: ir.Value, rank: int) -> ir.Value:
    """[N, C, ...] as one row of channels for each pixel of each picture."""
    last = op.Transpose(x, perm=[0, *range(2, 2 + rank), 1])
    return op.Reshape(last, op.Concat(op.ints(-1), op.shape(x, 1, 2), axis=0))


def _numbers(op: Ops, count: ir.Value) -> ir.Value:
    """0, 1, 2 ... up to a count."""
    return op.Range(op.scalar(0), op.Reshape(_int64(op, count), op.ints()), op.scalar(1))


def _int64(op: Ops, value: ir.Value) -> ir.Value:
    return value if value.dtype == ir.DataType.INT64 else op.Cast(value, to=int(ir.DataType.INT64))
