"""One step of the ascent as one ONNX graph: parameters and state in, parameters and state out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import SelectorError, ShapeError
from onnxviz.graph.expose import prune
from onnxviz.graph.extend import extend
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Derivative, Model
from onnxviz.graph.normalise import with_shapes
from onnxviz.graph.ops import Ops
from onnxviz.methods.ascent.images import Parameters
from onnxviz.methods.ascent.objective import Direction, Objective, Score, Writing, kept, leaves, write
from onnxviz.methods.ascent.recipe import Recipe
from onnxviz.methods.ascent.transforms import Size, Stage, resize_centred
from onnxviz.methods.ascent.update import kept_in_bounds, penalties, state_shapes, step_size, stepped
from onnxviz.vision.images import PictureInput
from onnxviz.vision.preprocess import Preprocess

PREFIX = "ascent"
THETA, PICTURE, VALUE, SCORES, TRANSPARENCY = "theta", "picture", "value", "scores", "transparency"
SLOPE_LOW, SLOPE_HIGH, RATE = "gradient_min", "gradient_max", "step_size"
BEST, BEST_VALUE = "best", "best_value"
NEXT, MEANS = "_next", "means/"


class Feed(Protocol):
    """Declares an input of the graph by the name used here."""

    def __call__(
        self, name: str, shape: Sequence[int | str], kind: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Value:
        """The value that is fed."""


@dataclass(frozen=True)
class Problem:
    """What is raised, in which network, over what parameters.

    Attributes:
        model: The network, as the file has it.
        where: Its picture input.
        preprocess: From pixels to that input.
        recipe: How.
        parameters: What is optimised.
        objective: The tree; its numbers are fed.
        layers: The layers that it names.
        scores: The tensor of scores, "" where there are none.
        elements: How many scores a picture has.
        batch: How many pictures at once.
        size: Their height and width.
        stages: The transforms.
        fixed: The height and width that the network takes; None: any.
    """

    model: Model
    where: PictureInput
    preprocess: Preprocess
    recipe: Recipe
    parameters: Parameters
    objective: Objective
    layers: Mapping[str | int, Layer]
    scores: str
    elements: int
    batch: int
    size: Size
    stages: tuple[Stage, ...]
    fixed: Size | None

    @property
    def seen(self) -> int:
        """How many pictures the network sees at once: the pictures, or all their crops."""
        return self.batch * max(1, self.recipe.crops)

    @property
    def taken(self) -> Size | None:
        """The height and width of what the network sees; None: they vary."""
        if self.fixed is not None or not self.stages:
            return self.fixed or self.size
        sizes: list[int | str] = list(self.size)
        for number, stage in enumerate(self.stages):
            sizes = sizes if stage.turns else _sizes_after(stage, sizes, None, number)
        height, width = sizes
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    @property
    def channels(self) -> int:
        """The pictures' channels."""
        return self.where.channels or 3

    @property
    def state(self) -> dict[str, tuple[int, ...]]:
        """What is carried from step to step beside the parameters, for a batch."""
        shapes = state_shapes(self.recipe, self.parameters.shape)
        if self.recipe.keep == "best":
            shapes |= {BEST: self.parameters.shape, BEST_VALUE: ()}
        if self.recipe.image == "maco":
            shapes[TRANSPARENCY] = (self.channels, *self.size)
        return {name: (self.batch, *shape) for name, shape in shapes.items()}


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


def sized(model: Model, where: PictureInput, batch: int, size: Sequence[int | str] | None) -> Model:
    """The network for so many pictures of a height and width; None: of any."""
    height, width = size or ("height", "width")
    channels = where.channels or 3
    shape = (batch, height, width, channels) if where.layout == "NHWC" else (batch, channels, height, width)
    return model.resized({where.name: shape})


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
    _drop_unread(graph, fed)
    Derivative().mark(copy)
    return Forward(Model(with_shapes(copy), problem.model.path), names)


