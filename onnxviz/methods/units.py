"""Units of a layer, one channel at one place of its feature maps, and how a graph is asked about each."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.autodiff.backward import is_float
from onnxviz.autodiff.pullback import fresh_name
from onnxviz.errors import SelectorError
from onnxviz.graph.expose import expose
from onnxviz.graph.extend import extend
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.graph.quantisation import scale_of
from onnxviz.methods.query import Query
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track

Array: TypeAlias = npt.NDArray[Any]

_AT_ONCE = 16


@dataclass(frozen=True)
class Unit:
    """One unit of a layer: the number of the picture, the channel, and the place in its map (row, column)."""

    picture: int
    channel: int
    position: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """A layer of a query's model, ready to be asked unit by unit.

    `tensor` is the layer's output in floats, and `model` the query's model or, where the layer's numbers are
    integers, that with a dequantiser behind it. `numbers` are the elements of the layer's own output for one
    picture, [1, ...], numbered in their order.
    """

    query: Query
    layer: Layer
    model: Model
    tensor: str
    numbers: npt.NDArray[np.int64] = field(repr=False)
    device: str
    batch: int | None

    def ask(self, graph: Model, units: Sequence[Unit], what: str) -> Iterator[Mapping[str, Array]]:
        """The outputs of a rewrite of `model` for each unit and its picture, without a batch axis.

        The graph's cotangent, shaped like the layer's output, is 1 at the unit and 0 elsewhere. One session
        serves all units, in batches.
        """
        [where] = [value for value in graph.inputs if value.name == graph.cotangent]
        session = self.query.session(graph, self.device)
        for start, stop in track(list(batches(len(units), self.batch or _AT_ONCE)), what):
            some = units[start:stop]
            feeds = {where.name: self._masks(some, where.dtype)}
            pictures = self.query.some([unit.picture for unit in some])
            answers = pictures.run(session, 0, len(some), feeds, self.batch)
            yield from ({name: rows[row] for name, rows in answers.items()} for row in range(len(some)))

    def check(self, units: Sequence[Unit]) -> None:
        """Refuse units that are none of the layer's or of the pictures'.

        Raises:
            SelectorError: There is such a unit, or no unit at all.
        """
        if not units:
            raise SelectorError(f"no unit of layer {self.layer.name!r} is named")
        pictures, sizes = len(self.query), as_maps(self.numbers, self.layer).shape[1:]
        for unit in units:
            at, most = (unit.picture, unit.channel, *unit.position), (pictures, *sizes)
            if len(at) != len(most) or not all(0 <= a < size for a, size in zip(at, most, strict=True)):
                raise SelectorError(
                    f"layer {self.layer.name!r} has no {unit}: it has {sizes[0]} channels of "
                    f"{sizes[1]}x{sizes[2]} places, and there "
                    f"{'is 1 picture' if pictures == 1 else f'are {pictures} pictures'}"
                )

    def _masks(self, units: Sequence[Unit], dtype: npt.DTypeLike) -> Array:
        masks = np.zeros((len(units), self.numbers.size), dtype)
        cells = as_maps(self.numbers, self.layer)[0]
        for row, unit in enumerate(units):
            masks[row, cells[unit.channel][unit.position]] = 1
        return masks.reshape(len(units), *self.numbers.shape[1:])


def probe(query: Query, layer: Layer, device: str = "auto", batch: int | None = None) -> Probe:
    """Make a layer ready to be asked unit by unit; the model is run where the graph leaves a size open."""
    shape: Sequence[int | str | None] | None = layer.shape
    if shape is None or not all(isinstance(size, int) for size in shape[1:]):
        session = query.session(expose(query.model, layer.tensor), device)
        shape = query.run(session, 0, 1)[layer.tensor].shape
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    numbers = np.arange(math.prod(sizes)).reshape(1, *sizes)
    return Probe(query, layer, *in_floats(query.model, layer), numbers, device, batch)


def in_floats(model: Model, layer: Layer) -> tuple[Model, str]:
    """The model, and the name in it of a layer's output in floats: dequantised behind it where it is not."""
    value = model.tensor(layer.tensor)
    scale = None if is_float(value) else scale_of(value)
    if scale is None:
        return model, layer.tensor
    name = fresh_name(f"{layer.tensor}_floats", model.tensors)

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        step, zero = map(op.constant, scale)
        floats = op.DequantizeLinear(values[layer.tensor], step, zero, axis=1 if scale[0].size > 1 else None)
        floats.type, floats.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        return {name: floats}

    return extend(model, "floats", write), name


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
