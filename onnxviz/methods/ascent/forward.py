"""From parameters to the objective's value: picture, transforms, network and objective as one graph."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from onnxviz.errors import SelectorError, ShapeError
from onnxviz.graph.expose import prune
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Derivative, Model
from onnxviz.graph.normalise import with_shapes
from onnxviz.graph.ops import Ops
from onnxviz.methods.ascent.objective import Direction, Score, kept, leaves
from onnxviz.methods.ascent.problem import (
    MEANS,
    PICTURE,
    SCORES,
    THETA,
    VALUE,
    Problem,
    channels_of,
    is_open,
    sized,
    sizes_after,
)
from onnxviz.methods.ascent.transforms import FILL, Array, resize_centred
from onnxviz.methods.ascent.update import penalties
from onnxviz.methods.ascent.written import Writing, write

PREFIX = "ascent"


class Feed(Protocol):
    """Declares an input of the graph by the name used here."""

    def __call__(
        self, name: str, shape: Sequence[int | str], kind: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Value:
        """The value that is fed."""


@dataclass(frozen=True)
class Forward:
    """From parameters to the objective's value: `model` outputs `value` [B], `picture` and the scores.

    `total` is the sum of all values less the penalties, of rank 0. `names` maps the names used here to the
    graph's own.
    """

    model: Model
    names: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """The graph's own name."""
        return self.names[name]


