"""Pools: each window sends its cotangent back to the inputs it read."""

import math

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.convolution import transposed
from onnxviz.autodiff.rules.helpers import (
    Answers,
    Cotangent,
    count_of,
    data,
    positions,
    produced,
    scatter_add,
    scatter_back,
    shared_out,
    type_of,
)
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops, rank_of
from onnxviz.graph.window import Window, spatial_or_unknown, window


@vjp("MaxPool")
def _max_pool(op: Ops, node: ir.Node, g: ir.Value, _indices: Cotangent = None) -> Answers:
    """To the first largest input of each window; windows that overlap add up."""
    x, win = data(node), window(node)
    if _tiles(x, node.outputs[0], win):
        return (_max_of_tiles(op, x, node.outputs[0], g, win),)
    if node.attributes.get_int("storage_order", 0) == 0:
        return (scatter_back(op, x, produced(op, node, 1, ir.DataType.INT64), g),)
    rows_first = {name: value for name, value in node.attributes.items() if name != "storage_order"}
    _, where = op.emit("MaxPool", [x], rows_first, outputs=2)
    return (scatter_back(op, x, where, g),)


@vjp("AveragePool")
def _average_pool(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = (S x) / n, with S the sum over each window and n its divisor: dx = S^T (g / n)."""
    x, win = data(node), window(node)
    assert x.dtype is not None
    padded = win.begin is None or win.end is None or any(win.begin) or any(win.end)
    ceil = node.attributes.get_int("ceil_mode", 0) == 1
    if padded or ceil:
        share = op.Mul(g, _one_over_divisor(op, node, x, win))
    else:
        share = op.Div(g, math.prod(win.kernel))
    return (spread(op, node, share, win),)


@vjp("LpPool")
def _lp_pool(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = (S |x|^p)^(1/p), with S the sum over each window: dx = x |x|^(p-2) S^T (g y^(1-p))."""
    x, (y,), p = data(node), node.outputs, node.attributes.get_int("p", 2)
    return (op.Mul(_odd_power(op, x, p - 1), spread(op, node, _over_power(op, g, y, p - 1), window(node))),)


@vjp("GlobalLpPool")
def _global_lp_pool(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, (y,), p = data(node), node.outputs, node.attributes.get_int("p", 2)
    return (op.Mul(_odd_power(op, x, p - 1), _over_power(op, g, y, p - 1)),)


@vjp("MaxUnpool")
def _max_unpool(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """Each input comes back from the place in y that it was put to."""
    x, where, *size = data(node), *node.inputs[1:]
    if not size or size[0] is None:
        return op.Gather(op.Reshape(g, op.ints(-1)), where), *(ZERO for _ in node.inputs[1:])
    # Where an index lies in an output of another size, runtimes do not agree on: the node itself moves each
    # input's place, counted from 1 (a float32 counts to 2 ** 24).
    wide = x.dtype if x.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    numbers = op.Cast(op.Add(positions(op, x), 1), to=int(wide))
    moved = op.emit("MaxUnpool", [numbers, where, *size], dict(node.attributes))[0]
    count = op.Add(count_of(op, x), 1)
    landed = scatter_add(op, count, op.Cast(moved, to=int(ir.DataType.INT64)), g)
    return op.reshape_like(op.Slice(landed, op.ints(1), count), x), ZERO, ZERO


@vjp("GlobalAveragePool")
def _global_average_pool(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x = data(node)
    return (op.Expand(shared_out(op, g, x), op.shape(x)),)


@vjp("GlobalMaxPool")
def _global_max_pool(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """To the largest input, in equal shares where several are."""
    x, (y,) = data(node), node.outputs
    assert x.dtype is not None
    largest = op.Cast(op.Equal(x, y), to=int(x.dtype))
    ties = op.ReduceSum(largest, op.ints(*range(2, rank_of(x))), keepdims=1)
    return (op.Mul(largest, op.Div(g, ties)),)


def spread(op: Ops, node: ir.Node, g: ir.Value, win: Window) -> ir.Value:
    """S^T g: each window's number onto all inputs that it read."""
    x, (y, *_) = data(node), node.outputs
    # With ceil_mode, shape inference before opset 19 counts windows that lie in the padding alone.
    ceil = node.attributes.get_int("ceil_mode", 0) == 1
    sizes = op.Shape(g, start=2) if ceil else op.shape(y, 2)
    # Channels do not mix, so they join the batch and one kernel of ones serves them all.
    planes = op.Reshape(g, op.Concat(op.ints(-1, 1), sizes, axis=0))
    return op.reshape_like(transposed(op, planes, _ones(op, win, type_of(g)), win, (x, y)), x)


def _odd_power(op: Ops, x: ir.Value, p: int) -> ir.Value:
    """|x|^p with the sign of x."""
    if p == 1:
        return x
    return op.Mul(op.Sign(x), op.Pow(op.Abs(x), p)) if p else op.Sign(x)


def _over_power(op: Ops, g: ir.Value, y: ir.Value, p: int) -> ir.Value:
    """g / y^p; where y is 0 it will meet a 0, so that any number will do."""
    if p == 0:
        return g
    safe = op.Where(op.Equal(y, 0), 1, y)
    return op.Div(g, safe if p == 1 else op.Pow(safe, p))


def _tiles(x: ir.Value, y: ir.Value, win: Window) -> bool:
    """Whether the windows are known to cover x once."""
    if win.begin is None or any(win.begin) or not win.kernel == win.strides == win.extent:
        return False
    sizes = zip(*(spatial_or_unknown(value, win.rank) for value in (x, y)), win.kernel, strict=True)
    return all(o is not None and i == o * k for i, o, k in sizes)


def _max_of_tiles(op: Ops, x: ir.Value, y: ir.Value, g: ir.Value, win: Window) -> ir.Value:
    """Of the inputs that equal the largest of their tile the first: twice as fast as MaxPool's indices."""

    def spread(value: ir.Value) -> ir.Value:
        asymmetric = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return op.Resize(value, None, np.array([1, 1, *win.kernel], np.float32), **asymmetric)

    precedence = np.arange(math.prod(win.kernel), 0, -1).reshape(win.kernel)
    everywhere = op.Tile(op.constant(precedence.astype(type_of(x).numpy())), op.shape(y, 2))
    candidates = op.Where(op.Equal(x, spread(y)), everywhere, 0)
    first = op.MaxPool(candidates, kernel_shape=list(win.kernel), strides=list(win.strides))
    return op.Where(op.Equal(candidates, spread(first)), spread(g), 0)


def _one_over_divisor(op: Ops, node: ir.Node, x: ir.Value, win: Window) -> ir.Value:
    """1 / n of each window: the pool of ones, over how many inputs the window really read.

    So n is the runtime's own, whatever `count_include_pad` and `ceil_mode` make of it.
    """
    assert x.dtype is not None
    ones = op.full(op.Concat(op.ints(1, 1), op.shape(x, 2), axis=0), 1, x.dtype)
    average = op.emit("AveragePool", [ones], dict(node.attributes))[0]
    geometry = dict(node.attributes)
    geometry.pop("count_include_pad", None)
    ceil = geometry.pop("ceil_mode", None)
    if ceil is not None and win.begin is not None and win.end is not None:
        # A Conv has no ceil_mode: room for one more window, cut off where there was none.
        room = [end + stride - 1 for end, stride in zip(win.end, win.strides, strict=True)]
        geometry.pop("auto_pad", None)
        geometry["pads"] = [*win.begin, *room]  # type: ignore[assignment]
    read = op.emit("Conv", [ones, _ones(op, win, x.dtype)], geometry)[0]
    if ceil is not None:
        read = op.Slice(read, op.ints(*[0] * win.rank), op.Shape(average, start=2), op.ints(*win.axes))
    return op.Div(average, op.Max(read, 1))


def _ones(op: Ops, win: Window, dtype: ir.DataType) -> ir.Value:
    return op.constant(np.ones((1, 1, *win.kernel), dtype.numpy()))
