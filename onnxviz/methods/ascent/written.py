"""Objectives as nodes of a graph, and what the graph is fed for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.errors import SelectorError
from onnxviz.graph.feature_maps import flattened
from onnxviz.graph.layers import Layer
from onnxviz.graph.ops import Ops
from onnxviz.methods.ascent.objective import (
    Alignment,
    Constant,
    Direction,
    Diversity,
    Energy,
    Keep,
    Objective,
    Product,
    Score,
    Sum,
    leaves,
)
from onnxviz.methods.ascent.transforms import Array

_MOST_APART = 4
_COSINE_FLOOR, _COSINE_EPSILON = 0.1, 1e-4


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
