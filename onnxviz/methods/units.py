"""Units of a layer: one channel at one place of its feature maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError
from onnxviz.graph.expose import expose
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.methods.query import Query

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Unit:
    """One unit of a layer: the number of the picture, the channel, and the place in its map (row, column)."""

    picture: int
    channel: int
    position: tuple[int, ...]


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


def numbered(query: Query, layer: Layer, device: str) -> npt.NDArray[np.int64]:
    """The elements of a layer's output for one picture, [1, ...] in its own layout, numbered in their order.

    The model is run for it where the graph leaves a size open.
    """
    shape: Sequence[int | str | None] | None = layer.shape
    if shape is None or not all(isinstance(size, int) for size in shape[1:]):
        session = query.session(expose(query.model, layer.tensor), device)
        shape = query.run(session, 0, 1)[layer.tensor].shape
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    return np.arange(math.prod(sizes)).reshape(1, *sizes)


def masks(units: Sequence[Unit], layer: Layer, numbers: Array, dtype: npt.DTypeLike) -> Array:
    """1 at each unit and 0 elsewhere, [n, ...] in the layer's own layout; `numbers` as of `numbered`."""
    found = np.zeros((len(units), numbers.size), dtype)
    cells = as_maps(numbers, layer)[0]
    for row, unit in enumerate(units):
        found[row, cells[unit.channel][unit.position]] = 1
    return found.reshape(len(units), *numbers.shape[1:])


def check_units(units: Sequence[Unit], layer: Layer, sizes: Sequence[int], pictures: int) -> None:
    """Refuse units that are none of a layer's, whose maps have these `sizes` (channels, rows, columns).

    Raises:
        SelectorError: There is such a unit, or no unit at all.
    """
    if not units:
        raise SelectorError(f"no unit of layer {layer.name!r} is named")
    for unit in units:
        at, most = (unit.picture, unit.channel, *unit.position), (pictures, *sizes)
        if len(at) != len(most) or not all(0 <= place < size for place, size in zip(at, most, strict=True)):
            raise SelectorError(
                f"layer {layer.name!r} has no {unit}: it has {sizes[0]} channels of {sizes[1]}x{sizes[2]} "
                f"places, and there {'is 1 picture' if pictures == 1 else f'are {pictures} pictures'}"
            )
