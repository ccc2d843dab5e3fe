"""Curves: what the model says as the places that a map ranks first are taken away, or put in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxviz.quality.common import (
    AT_ONCE,
    Array,
    Floats,
    Predict,
    blended,
    in_type,
    over_places,
    predicted,
    ranked,
)
from onnxviz.quality.impute import imputed


@dataclass(frozen=True)
class Curve:
    """The target's value by the share of the picture changed, each [steps + 1], and the area below."""

    shares: Floats
    values: Floats
    area: float


@dataclass(frozen=True)
class Road:
    """The target's value by the share of the picture removed and filled, each [shares].

    `most_first` (MoRF) has the highest places removed, `least_first` (LeRF) the lowest.
    """

    shares: Floats
    most_first: Floats
    least_first: Floats

    @property
    def combined(self) -> float:
        """The mean of (LeRF - MoRF) / 2: 0 for a map that knows nothing, larger is better."""
        return float((self.least_first - self.most_first).mean()) / 2


def deletion(
    predict: Predict,
    x: Array,
    heat: Array,
    baseline: Array,
    places: tuple[int, int],
    steps: int = 28,
    seed: int = 0,
    batch: int = AT_ONCE,
) -> Curve:
    """The probability as places go, the highest first; a good map has a small area (Petsiuk et al. 2018).

    Args:
        predict: The target's probability.
        x: One model input, [*input].
        heat: [H, W]; only its order counts.
        baseline: What takes their place, shaped like x or broadcast to it. The paper takes zeros.
        places: The axes of H and W in x.
        steps: In how many steps of equal size; the paper takes as many as the picture has rows.
        seed: Of the order of equal places.
        batch: How many inputs are run together.

    Raises:
        ShapeError: The map is not of the input's height and width.
        OnnxvizError: The map holds NaN.
    """
    return _curve(predict, x, baseline, ranked(heat, seed).reshape(heat.shape), places, steps, batch)


def insertion(
    predict: Predict,
    x: Array,
    heat: Array,
    baseline: Array,
    places: tuple[int, int],
    steps: int = 28,
    seed: int = 0,
    batch: int = AT_ONCE,
) -> Curve:
    """The probability as places come, the highest first; a good map has a large area (Petsiuk et al. 2018).

    The arguments are those of `deletion`; the paper starts from a blurred picture.
    """
    start = in_type(np.broadcast_to(baseline, x.shape), x)
    return _curve(predict, start, x, ranked(heat, seed).reshape(heat.shape), places, steps, batch)


def road(
    predict: Predict,
    x: Array,
    heat: Array,
    places: tuple[int, int],
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    noise: float = 0.01,
    seed: int = 0,
    batch: int = AT_ONCE,
) -> Road:
    """Remove and debias: the probability without the highest, or the lowest places (Rong et al. 2022).

    What is removed is filled from around it (see `imputed`), so that the model learns nothing from the shape
    of the hole. Places are ranked, never compared with a threshold, so that ties are no trouble. One figure
    of both curves, `Road.combined`, is not the paper's but that of grad-cam, where it is in wide use.

    Args:
        predict: The target's probability.
        x: One model input, [*input].
        heat: [H, W]; only its order counts.
        places: The axes of H and W in x.
        shares: How much is removed, each a run.
        noise: Of the imputer, as a share of the range of x.
        seed: Of the noise, and of the order of equal places.
        batch: How many inputs are run together.

    Raises:
        ShapeError: The map is not of the input's height and width.
        OnnxvizError: The map holds NaN.
    """
    order = ranked(heat, seed)

    def without(order: Array) -> Iterator[Array]:
        for share in shares:
            removed = np.zeros(heat.size, bool)
            removed[order[: round(share * heat.size)]] = True
            yield imputed(x, removed.reshape(heat.shape), places, noise, seed)

    most, least = (predicted(predict, without(one), batch) for one in (order, order[::-1]))
    return Road(np.array(shares, np.float64), most, least)


def _curve(
    predict: Predict, start: Array, end: Array, order: Array, places: tuple[int, int], steps: int, batch: int
) -> Curve:
    """The values on the way from one input to another, place by place; `order` [H, W] lists the places."""
    shares = np.linspace(0, 1, steps + 1)

    def on_the_way() -> Iterator[Array]:
        for share in shares:
            kept = np.ones(order.size)
            kept[order.ravel()[: round(share * order.size)]] = 0
            yield blended(start, end, over_places(kept.reshape(order.shape), start, places))

    values = predicted(predict, on_the_way(), batch)
    return Curve(shares, values, float(np.trapezoid(values, shares)))
