"""Which layer of one file is which layer of another: by what they compute, not by what they are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.stages import Stage
from onnxviz.auditing.weights import Filters
from onnxviz.graph.families import family
from onnxviz.graph.layers import Layer

Array: TypeAlias = npt.NDArray[Any]
Evidence: TypeAlias = Literal["numbers", "weights", "structure"]

# What counts how much: numbers and weights decide, and the rest where they cannot, as behind a broken layer.
_NUMBERS, _WEIGHTS, _FAMILY, _NAME, _ORDER = 6.0, 3.0, 1.0, 0.5, 4.0
_CERTAIN = 0.9
_CHANCE = 0.3  # less likeness than that says nothing: activations are all positive, filters are short
_LEAST = 4.5
"""A pair needs as much: its operator's family and its place in the order, say, or most of its numbers."""

_PLACES = 8


@dataclass(frozen=True)
class Probe:
    """What is known of a stage before it is matched.

    Attributes:
        stage: The stage.
        layer: The one of its members that was measured.
        sizes: Channels and places of its feature maps.
        signature: float32 [K], some of its activations for a few pictures.
        filters: Its weights, or None.
        order: Where it lies in the graph, from 0 to 1.
    """

    stage: Stage
    layer: Layer
    sizes: tuple[int, int]
    signature: npt.NDArray[np.float32]
    filters: Filters | None
    order: float


@dataclass(frozen=True)
class Match:
    """Two stages that are the same layer, and how sure that is."""

    audited: Probe
    reference: Probe
    correlation: float
    by: Evidence

    @property
    def pair(self) -> "Pair":
        """What was measured of the two."""
        return Pair(self.audited.layer, self.reference.layer)


class Pair(NamedTuple):
    """A layer of each file whose outputs are to be compared."""

    ours: Layer
    theirs: Layer


def signature(maps: Sequence[Array]) -> npt.NDArray[np.float32]:
    """Some numbers of a layer's feature maps [N, C, h, w], spread evenly over the places."""
    parts = []
    for each in maps:
        rows, columns = (_spread(size) for size in each.shape[-2:])
        parts.append(each[..., rows[:, None], columns].astype(np.float32).ravel())
    return np.concatenate(parts)


def match(audited: Sequence[Probe], reference: Sequence[Probe]) -> tuple[Match, ...]:
    """Pair the stages of two files, each with one at most, so that the pairs fit best in all.

    Only stages of the same number of channels and places can be the same. Of these the likeliest are paired
    by what they compute for the same pictures, by the directions of their filters (which a folded
    BatchNormalization or a quantiser leaves), by the kind of operator, their place in the order, and last by
    name (assignment problem, Kuhn 1955).
    """
    from scipy.optimize import linear_sum_assignment  # half a second, which not every audit needs

    found: list[Match] = []
    for sizes in dict.fromkeys(probe.sizes for probe in audited):
        ours = [probe for probe in audited if probe.sizes == sizes]
        theirs = [probe for probe in reference if probe.sizes == sizes]
        if not theirs:
            continue
        pairs = [[_likeness(one, other) for other in theirs] for one in ours]
        scores = np.array([[each.score for each in row] for row in pairs])
        for i, j in zip(*linear_sum_assignment(-scores), strict=True):
            if scores[i, j] >= _LEAST:
                found.append(Match(ours[i], theirs[j], pairs[i][j].correlation, pairs[i][j].by))
    return tuple(sorted(found, key=lambda each: each.audited.stage.layer.index))


@dataclass(frozen=True)
class _Likeness:
    correlation: float
    weights: float
    rest: float

    @property
    def score(self) -> float:
        return (
            _NUMBERS * _beyond_chance(self.correlation) + _WEIGHTS * _beyond_chance(self.weights) + self.rest
        )

    @property
    def by(self) -> Evidence:
        if self.correlation >= _CERTAIN:
            return "numbers"
        return "weights" if self.weights >= _CERTAIN else "structure"


def _likeness(one: Probe, other: Probe) -> _Likeness:
    alike = {
        _FAMILY: family(one.stage.layer.op) == family(other.stage.layer.op),
        _NAME: one.stage.name == other.stage.name,
    }
    rest = sum(weight for weight, holds in alike.items() if holds)
    return _Likeness(
        _correlation(one.signature, other.signature),
        _directions(one.filters, other.filters),
        rest + _ORDER * (1 - abs(one.order - other.order)),
    )


def _correlation(one: Array, other: Array) -> float:
    """Pearson's correlation where both are finite; 0 where that says nothing."""
    if one.shape != other.shape:
        return 0.0
    both = np.isfinite(one) & np.isfinite(other)
    a, b = one[both].astype(np.float64), other[both].astype(np.float64)
    if len(a) < 2:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def _directions(one: Filters | None, other: Filters | None) -> float:
    """The mean |cosine| of the filters, row by row: scales, signs and rounding change it little."""
    if one is None or other is None or one.weights.shape != other.weights.shape:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        dots = np.abs(np.einsum("ok,ok->o", one.weights, other.weights))
        size = np.linalg.norm(one.weights, axis=1) * np.linalg.norm(other.weights, axis=1)
        cosines = dots[size > 0] / size[size > 0]
    known = cosines[np.isfinite(cosines)]
    return float(known.mean()) if known.size else 0.0


def _beyond_chance(likeness: float) -> float:
    return max(0.0, likeness - _CHANCE) / (1 - _CHANCE)


def _spread(size: int) -> npt.NDArray[np.intp]:
    return np.unique(np.linspace(0, size - 1, min(size, _PLACES)).round().astype(np.intp))
