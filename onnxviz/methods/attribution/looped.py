"""CAMs that take no gradient, each as one graph: a loop whose body is the rest of the model once more.

The maps are those of the methods of the same names, which run many copies at a time and share them among
targets; these are for where there is no Python. Each model takes the model's inputs and the weights of its
scores (`Model.cotangent` names that input: 1 at a class and 0 elsewhere, shaped like the scores), and answers
`cam`, float [N, *places].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.autodiff.pullback import fresh_name
from onnxviz.errors import DisconnectedError, ShapeError
from onnxviz.graph.extend import extend
from onnxviz.graph.feature_maps import flattened, restored
from onnxviz.graph.flow import ancestors, dependents
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Derivative, Model
from onnxviz.graph.ops import Ops, rank_of
from onnxviz.graph.quantisation import scale_of
from onnxviz.graph.replay import replay
from onnxviz.methods.attribution.cams import OUTPUT, at_least_single, floats_of
from onnxviz.methods.attribution.fragments import weighted
from onnxviz.methods.attribution.recipro import ALONE, GAUSSIAN
from onnxviz.vision.images import PictureInput

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Asked:
    """A model's tensors by name, its layer, and a question about its scores, while a graph is written.

    `weights` are those of the scores that make the target; `nothing` is what stands for zero in the layer.
    """

    values: Mapping[str, ir.Value]
    layer: Layer
    scores: ir.Value
    weights: ir.Value
    nothing: Array

    @property
    def activation(self) -> ir.Value:
        """The layer's output."""
        return self.values[self.layer.tensor]

    def maps(self, op: Ops) -> ir.Value:
        """The floats that the layer's output stands for, [N, C, Z]."""
        return flattened(op, floats_of(op, self.activation, self.activation), self.layer)

    def score(self, op: Ops, scores: ir.Value) -> ir.Value:
        """The target's score of each picture, [N]."""
        product = op.Mul(op.Cast(scores, to=self.weights.dtype), self.weights)
        pictures = op.Shape(self.activation, start=0, end=1)
        rows = op.Reshape(product, op.Concat(pictures, op.ints(-1), axis=0))
        return op.ReduceSum(rows, op.ints(1), keepdims=0)

    def again(self, op: Ops, source: ir.Value, changed: ir.Value) -> ir.Value:
        """The target's score of each picture, [N], with another value in the place of a tensor.

        All that lies between the tensor and the scores is written once more; the rest is read as it is.
        """
        given = {source: changed}
        replay(op, _between(source, self.scores), given)
        return self.score(op, given[self.scores])


def ablation_cam(model: Model, layer: Layer, scores: str, keep: Sequence[str] = ()) -> Model:
    """Ablation-CAM (see `ablation.ablation_cam`): a turn of the loop for each channel.

    Args:
        model: The model.
        layer: Where the map is taken.
        scores: The tensor of the scores.
        keep: Tensors to output too, before the map.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
    """

    def write(op: Ops, asked: Asked) -> ir.Value:
        a, axis = asked.activation, layer.channel
        assert axis is not None
        count = op.Gather(op.Shape(a), op.scalar(axis))
        numbers = _along(op, _range(op, count), axis, a)

        def without(inside: Ops, channel: ir.Value) -> ir.Value:
            kept = inside.Where(inside.Equal(numbers, channel), asked.nothing, a)
            return asked.again(inside, a, kept)

        whole = asked.score(op, asked.scores)
        size = op.Abs(whole)
        lost = op.Sub(whole, _loop(op, count, without))
        weights = op.Div(lost, op.Where(op.Equal(size, 0), 1, size))
        maps = asked.maps(op)
        return weighted(op, _turned(op, weights, maps.dtype), maps)

    return _looped(model, layer, scores, keep, write)


