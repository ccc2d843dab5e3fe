"""A loop in a graph whose body is the rest of the model once more: CAMs without a gradient, exported.

A method runs many copies at a time and shares them among targets; its graph is for where there is no Python.
"""

from collections.abc import Callable, Hashable, Mapping
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
from onnxviz.graph.replay import replay
from onnxviz.methods.attribution.cams import at_least_single, floats_of
from onnxviz.methods.attribution.method import MAP
from onnxviz.methods.attribution.question import Subject
from onnxviz.methods.attribution.shared import zero_of

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
        product = op.Mul(*(_single(op, value) for value in (scores, self.weights)))
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


def plane_of(layer: Layer) -> Layer:
    """The layer, whose places are a plane.

    Raises:
        ShapeError: They are not.
    """
    if len(layer.grid) > 2:
        raise ShapeError(f"layer {layer.name!r} has three axes of places; choose one with one or two")
    return layer


def looped(subject: Subject, layer: Layer, key: Hashable, write: Callable[[Ops, Asked], ir.Value]) -> Model:
    """The model that answers the maps [N, Z] that `write` makes, over the layer's places.

    Its `cotangent` takes the weights of the scores that make the target. `key` names the map among those of
    the layer.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
    """
    model, scores = subject.model, subject.scores.tensor
    if model.tensor(scores) not in dependents(model.ir_model.graph, [model.tensor(layer.tensor)]):
        raise DisconnectedError(f"{scores!r} does not depend on {layer.tensor!r}")
    name = fresh_name(f"{scores}_weights", model.tensors)

    def maps(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        target, activation = values[scores], values[layer.tensor]
        weights = ir.Value(name=name, type=target.type, shape=target.shape)
        op.graph.inputs.append(weights)
        assert activation.dtype is not None
        absent = zero_of(activation, activation.dtype.numpy(), rank_of(activation))
        asked = Asked(values, layer, target, weights, absent)
        return {MAP: restored(op, write(op, asked), activation, layer)}

    def build() -> Model:
        made = extend(model, MAP, maps, subject.keep)
        Derivative(cotangent=name).mark(made.ir_model)
        return made

    return subject.rewrite((key, layer.tensor, subject.keep), build)


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


def _single(op: Ops, value: ir.Value) -> ir.Value:
    return value if value.dtype == ir.DataType.DOUBLE else op.Cast(value, to=ir.DataType.FLOAT)


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
        ends = np.iinfo(own.numpy())
        mixed = op.Clip(op.Round(mixed), float(ends.min), float(ends.max))
    return mixed if exact is value else op.Cast(mixed, to=own)


def along(op: Ops, row: ir.Value, axis: int, like: ir.Value) -> ir.Value:
    """A vector along one axis of another value, to broadcast over the others."""
    return op.Reshape(row, op.ints(*(-1 if place == axis else 1 for place in range(rank_of(like)))))


def counting(op: Ops, count: ir.Value) -> ir.Value:
    """0, 1, ... below a count of rank 0."""
    return op.Range(op.scalar(0), count, op.scalar(1))


def turned(op: Ops, table: ir.Value, kind: ir.DataType | None) -> ir.Value:
    """A table [K, N] as [N, K], in another type."""
    return op.Cast(op.Transpose(table, perm=[1, 0]), to=kind)
