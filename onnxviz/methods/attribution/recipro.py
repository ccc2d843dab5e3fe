"""ReciproCAM: what each place says of the score when only it is left."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.graph.feature_maps import as_maps, spread
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.attribution.baselines import blend
from onnxviz.methods.attribution.looped import (
    Asked,
    along,
    blended,
    counting,
    loop,
    looped,
    plane_of,
    turned,
)
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import Question, Subject
from onnxviz.methods.attribution.shared import by_picture, nothing, scores_of
from onnxviz.methods.attribution.tail import tail_of
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track

# By the distance from the centre, 0, 1 or more, along one axis.
_GAUSSIAN, _ALONE = np.array([1 / 2, 1 / 4, 0]), np.array([1.0, 0, 0])

_FEW = 8
"""A map of fewer values than this is coarse."""


def recipro_cam(question: Question, layers: Sequence[Layer], *, gaussian: bool = True) -> Maps:
    """M_ij = S_ij - min S, S_ij the score with only the place (i, j) of the layer left (Byun & Lee 2022).

    Only what follows the layer is run, once for each place. What goes round the layer (a skip connection) and
    tokens without a place keep their values. A score has no zero of its own: the paper scales the map from
    its lowest value to its highest, of which the picture does the second half. It takes class probabilities;
    here S is the score before any softmax.

    Args:
        question: What is asked.
        layers: The layer.
        gaussian: Leave a 3 x 3 neighbourhood, weighted by 1/4 in its centre, 1/8 beside it and 1/16 at its
            corners; else the one place, as it is.
    """
    [layer] = layers
    raw: dict[int, Array] = {}
    for numbers in track(by_picture(question), f"places of {layer.name}"):
        tail = tail_of(question, layer, numbers[0])
        absent = nothing(question, layer, tail.activation)
        height, width = as_maps(tail.activation, layer).shape[2:]
        scores = []
        for start, stop in track(list(batches(height * width, tail.at_once)), "places"):
            kept = _neighbourhoods(range(start, stop), height, width, gaussian)[:, None]
            copies = _kept(tail.activation, absent, spread(kept, layer, tail.activation))
            scores.append(scores_of(question, numbers, tail.rows(copies)))
        maps = np.concatenate(scores, axis=1).reshape(-1, height, width)
        maps -= maps.min(axis=(1, 2), keepdims=True)
        raw |= zip(numbers, maps, strict=True)
    found = [raw[number] for number in range(len(question))]
    return Maps(found, notes=_coarse(found))


def recipro_graph(subject: Subject, layers: Sequence[Layer], *, gaussian: bool = True) -> Model:
    """ReciproCAM as one graph: a turn of a loop for each place.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
        ShapeError: The layer has three axes of places.
    """
    layer = plane_of(layers[0])

    def write(op: Ops, asked: Asked) -> ir.Value:
        a, kernel = asked.activation, op.constant((_GAUSSIAN if gaussian else _ALONE).astype(np.float32))
        height, width = _grid(op, a, layer)
        rows, columns = counting(op, height), counting(op, width)

        def alone(inside: Ops, place: ir.Value) -> ir.Value:
            row = inside.Div(place, width)
            column = inside.Sub(place, inside.Mul(row, width))
            down, across = (
                inside.Gather(kernel, inside.Min(inside.Abs(inside.Sub(line, centre)), op.scalar(2)))
                for line, centre in ((rows, row), (columns, column))
            )
            kept = _laid_out(inside, down, across, a, layer)
            return asked.again(inside, a, blended(inside, a, asked.nothing, kept))

        each = loop(op, op.Mul(height, width), alone)
        scores = turned(op, each, each.dtype)
        return op.Sub(scores, op.ReduceMin(scores, op.ints(1), keepdims=1))

    return looped(subject, layer, ("recipro", gaussian), write)


def _kept(activation: Array, absent: Array, mask: Array) -> Array:
    """Copies of an activation, each with what its mask leaves of it, in the activation's own type."""
    if activation.dtype.kind in "iu":
        return blend(activation, absent, mask)
    with np.errstate(invalid="ignore"):  # what is infinite is NaN where it is left out
        return np.asarray(activation * mask.astype(activation.dtype))


def _coarse(found: Sequence[Array]) -> tuple[str, ...]:
    """Say so where the scores of single places fall on a few steps only, as they do in quantised models."""
    counts = [len(np.unique(one)) for one in found if one.size > _FEW and np.ptp(one) > 0]
    if min(counts, default=_FEW) >= _FEW:
        return ()
    return (
        f"recipro-cam: a map takes {min(counts)} values only, as one place alone moves the score by a few "
        "steps of what the model rounds it to; ablation-cam changes more at a time",
    )


def _neighbourhoods(places: range, height: int, width: int, gaussian: bool) -> npt.NDArray[np.float64]:
    """What is left for each place, counted row by row: weights [K, height, width]."""
    kernel = _GAUSSIAN if gaussian else _ALONE
    rows, columns = np.divmod(np.array(places), width)
    down, across = (
        kernel[np.minimum(np.abs(centres[:, None] - np.arange(size)), 2)]
        for centres, size in ((rows, height), (columns, width))
    )
    return np.asarray(down[:, :, None] * across[:, None, :])


def _grid(op: Ops, value: ir.Value, layer: Layer) -> tuple[ir.Value, ir.Value]:
    """The height and width of a layer's maps, as int64 of rank 0; one axis of places is a row."""
    if layer.tokens is not None:
        _, height, width = layer.tokens
        return op.scalar(height), op.scalar(width)
    *rows, columns = (op.Gather(op.Shape(value), op.scalar(axis)) for axis in layer.grid)
    return (rows[0] if rows else op.scalar(1)), columns


def _laid_out(op: Ops, down: ir.Value, across: ir.Value, value: ir.Value, layer: Layer) -> ir.Value:
    """The products of `down` [h] and `across` [w] over a value's places; 1 at tokens without a place."""
    if layer.tokens is None:
        *row, column = layer.grid
        first = along(op, down, row[0], value) if row else down
        return op.Mul(first, along(op, across, column, value))
    before, height, width = layer.tokens
    over = op.Reshape(op.Mul(op.Unsqueeze(down, op.ints(1)), across), op.ints(-1))
    [axis] = layer.grid
    after = op.Sub(op.Gather(op.Shape(value), op.ints(axis)), op.ints(before + height * width))
    first, last = (op.full(size, 1, ir.DataType.FLOAT) for size in (op.ints(before), after))
    return along(op, op.Concat(first, over, last, axis=0), axis, value)


RECIPROCALS = (
    Method(
        "recipro-cam",
        recipro_cam,
        "layer",
        "M_ij = the score with only the place (i, j) of the layer left, and its neighbours; less the lowest",
        "the trunk once + what follows the layer, h w times",
        "Byun & Lee 2022, arXiv:2209.14074",
        graph=recipro_graph,
    ),
)
