"""Units of a layer: where in its feature maps a channel is strongest, and which pixels a place looks at."""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.graph.layers import Layer
from onnxviz.methods.query import Query

Array: TypeAlias = npt.NDArray[Any]
Boxes: TypeAlias = npt.NDArray[np.int64]

# Behind an upsampling the numbers of a field are fractions that were rounded to floats.
_ROUNDING = 1e-6


def strongest_places(maps: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Where each map is largest: the first such place, row by row.

    Args:
        maps: [K, h, w], any dtype; what is not finite counts as smaller than anything.

    Returns:
        The values, float64 [K] (-inf where nothing is finite), and the places (row, column), int64 [K, 2].
    """
    exact = maps.astype(np.float64)
    flat = np.where(np.isfinite(exact), exact, -np.inf).reshape(len(maps), -1)
    where = flat.argmax(axis=1)
    places = np.stack(np.unravel_index(where, maps.shape[1:]), axis=1)
    return flat[np.arange(len(flat)), where], places.astype(np.int64)


def boxes_of(query: Query, layer: Layer, places: Array) -> Boxes:
    """The receptive field of each place of a layer, as a box in pixels of the model's input.

    A place (i, j) looks at the pixels from offset + i * stride on, as many as the field has
    (graph/receptive.py finds these numbers); behind an upsampling, where they are fractions, the box holds
    every whole pixel between. All boxes of a layer are of one size, so those of places near a border reach
    outside the picture. Along an axis on which the field is not known, or is no smaller than the picture, the
    box is the picture.

    Args:
        query: The model and its pictures.
        layer: A layer of the model.
        places: int [n, 2], rows and columns of the layer's maps (see `as_maps`).

    Returns:
        int64 [n, 4]: left, top, right, bottom; right and bottom are exclusive.
    """
    down, across = (_spans(query, layer, axis, places[:, axis]) for axis in (0, 1))
    return np.stack([across[0], down[0], across[1], down[1]], axis=1)


def sees_all(query: Query, layer: Layer) -> bool:
    """Whether each place of a layer looks at the whole picture, as far as is known."""
    return all(_field(query, layer, axis) is None for axis in (0, 1))


def share_seen(query: Query, layer: Layer) -> float:
    """How much of the picture's height or width, whichever is more, a place of a layer looks at."""
    fields = [_field(query, layer, axis) for axis in (0, 1)]
    return max(
        1.0 if field is None else field[0] / query.input_size[axis] for axis, field in enumerate(fields)
    )


def _spans(query: Query, layer: Layer, axis: int, places: Array) -> tuple[Boxes, Boxes]:
    """First pixel, and the one behind the last, of each place along one axis."""
    field = _field(query, layer, axis)
    if field is None:
        first, size = np.zeros(len(places), np.int64), query.input_size[axis]
    else:
        span, stride, offset = field
        first = np.ceil(offset + places * stride - _ROUNDING).astype(np.int64)
        size = math.floor(span + _ROUNDING)
    return first, first + size


def _field(query: Query, layer: Layer, axis: int) -> tuple[float, float, float] | None:
    """Size, stride and offset of a layer's field along one axis of the picture; None: all of it."""
    field = layer.receptive_field
    if field is None or len(layer.grid) != 2 or layer.tokens is not None or not _is_traced(query):
        return None
    size, stride = field.size[axis], field.stride[axis]
    if size is None or stride is None or size >= query.input_size[axis]:
        return None
    return size, stride, field.offset[axis]


def _is_traced(query: Query) -> bool:
    """Whether receptive fields are told in pixels of the picture: in those of the input of highest rank."""
    ranked = [value for value in query.model.inputs if value.shape is not None]
    return max(ranked, key=lambda value: len(value.shape or ())).name == query.where.name
