"""Receptive fields of units: which pixels can change one, and the box to cut out around them.

The graph that finds them goes from the units back to the pixels with marks instead of numbers (see
autodiff/dependence.py), so that they are exact at every place, also where a border cuts them off.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.autodiff.dependence import DEPENDENCE
from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import DisconnectedError, ShapeError, UnsupportedOperator
from onnxviz.graph.extend import extend
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.attribution.cams import floats_at
from onnxviz.methods.query import Query
from onnxviz.methods.units import Probe, Unit

Array: TypeAlias = npt.NDArray[Any]
Boxes: TypeAlias = npt.NDArray[np.int64]

FIELD = "field"
"""The output of the graph that finds them."""

# Behind an upsampling the numbers of a layer's field are fractions that were rounded to floats.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Fields:
    """What units see.

    `seen` are the smallest boxes that hold every pixel that can change a unit; `boxes` are those to cut out,
    all of one size, so that they reach outside the picture where a field does. Both are int64 [n, 4]: left,
    top, right, bottom in pixels of the model's input, right and bottom exclusive. `unknown` says why the
    whole picture stands for what is seen (None: it does not).
    """

    seen: Boxes
    boxes: Boxes
    unknown: str | None


def fields_of(probe: Probe, units: Sequence[Unit]) -> Fields:
    """What units of a layer see; at least one."""
    query, layer = probe.query, probe.layer
    height, width = query.input_size
    try:
        seen, unknown = _seen(probe, tracer(probe.model, probe.tensor, query.where.name), units), None
    except (UnsupportedOperator, DisconnectedError, ShapeError) as err:
        seen, unknown = np.tile(np.array([0, 0, width, height]), (len(units), 1)), str(err)
    places = np.array([unit.position for unit in units])
    down, across = (_spans(query, layer, axis, places[:, axis], seen[:, 1 - axis :: 2]) for axis in (0, 1))
    return Fields(seen, np.stack([across[0], down[0], across[1], down[1]], axis=1), unknown)


def share_seen(query: Query, layer: Layer) -> float:
    """How much of the picture's height or width, whichever is more, a place of a layer looks at."""
    fields = [_field(query, layer, axis) for axis in (0, 1)]
    shares = zip(fields, query.input_size, strict=True)
    return max(1.0 if field is None else field[0] / size for field, size in shares)


def tracer(model: Model, tensor: str, at: str) -> Model:
    """The graph of which elements of an input can change a tensor's: its output `field` is above 0 there.

    The extra input, shaped like the tensor, is 1 at the elements asked about and 0 elsewhere.

    Raises:
        UnsupportedOperator: What an operator between them depends on is not known.
        DisconnectedError, ShapeError: See `gradient`.
    """
    derived = gradient(model, of=tensor, wrt=at, rules=DEPENDENCE, keep=[at])

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        return {FIELD: floats_at(op, model, derived, at, values)[1]}

    return extend(derived, "field", write)


def _seen(probe: Probe, graph: Model, units: Sequence[Unit]) -> Boxes:
    # What a unit sees is the same in every picture.
    alike = list(dict.fromkeys(replace(unit, picture=0) for unit in units))
    channels = 2 if probe.query.where.layout == "NHWC" else 0
    found = {}
    for unit, answer in zip(alike, probe.ask(graph, alike, "receptive fields"), strict=True):
        marked = np.asarray((answer[FIELD] > 0).any(axis=channels))
        rows, columns = np.nonzero(marked)
        found[unit] = np.array([*_ends(columns), *_ends(rows)])[[0, 2, 1, 3]]
    return np.stack([found[replace(unit, picture=0)] for unit in units])


def _ends(places: Array) -> tuple[int, int]:
    """The first of some places, and the one behind the last; nothing, at 0, of none."""
    return (int(places.min()), int(places.max()) + 1) if places.size else (0, 0)


def _spans(query: Query, layer: Layer, axis: int, places: Array, seen: Array) -> tuple[Array, Array]:
    """First pixel, and the one behind the last, of the box of each place along one axis.

    The layer's field tells them, as position o looks at offset + o * stride and on; a field as large as the
    picture is the picture. Where it is not even, the largest of what is seen is the size of all.
    """
    field, extent = _field(query, layer, axis), query.input_size[axis]
    if field is None:
        size = max(1, int((seen[:, 1] - seen[:, 0]).max()))
        first = np.where(seen[:, 0] > 0, seen[:, 0], seen[:, 1] - size)
        return first, first + size
    span, stride, offset = field
    if span >= extent:
        return np.zeros_like(places), np.full_like(places, extent)
    first, size = np.ceil(offset + places * stride - _ROUNDING).astype(np.int64), math.floor(span + _ROUNDING)
    # A border that is mirrored or repeated is seen inside the picture.
    held = np.maximum(np.minimum(first, seen[:, 0]), seen[:, 1] - size)
    first = np.where(seen[:, 1] > seen[:, 0], held, first)
    return first, first + size


def _field(query: Query, layer: Layer, axis: int) -> tuple[float, float, float] | None:
    """A layer's field along an axis: size, stride and offset; None: it is not even, or not known."""
    field = layer.receptive_field
    if field is None or len(layer.grid) != 2 or layer.tokens is not None or not _is_traced(query):
        return None
    size, stride = field.size[axis], field.stride[axis]
    return None if size is None or stride is None else (size, stride, field.offset[axis])


def _is_traced(query: Query) -> bool:
    """Whether receptive fields are told in pixels of the picture: in those of the input of highest rank."""
    ranked = [value for value in query.model.inputs if value.shape is not None]
    return max(ranked, key=lambda value: len(value.shape or ())).name == query.where.name
