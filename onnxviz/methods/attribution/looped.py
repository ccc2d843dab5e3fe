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
class Site:
    """Where maps are taken: a layer of a model, its scores' tensor, and the input that takes pictures."""

    model: Model
    layer: Layer
    scores: str
    where: PictureInput


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


def ablation_cam(site: Site, keep: Sequence[str] = ()) -> Model:
    """Ablation-CAM (see `ablation.ablation_cam`): a turn of the loop for each channel.

    Args:
        site: Where the map is taken.
        keep: Tensors to output too, before the map.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
    """

    def write(op: Ops, asked: Asked) -> ir.Value:
        a, axis = asked.activation, site.layer.channel
        assert axis is not None
        count = op.Gather(op.Shape(a), op.scalar(axis))
        numbers = _along(op, _range(op, count), axis, a)

        def without(inside: Ops, channel: ir.Value) -> ir.Value:
            kept = inside.Where(inside.Equal(numbers, channel), asked.nothing, a)
            return asked.again(inside, a, kept)

        whole = asked.score(op, asked.scores)
        size = op.Abs(whole)
        lost = op.Sub(whole, loop(op, count, without))
        weights = op.Div(lost, op.Where(op.Equal(size, 0), 1, size))
        maps = asked.maps(op)
        return weighted(op, turned(op, weights, maps.dtype), maps)

    return looped(site, keep, write)


def recipro_cam(site: Site, keep: Sequence[str] = (), *, gaussian: bool = True) -> Model:
    """ReciproCAM (see `recipro.recipro_cam`): a turn of the loop for each place.

    Args:
        site: Where the map is taken.
        keep: Tensors to output too, before the map.
        gaussian: Leave a 3 x 3 neighbourhood; else the one place.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
        ShapeError: The layer has three axes of places.
    """
    layer = plane_of(site)

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
            return asked.again(inside, a, blended(inside, a, asked.nothing, kept))

        each = loop(op, op.Mul(height, width), alone)
        return turned(op, each, each.dtype)

    return looped(site, keep, write)


def plane_of(site: Site) -> Layer:
    """The layer, whose places are a plane.

    Raises:
        ShapeError: They are not.
    """
    if len(site.layer.grid) > 2:
        raise ShapeError(f"layer {site.layer.name!r} has three axes of places; choose one with one or two")
    return site.layer


def looped(site: Site, keep: Sequence[str], write: Callable[[Ops, Asked], ir.Value]) -> Model:
    """The model whose output `cam` are the maps [N, Z] that `write` makes, over the layer's places.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
    """
    model, layer, scores = site.model, site.layer, site.scores
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


def loop(op: Ops, count: ir.Value, body: Callable[[Ops, ir.Value], ir.Value]) -> ir.Value:
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


def blended(op: Ops, value: ir.Value, base: Array | None, mask: ir.Value) -> ir.Value:
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


def turned(op: Ops, table: ir.Value, kind: ir.DataType | None) -> ir.Value:
    """A table [K, N] as [N, K], in another type."""
    return op.Cast(op.Transpose(table, perm=[1, 0]), to=kind)
