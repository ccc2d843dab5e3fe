"""Objectives: what a picture is to raise, as expressions over a network's layers and classes.

An objective is a tree. Its shape decides the graph; its numbers (which channel, which class) are fed, so that
one compiled graph serves all channels of a layer. Definitions after C. Olah et al. 2017 and lucid 0.3.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.errors import SelectorError
from onnxviz.graph.feature_maps import flattened
from onnxviz.graph.layers import Layer
from onnxviz.graph.ops import Ops
from onnxviz.methods.ascent.transforms import Array

_MOST_APART = 4
_COSINE_FLOOR, _COSINE_EPSILON = 0.1, 1e-4


@dataclass(frozen=True)
class Objective:
    """What a picture is to raise; objectives are added, subtracted, multiplied and weighed."""

    def __add__(self, other: "Objective | float") -> "Objective":
        """The sum."""
        return Sum((self, as_objective(other)))

    def __radd__(self, other: float) -> "Objective":
        """The sum."""
        return Sum((as_objective(other), self))

    def __sub__(self, other: "Objective | float") -> "Objective":
        """The difference."""
        return Sum((self, -as_objective(other)))

    def __rsub__(self, other: float) -> "Objective":
        """The difference."""
        return Sum((as_objective(other), -self))

    def __mul__(self, other: "Objective | float") -> "Objective":
        """The product."""
        return Product((self, as_objective(other)))

    def __rmul__(self, other: float) -> "Objective":
        """The product."""
        return Product((as_objective(other), self))

    def __truediv__(self, other: float) -> "Objective":
        """The quotient."""
        return Product((self, Constant(1 / other)))

    def __neg__(self) -> "Objective":
        """The negative: what lowers it."""
        return Product((Constant(-1.0), self))


@dataclass(frozen=True)
class Constant(Objective):
    """A number."""

    number: float


@dataclass(frozen=True)
class Sum(Objective):
    """The sum of two."""

    parts: tuple[Objective, Objective]


@dataclass(frozen=True)
class Product(Objective):
    """The product of two."""

    parts: tuple[Objective, Objective]


@dataclass(frozen=True)
class Direction(Objective):
    """A layer's activation along a vector over its channels, <A, v> max(0.1, cos(A, v))^power.

    Attributes:
        layer: A selector of one layer.
        vector: A channel's number; one number for each channel; or some channels, each with its weight.
        place: Where: the mean of all places, the middle one (the lower right of the four middle ones), or a
            row and a column.
        power: Of the cosine; 0: the plain product.
    """

    layer: str | int
    vector: int | tuple[float, ...] | tuple[tuple[int, float], ...]
    place: str | tuple[int, int] = "mean"
    power: float = 0.0


@dataclass(frozen=True)
class Energy(Objective):
    """The mean square of a layer's activation: what DeepDream raises."""

    layer: str | int


@dataclass(frozen=True)
class Interpolate(Objective):
    """Between two channels of a layer, from the one to the other across the pictures of a batch."""

    layer: str | int
    first: int
    second: int


@dataclass(frozen=True)
class Score(Objective):
    """A class's score before the Softmax, or another target (see `onnxviz.methods.target`)."""

    target: str | int


@dataclass(frozen=True)
class Diversity(Objective):
    """How unlike the pictures of a batch are: less the cosines of their Gram matrices, summed."""

    layer: str | int


@dataclass(frozen=True)
class Alignment(Objective):
    """How alike neighbours in a batch are: less the mean squared difference, halved with each step apart."""

    layer: str | int


@dataclass(frozen=True)
class Keep(Objective):
    """What is to stay where the start has it: less the squared change of an objective."""

    of: Objective


def channel(layer: str | int, number: int) -> Objective:
    """The mean of a channel."""
    return Direction(layer, number)


def neuron(layer: str | int, number: int, row: int | None = None, column: int | None = None) -> Objective:
    """One unit of a channel: the middle one, or that of a row and a column."""
    return Direction(layer, number, "middle" if row is None or column is None else (row, column))


