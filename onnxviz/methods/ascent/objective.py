"""Objectives: what a picture is to raise, as expressions over a network's layers and classes.

An objective is a tree. Its shape decides the graph; its numbers (which channel, which class) are fed, so that
one compiled graph serves all channels of a layer (see `written`). Definitions after C. Olah et al. 2017 and
lucid 0.3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from onnxviz.methods.ascent.transforms import Array


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