def render_graph(problem: Problem) -> Model:
    """From parameters to pictures, alone: `theta` to `picture`."""
    graph = ir.Graph([], [], nodes=[], name="render", opset_imports={"": 21})
    op = Ops(graph, PREFIX)
    shape = ir.Shape([problem.batch, *problem.parameters.shape])
    theta = ir.Value(name=THETA, type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
    graph.inputs.append(theta)
    return _answering(graph, op, {PICTURE: problem.parameters.write(op, theta)})


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


def step_graph(problem: Problem, made: Forward, rules: str, report: bool) -> Model:
    """The forward graph, its gradient, and the step that it leads to.

    The outputs bear the names used here: the parameters and the state after the step (`..._next`), the
    objective's value before it, and with `report` the scores and the gradient's smallest and largest number.
    """
    names = made.names
    wrt = [names[THETA], names[PICTURE]] if problem.recipe.image == "maco" else [names[THETA]]
    keep = [names[PICTURE], names[VALUE], *([names[SCORES]] if report and problem.scores else [])]
    slopes = gradient(made.model, names["total"], wrt, rules=rules, keep=keep)

    def steps(op: Ops, values: Mapping[str, ir.Value]) -> Mapping[str, ir.Value]:
        return _steps(op, values, problem, made, slopes, report)

    return extend(slopes, "step", steps)


def update_graph(problem: Problem) -> Model:
    """The step alone, for a gradient that is fed: what the numerical route runs."""
    graph = ir.Graph([], [], nodes=[], name="update", opset_imports={"": 21})
    op = Ops(graph, PREFIX)
    whole = (problem.batch, *problem.parameters.shape)
    shapes: dict[str, tuple[int, ...]] = {THETA: whole, "slope": whole, VALUE: (problem.batch,)}
    shapes |= problem.state | {"coefficients": (3,), "middle": (1, problem.channels, 1, 1)}
    if problem.recipe.blur:
        shapes |= {"blur_down": (problem.size[0],) * 2, "blur_across": (problem.size[1],) * 2}
    inputs = {
        name: ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
        for name, shape in shapes.items()
    }
    graph.inputs.extend(inputs.values())
    answers = _moved(op, inputs, inputs["slope"], inputs[VALUE], problem)
    _drop_unread(graph, inputs)
    return _answering(graph, op, answers)


def _answering(graph: ir.Graph, op: Ops, answers: Mapping[str, ir.Value]) -> Model:
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


def _steps(
    op: Ops, values: Mapping[str, ir.Value], problem: Problem, made: Forward, slopes: Model, report: bool
) -> dict[str, ir.Value]:
    g = values[slopes.gradients[made[THETA]]]
    inputs = {name: values[full] for name, full in made.names.items() if full in values}
    extra: dict[str, tuple[int, ...]] = {**problem.state, "coefficients": (3,)}
    if problem.recipe.blur:
        extra |= {"blur_down": (problem.size[0],) * 2, "blur_across": (problem.size[1],) * 2}
    if "middle" not in inputs:
        extra["middle"] = (1, problem.channels, 1, 1)
    for name, shape in extra.items():
        inputs[name] = ir.Value(
            name=_prefixed(made, name), type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape)
        )
        op.graph.inputs.append(inputs[name])
    answers = _moved(op, inputs, g, values[made[VALUE]], problem)
    if problem.recipe.image == "maco":
        seen = op.Abs(values[slopes.gradients[made[PICTURE]]])
        answers[f"{TRANSPARENCY}{NEXT}"] = op.Add(inputs[TRANSPARENCY], seen)
    answers[VALUE] = values[made[VALUE]]
    if report:
        axes = op.ints(*range(1, 1 + len(problem.parameters.shape)))
        answers[SLOPE_LOW] = op.ReduceMin(g, axes, keepdims=0)
        answers[SLOPE_HIGH] = op.ReduceMax(g, axes, keepdims=0)
        rate = step_size(op, g, inputs["coefficients"], problem.recipe)
        answers[RATE] = op.Expand(op.Reshape(rate, op.ints(-1)), op.ints(problem.batch))
        if problem.scores:
            answers[SCORES] = op.Cast(values[made[SCORES]], to=ir.DataType.FLOAT)
    # An input that nothing reads need not be fed.
    _drop_unread(op.graph, {name: inputs[name] for name in extra})
    return answers