def direction(layer: str | int, vector: Sequence[float] | Array, power: float = 0.0) -> Objective:
    """A vector over the channels of a layer."""
    return Direction(layer, tuple(float(number) for number in vector), power=power)


def as_objective(thing: "Objective | float") -> Objective:
    """An objective as it is, a number as a constant one."""
    return thing if isinstance(thing, Objective) else Constant(float(thing))


def leaves(objective: Objective) -> Iterator[Objective]:
    """The objectives that read the network, from left to right; what is kept, where it stands."""
    if isinstance(objective, Sum | Product):
        for part in objective.parts:
            yield from leaves(part)
    elif isinstance(objective, Keep):
        yield from leaves(objective.of)
    elif not isinstance(objective, Constant):
        yield objective


def described(objective: Objective) -> str:
    """An objective as `parse_objective` would read it."""
    if isinstance(objective, Constant):
        return f"{objective.number:g}"
    if isinstance(objective, Sum):
        return " + ".join(map(described, objective.parts))
    if isinstance(objective, Product):
        texts = [f"({text})" if " + " in text else text for text in map(described, objective.parts)]
        return " * ".join(texts)
    if isinstance(objective, Keep):
        return f"keep({described(objective.of)})"
    if isinstance(objective, Score):
        return f"target({objective.target})"
    if isinstance(objective, Interpolate):
        return f"interpolate({objective.layer}, {objective.first}, {objective.second})"
    if isinstance(objective, Direction):
        return _described_direction(objective)
    names = {Energy: "layer", Diversity: "diversity", Alignment: "alignment"}
    assert isinstance(objective, Energy | Diversity | Alignment)
    return f"{names[type(objective)]}({objective.layer})"


def _described_direction(leaf: Direction) -> str:
    if not isinstance(leaf.vector, int):
        return f"direction({leaf.layer}, ...)"
    if leaf.place == "mean":
        return f"channel({leaf.layer}, {leaf.vector})"
    place = "" if isinstance(leaf.place, str) else f", {leaf.place[0]}, {leaf.place[1]}"
    return f"neuron({leaf.layer}, {leaf.vector}{place})"


def settled(objective: Objective, share: float) -> Objective:
    """The objective of one picture of a batch, `share` of the way from the first to the last.

    What interpolates becomes (1 - share) of the first channel and share of the second, which is a direction.
    """
    if isinstance(objective, Sum | Product):
        first, second = objective.parts
        return replace(objective, parts=(settled(first, share), settled(second, share)))
    if isinstance(objective, Keep):
        return Keep(settled(objective.of, share))
    if isinstance(objective, Interpolate):
        return Direction(objective.layer, ((objective.first, 1 - share), (objective.second, share)))
    return objective


def shape_of_tree(objective: Objective) -> Objective:
    """The same tree without the numbers that are fed; equal for objectives that one graph serves."""
    if isinstance(objective, Sum | Product):
        first, second = objective.parts
        return replace(objective, parts=(shape_of_tree(first), shape_of_tree(second)))
    if isinstance(objective, Keep):
        return Keep(shape_of_tree(objective.of))
    if isinstance(objective, Direction):
        return replace(
            objective, vector=0, place=objective.place if isinstance(objective.place, str) else (0, 0)
        )
    return replace(objective, target=0) if isinstance(objective, Score) else objective


def is_coupled(objective: Objective) -> bool:
    """Whether a picture's value depends on the other pictures of its batch."""
    return any(isinstance(leaf, Diversity | Alignment) for leaf in leaves(objective))


def kept(objective: Objective) -> list[Keep]:
    """What is to be kept, from left to right."""
    if isinstance(objective, Sum | Product):
        return [one for part in objective.parts for one in kept(part)]
    return [objective] if isinstance(objective, Keep) else []


