"""Score-CAM and its kin, each as one graph: a loop whose body is the model once more, behind a mask."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.errors import ShapeError
from onnxviz.graph.feature_maps import restored
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.graph.resample import resized
from onnxviz.methods.attribution.fragments import weighted
from onnxviz.methods.attribution.looped import Asked, blended, loop, looped, plane_of, turned
from onnxviz.methods.attribution.masks import counted, noise_of, shares_of
from onnxviz.methods.attribution.question import Subject

Array: TypeAlias = npt.NDArray[Any]


def score_graph(subject: Subject, layers: Sequence[Layer], *, base: Array | None = None) -> Model:
    """Score-CAM as one graph: a turn of a loop for each mask.

    Args:
        subject: The model.
        layers: The layer.
        base: What a mask of 0 shows, [*input]; None: zeros.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
        ShapeError: The layer has three axes of places.
    """
    return _score_weighted(subject, layers, base)


def faster_graph(
    subject: Subject, layers: Sequence[Layer], *, channels: int = 10, base: Array | None = None
) -> Model:
    """Faster-Score-CAM as one graph; for the rest see `score_graph`."""
    return _score_weighted(subject, layers, base, most=counted(channels))


def ss_graph(
    subject: Subject,
    layers: Sequence[Layer],
    *,
    samples: int = 35,
    level: float = 0.15,
    seed: int = 0,
    base: Array | None = None,
) -> Model:
    """SS-CAM as one graph, which holds its noise; for the rest see `score_graph`.

    Raises:
        ShapeError: The size of the layer's output is not known, so there is no noise of that size.
    """
    layer = plane_of(layers[0])
    channels, shape = layer.channels, _grid_of(layer)
    if channels is None or shape is None:
        raise ShapeError(
            f"ss-cam: the model leaves the size of layer {layer.name!r} open, and noise needs one; give its "
            "input a size"
        )
    noise = [
        noise_of(seed, channel, turn, shape).reshape(-1)
        for channel in range(channels)
        for turn in range(counted(samples))
    ]
    return _score_weighted(subject, layers, base, turns=_Turns(samples, noise=level * np.stack(noise)))


def is_graph(
    subject: Subject,
    layers: Sequence[Layer],
    *,
    steps: int = 10,
    cumulative: bool = False,
    base: Array | None = None,
) -> Model:
    """IS-CAM as one graph; for the rest see `score_graph`."""
    shares = shares_of(counted(steps), cumulative)
    return _score_weighted(subject, layers, base, turns=_Turns(steps, shares=shares))


@dataclass(frozen=True)
class _Turns:
    """How the masks of one channel differ: by noise [C * count, Z], or by what each is multiplied by [count].

    Noise is in shares of the channel's range.
    """

    count: int = 1
    noise: Array | None = None
    shares: Array | None = None

    @property
    def key(self) -> Hashable:
        """What tells these turns from others."""
        arrays = (self.noise, self.shares)
        return (self.count, *(None if array is None else array.tobytes() for array in arrays))


_ONE = _Turns()


def _score_weighted(
    subject: Subject,
    layers: Sequence[Layer],
    base: Array | None,
    most: int | None = None,
    turns: _Turns = _ONE,
) -> Model:
    """sum_k w_k A_k with w the softmax over the channels of their mean score over several masks each."""
    layer = plane_of(layers[0])
    rows, over = subject.rows, 3 if subject.rows == 1 else 1

    def write(op: Ops, asked: Asked) -> ir.Value:
        x, a = asked.values[subject.input], asked.maps(op)
        if most is not None:
            a = _most_varied(op, a, most)
        span = op.Sub(op.ReduceMax(a, op.ints(-1), keepdims=1), op.ReduceMin(a, op.ints(-1), keepdims=1))
        height, width = (op.Squeeze(op.shape(x, axis, axis + 1)) for axis in (rows, rows + 1))
        count = op.Gather(op.Shape(a), op.scalar(1))

        def seen(inside: Ops, turn: ir.Value) -> ir.Value:
            channel = inside.Div(turn, op.scalar(turns.count))
            plane = inside.Gather(a, channel, axis=1)
            if turns.noise is not None:
                noise = inside.Gather(_numbers(inside, turns.noise, a), turn)
                plane = inside.Add(plane, inside.Mul(inside.Gather(span, channel, axis=1), noise))
            coarse = restored(inside, plane, asked.activation, layer)
            mask = _scaled(inside, resized(inside, coarse, height, width))
            if turns.shares is not None:
                step = inside.Mod(turn, op.scalar(turns.count))
                mask = inside.Mul(mask, inside.Gather(_numbers(inside, turns.shares, a), step))
            return asked.again(inside, x, blended(inside, x, base, inside.Unsqueeze(mask, op.ints(over))))

        each = loop(op, op.Mul(count, op.scalar(turns.count)), seen)
        by_turn = op.Reshape(each, op.Concat(op.Reshape(count, op.ints(1)), op.ints(turns.count, -1), axis=0))
        told = turned(op, op.ReduceMean(by_turn, op.ints(1), keepdims=0), a.dtype)
        varied = op.Greater(op.Squeeze(span, op.ints(2)), 0)
        weights = op.Softmax(op.Where(varied, told, -np.inf), axis=1)
        return weighted(op, op.Where(varied, weights, 0), a)

    return looped(subject, layer, ("score", most, turns.key, None if base is None else base.tobytes()), write)


def _grid_of(layer: Layer) -> tuple[int, ...] | None:
    """The sizes of a layer's maps, where they are known."""
    if layer.tokens is not None:
        return layer.tokens[1:]
    sizes = [] if layer.shape is None else [layer.shape[axis] for axis in layer.grid]
    known = tuple(size for size in sizes if isinstance(size, int))
    return known if known and len(known) == len(sizes) else None


def _numbers(op: Ops, array: Array, like: ir.Value) -> ir.Value:
    """A constant of another value's type."""
    assert like.dtype is not None
    return op.constant(array.astype(like.dtype.numpy()))


def _scaled(op: Ops, plane: ir.Value) -> ir.Value:
    """Each of the maps [N, H, W] scaled to [0, 1]; one that is the same everywhere becomes zeros."""
    low, high = (reduce(plane, op.ints(1, 2), keepdims=1) for reduce in (op.ReduceMin, op.ReduceMax))
    span = op.Sub(high, low)
    return op.Div(op.Sub(plane, low), op.Where(op.Equal(span, 0), 1, span))


def _most_varied(op: Ops, a: ir.Value, most: int) -> ir.Value:
    """Of the maps [N, C, Z] those that vary most over their places: [N, most, Z]."""
    centred = op.Sub(a, op.ReduceMean(a, op.ints(-1), keepdims=1))
    spread = op.ReduceSum(op.Mul(centred, centred), op.ints(-1), keepdims=0)
    count = op.Min(op.Shape(a, start=1, end=2), op.ints(most))
    _, order = op.emit("TopK", [spread, count], {"axis": 1}, 2)
    order.type = ir.TensorType(ir.DataType.INT64)
    places = op.Concat(op.Shape(order), op.Shape(a, start=2), axis=0)
    return op.GatherElements(a, op.Expand(op.Unsqueeze(order, op.ints(2)), places), axis=1)