def recipro_cam(
    model: Model, layer: Layer, scores: str, keep: Sequence[str] = (), *, gaussian: bool = True
) -> Model:
    """ReciproCAM (see `recipro.recipro_cam`): a turn of the loop for each place.

    Args:
        model: The model.
        layer: Where the map is taken.
        scores: The tensor of the scores.
        keep: Tensors to output too, before the map.
        gaussian: Leave a 3 x 3 neighbourhood; else the one place.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
        ShapeError: The layer has three axes of places.
    """
    if len(layer.grid) > 2:
        raise ShapeError(
            f"recipro-cam: layer {layer.name!r} has {len(layer.grid)} axes of places; choose 1 or 2"
        )

    def write(op: Ops, asked: Asked) -> ir.Value:
        a, kernel = asked.activation, op.constant((GAUSSIAN if gaussian else ALONE).astype(np.float32))
        height, width = _grid(op, a, layer)
        rows, columns = _range(op, height), _range(op, width)

        def alone(inside: Ops, place: ir.Value) -> ir.Value:
            row = inside.Div(place, width)
            column = inside.Sub(place, inside.Mul(row, width))
            down, across = (
                inside.Gather(kernel, inside.Min(inside.Abs(inside.Sub(line, centre)), op.scalar(2)))
                for line, centre in ((rows, row), (columns, column))
            )
            kept = _laid_out(inside, down, across, a, layer)
            return asked.again(inside, a, _blended(inside, a, asked.nothing, kept))

        each = _loop(op, op.Mul(height, width), alone)
        return _turned(op, each, each.dtype)

    return _looped(model, layer, scores, keep, write)


def score_cam(
    model: Model,
    layer: Layer,
    scores: str,
    where: PictureInput,
    keep: Sequence[str] = (),
    *,
    base: Array | None = None,
    channels: int | None = None,
    steps: int = 1,
) -> Model:
    """Score-CAM (see `score_cams.score_cam`), Faster-Score-CAM and IS-CAM: a turn of the loop for each mask.

    Args:
        model: The model.
        layer: Where the map is taken.
        scores: The tensor of the scores.
        where: The input that takes pictures.
        keep: Tensors to output too, before the map.
        base: What a mask of 0 shows, [*input]; None: zeros.
        channels: How many channels: those of the largest standard deviation; None: all.
        steps: Masks for each channel, scaled by i / steps.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
        ShapeError: The layer has three axes of places.
    """
    if len(layer.grid) > 2:
        raise ShapeError(
            f"score-cam: layer {layer.name!r} has {len(layer.grid)} axes of places; choose 1 or 2"
        )

    places = (1, 2) if where.layout == "NHWC" else (2, 3)

    def write(op: Ops, asked: Asked) -> ir.Value:
        x, a = asked.values[where.name], asked.maps(op)
        if channels is not None:
            a = _most_varied(op, a, channels)
        size = op.Gather(op.Shape(x), op.ints(*places))
        count = op.Gather(op.Shape(a), op.scalar(1))

        def seen(inside: Ops, turn: ir.Value) -> ir.Value:
            channel = inside.Div(turn, op.scalar(steps))
            step = inside.Mod(turn, op.scalar(steps))
            plane = restored(inside, inside.Gather(a, channel, axis=1), asked.activation, layer)
            share = inside.Div(inside.Cast(inside.Add(step, op.scalar(1)), to=a.dtype), steps)
            mask = inside.Mul(_scaled(inside, _resized(inside, plane, size)), share)
            over_channels = inside.Unsqueeze(mask, op.ints(3 if where.layout == "NHWC" else 1))
            return asked.again(inside, x, _blended(inside, x, base, over_channels))

        each = _loop(op, op.Mul(count, op.scalar(steps)), seen)
        by_step = op.Reshape(each, op.Concat(op.Reshape(count, op.ints(1)), op.ints(steps, -1), axis=0))
        told = _turned(op, op.ReduceMean(by_step, op.ints(1), keepdims=0), a.dtype)
        varied = op.Greater(
            op.ReduceMax(a, op.ints(-1), keepdims=0), op.ReduceMin(a, op.ints(-1), keepdims=0)
        )
        weights = op.Softmax(op.Where(varied, told, -np.inf), axis=1)
        return weighted(op, op.Where(varied, weights, 0), a)

    return _looped(model, layer, scores, keep, write)