@dataclass(frozen=True)
class Writing:
    """What objectives are written with: the network's tensors, its layers, and the inputs that are fed.

    `scores` is the tensor of the scores; `fed` holds an input for each name that `feeds` lists.
    """

    op: Ops
    values: Mapping[str, ir.Value]
    layers: Mapping[str | int, Layer]
    scores: str
    batch: int
    fed: Mapping[str, ir.Value] = field(default_factory=dict)

    def maps(self, layer: str | int) -> ir.Value:
        """A layer's activation as float32 [B, C, Z]."""
        found = self.layers[layer]
        value = self.values[found.tensor]
        if found.channel is None or not found.grid:
            flat = self.op.Reshape(value, self.op.ints(self.batch, -1, 1))
        else:
            flat = flattened(self.op, value, found)
        return self.op.Cast(flat, to=ir.DataType.FLOAT)


def write(objective: Objective, writing: Writing) -> ir.Value:
    """The objective's value for each picture, [B], as nodes."""
    return _Writer(writing).value(objective)


class _Writer:
    """Walks a tree from left to right, as `leaves` and `kept` do, and counts."""

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self.leaf = self.keep = 0

    def value(self, objective: Objective) -> ir.Value:
        op = self.writing.op
        if isinstance(objective, Constant):
            return op.constant(np.full(1, objective.number, np.float32))
        if isinstance(objective, Sum):
            return op.Add(*map(self.value, objective.parts))
        if isinstance(objective, Product):
            return op.Mul(*map(self.value, objective.parts))
        if isinstance(objective, Keep):
            change = op.Sub(self.value(objective.of), self.writing.fed[f"keep_{self.keep}"])
            self.keep += 1
            return op.Neg(op.Mul(change, change))
        number, self.leaf = self.leaf, self.leaf + 1
        if isinstance(objective, Direction):
            return _along(self.writing, objective, number)
        if isinstance(objective, Energy):
            maps = self.writing.maps(objective.layer)
            return op.ReduceMean(op.Mul(maps, maps), op.ints(1, 2), keepdims=0)
        if isinstance(objective, Score):
            scores = self.writing.values[self.writing.scores]
            flat = op.Cast(op.Reshape(scores, op.ints(self.writing.batch, -1)), to=ir.DataType.FLOAT)
            return op.ReduceSum(op.Mul(flat, self.writing.fed[f"vector_{number}"]), op.ints(1), keepdims=0)
        if isinstance(objective, Diversity):
            return op.Neg(_similarity(op, self.writing.maps(objective.layer)))
        assert isinstance(objective, Alignment)
        return op.Neg(_difference(op, self.writing.maps(objective.layer), self.writing.batch))


def _along(writing: Writing, objective: Direction, number: int) -> ir.Value:
    op, maps = writing.op, writing.maps(objective.layer)
    vector = writing.fed[f"vector_{number}"]
    row = op.Unsqueeze(vector, op.ints(1))
    if objective.place != "mean":
        index = (
            _middle(writing, objective.layer)
            if objective.place == "middle"
            else op.Gather(writing.fed[f"place_{number}"], op.ints(0))
        )
        maps = op.Gather(maps, index, axis=2)
    along = op.Squeeze(op.MatMul(row, maps), op.ints(1))
    if objective.power:
        length = op.Sqrt(op.ReduceSum(op.Mul(maps, maps), op.ints(1), keepdims=0))
        own = op.Sqrt(op.ReduceSum(op.Mul(vector, vector), op.ints(1), keepdims=1))
        cosine = op.Div(op.Div(along, op.Add(length, _COSINE_EPSILON)), op.Add(own, _COSINE_EPSILON))
        along = op.Mul(along, op.Pow(op.Max(cosine, _COSINE_FLOOR), float(objective.power)))
    return op.ReduceMean(along, op.ints(1), keepdims=0)


