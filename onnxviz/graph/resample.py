"""Resampling as two matrix products, written as nodes: any box, any size, averaging where it shrinks."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from onnxviz.graph.ops import Ops

Kernel: TypeAlias = Callable[[Ops, ir.Value], ir.Value]
"""The weight of a cell by its distance from a pixel, in cells."""


def bilinear(op: Ops, distance: ir.Value) -> ir.Value:
    """A triangle."""
    return op.Relu(op.Sub(1.0, distance))


def bicubic(op: Ops, distance: ir.Value) -> ir.Value:
    """Cubic convolution (Keys 1981) with a = -1/2, as Pillow has it."""
    near = op.Add(op.Mul(op.Mul(op.Sub(op.Mul(distance, 1.5), 2.5), distance), distance), 1.0)
    far = op.Sub(op.Mul(op.Add(op.Mul(op.Sub(distance, 5.0), distance), 8.0), distance), 4.0)
    beyond = op.Where(op.Less(distance, 2.0), op.Mul(far, -0.5), 0.0)
    return op.Where(op.Less(distance, 1.0), near, beyond)


def resized(op: Ops, maps: ir.Value, height: ir.Value, width: ir.Value) -> ir.Value:
    """Maps [N, h, w] at another size, bilinear with half-pixel centres."""
    for axis, pixels in ((1, height), (2, width)):
        cells = op.Squeeze(op.Shape(maps, start=axis, end=axis + 1))
        table = weights(op, pixels, cells, op.constant(np.array(0.0)), exact(op, cells))
        maps = spread(op, table, maps, axis)
    return maps


def spread(op: Ops, table: ir.Value, maps: ir.Value, axis: int) -> ir.Value:
    """Maps [N, h, w] resampled along axis 1 or 2 by weights, in the maps' own type."""
    assert maps.dtype is not None
    table = op.Cast(table, to=maps.dtype)
    return op.MatMul(table, maps) if axis == 1 else op.MatMul(maps, op.Transpose(table, perm=[1, 0]))


def weights(
    op: Ops,
    pixels: ir.Value,
    cells: ir.Value,
    start: ir.Value,
    stop: ir.Value,
    kernel: Kernel | None = bilinear,
    bounded: bool = False,
) -> ir.Value:
    """How much each of the cells adds to each of the pixels, float64 [pixels, cells].

    Args:
        op: Where to write.
        pixels: How many pixels are wanted, int64 of rank 0.
        cells: How many cells there are, int64 of rank 0.
        start: Where in the cells' coordinates the first pixel begins (0 is the edge of the first cell),
        float64.
        stop: Where the last pixel ends, float64.
        kernel: The filter, stretched where pixels are larger than cells; None: the cell that a pixel's centre
            lies in.
        bounded: Whether pixels whose centre lies beyond the cells get nothing; else they get the nearest
        cells.
    """
    step = op.Div(op.Sub(stop, start), exact(op, pixels))
    if kernel is None:
        centres = _summed_centres(op, pixels, start, step)
        table = exact(op, op.Equal(op.Floor(centres), _counted(op, cells)))
    else:
        centres = op.Unsqueeze(op.Add(op.Mul(op.Add(_counted(op, pixels), 0.5), step), start), op.ints(1))
        distance = op.Abs(op.Sub(centres, op.Add(_counted(op, cells), 0.5)))
        table = kernel(op, op.Div(distance, op.Max(step, 1.0)))
    total = op.ReduceSum(table, op.ints(1), keepdims=1)
    table = op.Div(table, op.Where(op.Equal(total, 0), 1, total))
    if bounded:
        beyond = op.Or(op.Less(centres, 0.0), op.Greater(centres, exact(op, cells)))
        table = op.Where(beyond, 0, table)
    return table


def exact(op: Ops, value: ir.Value) -> ir.Value:
    """A number as float64, in which places are reckoned: whole pixels must stay whole."""
    return op.Cast(value, to=ir.DataType.DOUBLE)


def _summed_centres(op: Ops, pixels: ir.Value, start: ir.Value, step: ir.Value) -> ir.Value:
    """The pixels' centres, added up one by one: on an edge of two cells, rounding decides, as in Pillow."""
    first = op.Unsqueeze(op.Add(op.Mul(step, 0.5), start), op.ints(0))
    rest = op.Expand(step, op.Unsqueeze(op.Sub(pixels, 1), op.ints(0)))
    return op.Unsqueeze(op.CumSum(op.Concat(first, rest, axis=0), op.scalar(0)), op.ints(1))


def _counted(op: Ops, number: ir.Value) -> ir.Value:
    """0, 1, 2 ... as float64."""
    return exact(op, op.Range(op.scalar(0), number, op.scalar(1)))