def _moved(
    op: Ops, inputs: Mapping[str, ir.Value], g: ir.Value, value: ir.Value, problem: Problem
) -> dict[str, ir.Value]:
    """Parameters and state after a step."""
    recipe, theta = problem.recipe, inputs[THETA]
    moved, state = stepped(op, theta, g, inputs, inputs["coefficients"], recipe)
    if recipe.image == "pixels":
        blurs = {name: inputs[name] for name in ("blur_down", "blur_across") if name in inputs}
        moved = kept_in_bounds(op, moved, g, inputs["middle"], blurs, recipe, math.prod(problem.size))
    answers = {f"{THETA}{NEXT}": moved, **{f"{name}{NEXT}": one for name, one in state.items()}}
    if recipe.keep == "best":
        better = op.Greater(value, inputs[BEST_VALUE])
        whole = op.Reshape(better, op.ints(-1, *[1] * len(problem.parameters.shape)))
        answers[f"{BEST}{NEXT}"] = op.Where(whole, theta, inputs[BEST])
        answers[f"{BEST_VALUE}{NEXT}"] = op.Where(better, value, inputs[BEST_VALUE])
    return answers


def _prefixed(made: Forward, name: str) -> str:
    return made[THETA].removesuffix(THETA) + name


def _drop_unread(graph: ir.Graph, fed: Mapping[str, ir.Value]) -> None:
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
            places: list[int | str] = [math.prod(current)] if not _open(current) else ["places"]
            given = {
                stage.inputs[0]: feed(stage.inputs[0], places, ir.DataType.INT64),
                stage.inputs[1]: feed(stage.inputs[1], places),
            }
        else:
            new = _sizes_after(stage, current, problem.fixed if last else None, number)
            down = feed(stage.inputs[0], (new[0], current[0]))
            across = feed(stage.inputs[1], (current[1], new[1]))
            given, current = {stage.inputs[0]: down, stage.inputs[1]: across}, new
        picture = stage.write(op, picture, given)
        picture.shape = ir.Shape([problem.batch, problem.channels, *current])
    return picture


def _open(sizes: Sequence[int | str]) -> bool:
    """Whether a size is not known."""
    return not all(isinstance(size, int) for size in sizes)


def _sizes_after(
    stage: Stage, current: Sequence[int | str], fixed: Size | None, number: int
) -> list[int | str]:
    """Height and width behind a stage: numbers where they are always the same, else symbols."""
    if fixed is not None:
        return list(fixed)
    sizes = list(current)
    for transform in stage.transforms:
        if transform.name == "scale" or _open(sizes):
            return [f"height_{number}", f"width_{number}"]
        change = {"pad": 2, "jitter": -1}.get(transform.name, 0)
        sizes = [size + change * int(transform.numbers[0]) for size in sizes]  # type: ignore[operator]
    return sizes


def _cropped(op: Ops, picture: ir.Value, problem: Problem, feed: Feed) -> ir.Value:
    assert problem.fixed is not None
    crops, (height, width), (rows, columns) = problem.recipe.crops, problem.size, problem.fixed
    down = op.Unsqueeze(feed("crops_down", (crops, rows, height)), op.ints(1))
    across = op.Unsqueeze(feed("crops_across", (crops, width, columns)), op.ints(1))
    noise = feed("noise", (crops, problem.channels, rows, columns))
    whole = op.Unsqueeze(op.Sub(picture, 127.5), op.ints(1))
    cut = op.Add(op.Add(op.MatMul(op.MatMul(down, whole), across), 127.5), noise)
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


def _per_channel(
    numbers: Sequence[float], channels: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
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


def channels_of(layer: Layer) -> int:
    """How many channels a layer has, or features where it has no maps.

    Raises:
        ShapeError: It is not known.
    """
    shape = layer.shape
    if shape is not None:
        sizes = [shape[layer.channel]] if layer.channel is not None and layer.grid else list(shape[1:])
        if all(isinstance(size, int) for size in sizes):
            return int(np.prod([int(size) for size in sizes if isinstance(size, int)]))
    raise ShapeError(f"layer {layer.name!r}: how many channels it has is not known; give the input a shape")