def _middle(writing: Writing, layer: str | int) -> ir.Value:
    """The number of the middle place among all places, row by row, [1]."""
    op, found = writing.op, writing.layers[layer]
    if found.tokens is not None:
        _, height, width = found.tokens
        return op.ints((height // 2) * width + width // 2)
    value, place = writing.values[found.tensor], op.ints(0)
    for axis in found.grid:
        size = op.shape(value, axis, axis + 1)
        place = op.Add(op.Mul(place, size), op.Div(size, op.ints(2)))
    return place


def _similarity(op: Ops, maps: ir.Value) -> ir.Value:
    """The cosines of each picture's Gram matrix with all others' of the batch, summed, [B]."""
    gram = op.MatMul(maps, op.Transpose(maps, perm=[0, 2, 1]))
    square = op.ReduceSum(op.Mul(gram, gram), op.ints(1, 2), keepdims=1)
    unit = op.Div(gram, op.Sqrt(op.Max(square, 1e-10)))
    total = op.ReduceSum(unit, op.ints(0), keepdims=1)
    others = op.Sub(total, unit)
    return op.ReduceSum(op.Mul(unit, others), op.ints(1, 2), keepdims=0)


def _difference(op: Ops, maps: ir.Value, batch: int) -> ir.Value:
    """The mean squared difference to those up to four further on, halved with each, [B]."""
    total = op.constant(np.zeros(batch, np.float32))
    for apart in range(1, min(_MOST_APART, batch - 1) + 1):
        here = op.Slice(maps, op.ints(0), op.ints(batch - apart), op.ints(0))
        there = op.Slice(maps, op.ints(apart), op.ints(batch), op.ints(0))
        change = op.Sub(here, there)
        mean = op.ReduceMean(op.Mul(change, change), op.ints(1, 2), keepdims=0)
        total = op.Add(total, op.Pad(op.Mul(mean, 0.5**apart), op.ints(0, apart)))
    return total


@dataclass(frozen=True)
class Facts:
    """What the numbers of objectives are checked against: layers' sizes, and what a target means."""

    channels: Mapping[str | int, int]
    maps: Mapping[str | int, tuple[int, int]]
    weights: Mapping[str | int, Array]


def feeds(objectives: Sequence[Objective], facts: Facts) -> dict[str, Array]:
    """What the graph of one tree is fed for a batch of objectives of that tree: [B, ...].

    Raises:
        SelectorError: A layer has no such channel or place.
    """
    rows: dict[str, list[Any]] = {}
    for objective in objectives:
        for number, leaf in enumerate(leaves(objective)):
            if isinstance(leaf, Direction):
                rows.setdefault(f"vector_{number}", []).append(_vector(leaf, facts))
                if not isinstance(leaf.place, str):
                    rows.setdefault(f"place_{number}", []).append(_place(leaf, facts))
            elif isinstance(leaf, Score):
                rows.setdefault(f"vector_{number}", []).append(facts.weights[leaf.target])
    return {
        name: np.asarray(row, np.int64 if name.startswith("place") else np.float32)
        for name, row in rows.items()
    }


def _vector(leaf: Direction, facts: Facts) -> Array:
    count = facts.channels[leaf.layer]
    if isinstance(leaf.vector, int):
        return _weighted(((leaf.vector, 1.0),), count, leaf.layer)
    if leaf.vector and isinstance(leaf.vector[0], tuple):
        return _weighted(leaf.vector, count, leaf.layer)
    if len(leaf.vector) != count:
        raise SelectorError(
            f"a direction in layer {leaf.layer!r} takes {count} numbers, not {len(leaf.vector)}"
        )
    return np.array(leaf.vector, np.float64)


def _weighted(pairs: Sequence[tuple[int, float]], count: int, layer: str | int) -> Array:
    vector = np.zeros(count)
    for number, weight in pairs:
        if not 0 <= number < count:
            raise SelectorError(f"no channel {number} in layer {layer!r}: it has channels 0 to {count - 1}")
        vector[number] += weight
    return vector


def _place(leaf: Direction, facts: Facts) -> int:
    assert not isinstance(leaf.place, str)
    (row, column), (height, width) = leaf.place, facts.maps[leaf.layer]
    if not (0 <= row < height and 0 <= column < width):
        raise SelectorError(f"no place {row},{column} in layer {leaf.layer!r}: its maps are {height}x{width}")
    return row * width + column
