"""A layer's output as feature maps: [N, C, h, w], whatever its layout; as arrays, and as nodes of a graph."""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.graph.layers import Layer
from onnxviz.graph.ops import Ops

Array: TypeAlias = npt.NDArray[Any]


def as_maps(array: Array, layer: Layer) -> Array:
    """A layer's output [N, ...] as feature maps [N, C, h, w].

    One place axis becomes a row, three become slices of depth side by side, tokens the grid that they were
    cut from (without those in front that have no place); a layer without places has maps of one cell for
    each of its features.
    """
    if layer.channel is None or not layer.grid:
        return array.reshape(len(array), -1, 1, 1)
    ordered = np.moveaxis(array, [layer.channel, *layer.grid], range(1, array.ndim))
    if layer.tokens is not None:
        first, height, width = layer.tokens
        return ordered[:, :, first : first + height * width].reshape(*ordered.shape[:2], height, width)
    if len(layer.grid) == 1:
        return ordered[:, :, None, :]
    return ordered if len(layer.grid) == 2 else as_plane(ordered)


def as_plane(maps: Array) -> Array:
    """Maps of three places [..., d, h, w] as [..., h, d * w]: the slices of depth side by side."""
    slices = np.moveaxis(maps, -3, -2)
    return slices.reshape(*slices.shape[:-2], -1)


def spread(weights: Array, layer: Layer, like: Array) -> Array:
    """Numbers [N, C, h, w], or with axes of 1 to broadcast, laid out as the layer's output [N, ...] is.

    The reverse of `as_maps` for weights of its cells; tokens that have no place get 1.
    """
    assert layer.channel is not None
    *_, height, width = as_maps(like, layer).shape
    n, channels = weights.shape[:2]
    full = np.broadcast_to(weights, (n, channels, height, width))
    if layer.tokens is not None:
        first, rows, columns = layer.tokens
        flat = np.ones((n, channels, like.shape[layer.grid[0]]), weights.dtype)
        flat[:, :, first : first + rows * columns] = full.reshape(n, channels, -1)
        full = flat
    elif len(layer.grid) == 1:
        full = full[:, :, 0]
    elif len(layer.grid) == 3:
        depth = like.shape[layer.grid[0]]
        full = full.reshape(n, channels, height, depth, -1).transpose(0, 1, 3, 2, 4)
    return np.moveaxis(full, range(1, full.ndim), [layer.channel, *layer.grid])


def flattened(op: Ops, value: ir.Value, layer: Layer) -> ir.Value:
    """A value in the layer's layout as [N, C, Z]: for each channel its places in one row, as nodes."""
    assert layer.channel is not None
    order = [0, layer.channel, *layer.grid]
    ordered = value if order == sorted(order) else op.Transpose(value, perm=order)
    if layer.tokens is not None:
        first, height, width = layer.tokens
        ends = (np.array([edge]) for edge in (first, first + height * width, 2))
        return op.Slice(ordered, *ends)
    if len(layer.grid) == 1:
        return ordered
    # A size known is written as one; 0 keeps the batch's and the channels'.
    sizes = [layer.shape[axis] for axis in layer.grid] if layer.shape is not None else [None]
    known = [size for size in sizes if isinstance(size, int)]
    places = math.prod(known) if len(known) == len(sizes) else -1
    return op.Reshape(ordered, np.array([0, 0, places]))


def restored(op: Ops, maps: ir.Value, value: ir.Value, layer: Layer) -> ir.Value:
    """Maps [N, Z] over the places of `value`, a value in the layer's layout, as [N, *places]."""
    if layer.tokens is not None:
        _, height, width = layer.tokens
        return op.Reshape(maps, np.array([0, height, width]))
    if len(layer.grid) == 1:
        return op.Unsqueeze(maps, np.array([1]))
    sizes = op.Gather(op.Shape(value), np.array([0, *layer.grid]))
    return op.Reshape(maps, sizes)