def forward(problem: Problem) -> Forward:
    """Parameters to picture, transforms, network and objective, as one graph."""
    network = sized(problem.model, problem.where, problem.seen, problem.taken)
    copy = network.ir_model.clone()
    graph = copy.graph
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    op = Ops(graph, PREFIX)
    fed: dict[str, ir.Value] = {}

    def feed(name: str, shape: Sequence[int | str], kind: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        fed[name] = ir.Value(name=f"{op.prefix}{name}", type=ir.TensorType(kind), shape=ir.Shape(list(shape)))
        graph.inputs.append(fed[name])
        return fed[name]

    theta = feed(THETA, (problem.batch, *problem.parameters.shape))
    picture = op.Identity(problem.parameters.write(op, theta))
    picture.name = f"{op.prefix}{PICTURE}"
    picture.shape = ir.Shape([problem.batch, problem.channels, *problem.size])
    seen = _seen(op, picture, problem, feed)
    _fill_input(op, graph, values, seen, problem)
    _feed_objective(problem, feed)
    layers = _layers_of(network, problem)
    writing = Writing(op, values, layers, problem.scores, problem.seen, fed)
    tree = problem.objective
    value = op.Reshape(write(tree, writing), op.ints(problem.batch, -1))
    value = op.ReduceMean(value, op.ints(1), keepdims=0)
    feed("middle", (1, problem.channels, 1, 1))
    lowered = penalties(op, picture, fed["middle"], problem.recipe)
    total = op.ReduceSum(value if lowered is None else op.Sub(value, lowered), keepdims=0)
    total.shape = ir.Shape([])

    answers = {VALUE: value, "total": total}
    names = {name: str(value.name) for name, value in fed.items()} | {PICTURE: str(picture.name)}
    graph.outputs.clear()
    graph.outputs.append(picture)
    for name, answer in answers.items():
        named = op.Identity(answer)
        named.name = names[name] = f"{op.prefix}{name}"
        named.type, named.shape = answer.type, answer.shape
        graph.outputs.append(named)
    if problem.scores:
        names[SCORES] = problem.scores
        graph.outputs.append(values[problem.scores])
    graph.sort()
    prune(copy)
    drop_unread(graph, fed)
    Derivative().mark(copy)
    return Forward(Model(with_shapes(copy), problem.model.path), names)


def render_graph(problem: Problem) -> Model:
    """From parameters to pictures, alone: `theta` to `picture`."""
    graph = ir.Graph([], [], nodes=[], name="render", opset_imports={"": 21})
    op = Ops(graph, PREFIX)
    shape = ir.Shape([problem.batch, *problem.parameters.shape])
    theta = ir.Value(name=THETA, type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
    graph.inputs.append(theta)
    return answering(graph, op, {PICTURE: problem.parameters.write(op, theta)})


def watch_graph(problem: Problem) -> Model:
    """What pictures bring about: the mean of each channel of the layers named, and the scores.

    From `picture` [B, C, H, W] to an output for each layer, "means/<layer>" [B, channels], and `scores`.
    """
    network = sized(problem.model, problem.where, problem.batch, problem.fixed or problem.size)
    copy = network.ir_model.clone()
    graph = copy.graph
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    op = Ops(graph, PREFIX)
    picture = ir.Value(
        name=f"{op.prefix}{PICTURE}",
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape([problem.batch, problem.channels, *problem.size]),
    )
    graph.inputs.append(picture)
    seen = picture
    if problem.fixed not in (None, problem.size):
        assert problem.fixed is not None
        down, across = (
            op.constant(resize_centred(old, new).astype(np.float32))
            for old, new in zip(problem.size, problem.fixed, strict=True)
        )
        seen = op.MatMul(op.MatMul(down, picture), op.Transpose(across, perm=[1, 0]))
    _fill_input(op, graph, values, seen, problem)
    layers = _layers_of(network, problem)
    writing = Writing(op, values, layers, problem.scores, problem.batch)
    answers = {
        f"{MEANS}{layer.name}": op.ReduceMean(writing.maps(selector), op.ints(2), keepdims=0)
        for selector, layer in layers.items()
    }
    if problem.scores:
        answers[SCORES] = op.Reshape(
            op.Cast(values[problem.scores], to=ir.DataType.FLOAT), op.ints(problem.batch, -1)
        )
    graph.outputs.clear()
    graph.outputs.extend(_named(op, answers))
    graph.sort()
    prune(copy)
    return Model(with_shapes(copy), problem.model.path)


def answering(graph: ir.Graph, op: Ops, answers: Mapping[str, ir.Value]) -> Model:
    """The model of a graph with those outputs."""
    graph.outputs.extend(_named(op, answers))
    return Model(with_shapes(ir.Model(graph, ir_version=10)))


def _named(op: Ops, answers: Mapping[str, ir.Value]) -> list[ir.Value]:
    """Values as outputs of those names."""
    outputs = []
    for name, value in answers.items():
        named = op.Identity(value)
        named.name, named.type = name, value.type
        outputs.append(named)
    return outputs


def _fill_input(
    op: Ops, graph: ir.Graph, values: Mapping[str, ir.Value], pictures: ir.Value, problem: Problem
) -> None:
    """Put pictures in the place of the network's input."""
    given = values[problem.where.name]
    given.replace_all_uses_with(_as_input(op, pictures, problem))
    graph.inputs.remove(given)


def drop_unread(graph: ir.Graph, fed: Mapping[str, ir.Value]) -> None:
    """Remove, in place, the inputs among these that nothing reads, so that they need not be fed."""
    for value in fed.values():
        if value in graph.inputs and not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)


def _seen(op: Ops, picture: ir.Value, problem: Problem, feed: Feed) -> ir.Value:
    """What the network sees of the pictures: transformed, or in crops with noise."""
    if problem.recipe.crops:
        return _cropped(op, picture, problem, feed)
    current: list[int | str] = list(problem.size)
    for number, stage in enumerate(problem.stages):
        last = number == len(problem.stages) - 1
        if stage.turns:
            places: list[int | str] = [math.prod(current)] if not is_open(current) else ["places"]
            given = {
                stage.inputs[0]: feed(stage.inputs[0], places, ir.DataType.INT64),
                stage.inputs[1]: feed(stage.inputs[1], places),
            }
        else:
            new = sizes_after(stage, current, problem.fixed if last else None, number)
            down = feed(stage.inputs[0], (new[0], current[0]))
            across = feed(stage.inputs[1], (current[1], new[1]))
            given, current = {stage.inputs[0]: down, stage.inputs[1]: across}, new
        picture = stage.write(op, picture, given)
        picture.shape = ir.Shape([problem.batch, problem.channels, *current])
    return picture


def _cropped(op: Ops, picture: ir.Value, problem: Problem, feed: Feed) -> ir.Value:
    assert problem.fixed is not None
    crops, (height, width), (rows, columns) = problem.recipe.crops, problem.size, problem.fixed
    down = op.Unsqueeze(feed("crops_down", (crops, rows, height)), op.ints(1))
    across = op.Unsqueeze(feed("crops_across", (crops, width, columns)), op.ints(1))
    noise = feed("noise", (crops, problem.channels, rows, columns))
    whole = op.Unsqueeze(op.Sub(picture, FILL), op.ints(1))
    cut = op.Add(op.Add(op.MatMul(op.MatMul(down, whole), across), FILL), noise)
    return op.Reshape(cut, op.ints(problem.seen, problem.channels, rows, columns))


def _as_input(op: Ops, picture: ir.Value, problem: Problem) -> ir.Value:
    """Pixels as the network takes them: (pixel * scale - mean) / std, in its order, layout and type."""
    how, where = problem.preprocess, problem.where
    value = picture
    if how.color == "BGR" and problem.channels == 3:
        value = op.Concat(*reversed(op.emit("Split", [value], {"axis": 1, "num_outputs": 3}, 3)), axis=1)
        for part in value.producer().inputs:  # type: ignore[union-attr]
            part.type = picture.type  # type: ignore[union-attr]
    mean, std = (_per_channel(numbers, problem.channels) for numbers in (how.mean, how.std))
    slope, offset = how.scale / std, -mean / std
    if (slope != 1).any():
        value = op.Mul(value, op.constant(slope.astype(np.float32)))
    if offset.any():
        value = op.Add(value, op.constant(offset.astype(np.float32)))
    if where.layout == "NHWC":
        value = op.Transpose(value, perm=[0, 2, 3, 1])
    kind = ir.DataType.from_numpy(np.dtype(where.dtype))
    if kind in (ir.DataType.UINT8, ir.DataType.INT8):
        # Rounds and clips, and the straight-through rule knows it.
        zero = op.constant(np.array(0, where.dtype))
        value = op.QuantizeLinear(value, 1.0, zero)
        value.type = ir.TensorType(kind)
    elif kind != ir.DataType.FLOAT:
        value = op.Cast(value, to=kind)
    return value


def _per_channel(numbers: Sequence[float], channels: int) -> Array:
    array = np.array(numbers, np.float64)
    if array.size not in (1, channels):
        raise ShapeError(f"the preprocessing has {array.size} means for an input of {channels} channels")
    return np.broadcast_to(array, (channels,)).reshape(1, channels, 1, 1)


def _layers_of(network: Model, problem: Problem) -> dict[str | int, Layer]:
    """The layers that the objective names, with the sizes that they have in this network."""
    return {selector: network.layers[layer.index] for selector, layer in problem.layers.items()}


def _feed_objective(problem: Problem, feed: Feed) -> None:
    """Declare the inputs that hold the objective's numbers."""
    found = list(leaves(problem.objective))
    if not found:
        raise SelectorError("the objective reads nothing of the network")
    for number, leaf in enumerate(found):
        if isinstance(leaf, Direction):
            feed(f"vector_{number}", (problem.seen, channels_of(problem.layers[leaf.layer])))
            if not isinstance(leaf.place, str):
                feed(f"place_{number}", (problem.seen,), ir.DataType.INT64)
        elif isinstance(leaf, Score):
            feed(f"vector_{number}", (problem.seen, problem.elements))
    for number in range(len(kept(problem.objective))):
        feed(f"keep_{number}", (problem.seen,))