def _looped(
    model: Model,
    layer: Layer,
    scores: str,
    keep: Sequence[str],
    write: Callable[[Ops, Asked], ir.Value],
) -> Model:
    """The model whose output `cam` are the maps [N, Z] that `write` makes, over the layer's places."""
    if model.tensor(scores) not in dependents(model.ir_model.graph, [model.tensor(layer.tensor)]):
        raise DisconnectedError(f"{scores!r} does not depend on {layer.tensor!r}")
    name = fresh_name(f"{scores}_weights", model.tensors)

    def cam(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        target, activation = values[scores], values[layer.tensor]
        kind = ir.DataType.DOUBLE if target.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
        weights = ir.Value(name=name, type=ir.TensorType(kind), shape=target.shape)
        op.graph.inputs.append(weights)
        asked = Asked(values, layer, target, weights, _nothing(activation))
        return {OUTPUT: restored(op, write(op, asked), activation, layer)}

    made = extend(model, OUTPUT, cam, keep)
    Derivative(cotangent=name).mark(made.ir_model)
    return made


def _loop(op: Ops, count: ir.Value, body: Callable[[Ops, ir.Value], ir.Value]) -> ir.Value:
    """What `body` answers, [N], for each number below `count`: [count, N]."""
    number = ir.Value(name=f"{op.prefix}turn", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    go_on = ir.Value(name=f"{op.prefix}go_on", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    graph = op.nested([number, go_on], lambda inside, turn, same: [same, body(inside, turn)])
    (found,) = op.emit("Loop", [count, op.constant(np.array(True))], {"body": graph})
    found.type = graph.outputs[1].type
    return found


def _between(source: ir.Value, target: ir.Value) -> list[ir.Node]:
    """The nodes that carry `source` to `target`, in their order."""
    graph = target.graph
    assert graph is not None
    behind, needed = dependents(graph, [source]), ancestors([target])
    carry = (behind & needed) - {source}
    return [node for node in graph if any(value in carry for value in node.outputs)]


def _nothing(activation: ir.Value) -> Array:
    """What stands for zero in a tensor, in its own type: where it is quantised, the zero point."""
    assert activation.dtype is not None
    kind = activation.dtype.numpy()
    scale = None if activation.dtype.is_floating_point() else scale_of(activation)
    if scale is None:
        return np.zeros((), kind)
    zero = scale[1].astype(kind)
    return zero.reshape(-1, *[1] * (rank_of(activation) - 2)) if zero.size > 1 else zero.reshape(())


def _blended(op: Ops, value: ir.Value, base: Array | None, mask: ir.Value) -> ir.Value:
    """`value` where the mask is 1 and `base` (None: zeros) where it is 0, in the value's own type."""
    exact = at_least_single(op, value)
    kind, own = exact.dtype, value.dtype
    assert kind is not None
    assert own is not None
    mask = op.Cast(mask, to=kind)
    if base is None or not base.any():
        mixed = op.Mul(exact, mask)
    else:
        start = op.constant(base.astype(kind.numpy()))
        mixed = op.Add(start, op.Mul(mask, op.Sub(exact, start)))
    if not own.is_floating_point():
        mixed = op.Round(mixed)
    return mixed if exact is value else op.Cast(mixed, to=own)


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
        first = _along(op, down, row[0], value) if row else down
        return op.Mul(first, _along(op, across, column, value))
    before, height, width = layer.tokens
    over = op.Reshape(op.Mul(op.Unsqueeze(down, op.ints(1)), across), op.ints(-1))
    [axis] = layer.grid
    after = op.Sub(op.Gather(op.Shape(value), op.ints(axis)), op.ints(before + height * width))
    ends = (op.full(size, 1, ir.DataType.FLOAT) for size in (op.ints(before), after))
    first, last = ends
    return _along(op, op.Concat(first, over, last, axis=0), axis, value)


def _along(op: Ops, row: ir.Value, axis: int, like: ir.Value) -> ir.Value:
    """A vector along one axis of another value, to broadcast over the others."""
    return op.Reshape(row, op.ints(*(-1 if place == axis else 1 for place in range(rank_of(like)))))


def _range(op: Ops, count: ir.Value) -> ir.Value:
    """0, 1, ... below a count of rank 0."""
    return op.Range(op.scalar(0), count, op.scalar(1))


def _turned(op: Ops, table: ir.Value, kind: ir.DataType | None) -> ir.Value:
    """A table [K, N] as [N, K], in another type."""
    return op.Cast(op.Transpose(table, perm=[1, 0]), to=kind)


def _resized(op: Ops, plane: ir.Value, size: ir.Value) -> ir.Value:
    """Maps [N, h, w] at another size: bilinear with half-pixel centres."""
    wide = op.Unsqueeze(plane, op.ints(1))
    sizes = op.Concat(op.Shape(wide, start=0, end=2), size, axis=0)
    half_pixel = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return op.Squeeze(op.Resize(wide, None, None, sizes, **half_pixel), op.ints(1))


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
