"""Curves: what the model says as the places that a map ranks first are taken away, or put in."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxviz.quality.common import Array, Predict, blended, over_places, predicted, ranked
from onnxviz.quality.impute import imputed


@dataclass(frozen=True)
class Curve:
    """The target's value by the share of the picture changed, each [steps + 1], and the area below."""

    shares: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    area: float


def deletion(
    predict: Predict, x: Array, heat: Array, baseline: Array, places: tuple[int, int], steps: int = 28
) -> Curve:
    """The probability as places go, the highest first; a good map has a small area (Petsiuk et al. 2018).

    Args:
        predict: The target's probability.
        x: One model input, [*input].
        heat: [H, W]; only its order counts.
        baseline: What takes their place, shaped like x or broadcast to it. The paper takes zeros.
        places: The axes of H and W in x.
        steps: In how many steps of equal size.
    """
    return _curve(predict, x, baseline, heat, places, steps)


def insertion(
    predict: Predict, x: Array, heat: Array, baseline: Array, places: tuple[int, int], steps: int = 28
) -> Curve:
    """The probability as places come, the highest first; a good map has a large area (Petsiuk et al. 2018).

    The arguments are those of `deletion`; the paper starts from a blurred picture.
    """
    start = np.broadcast_to(baseline, x.shape).astype(x.dtype)
    return _curve(predict, start, x, heat, places, steps)


def road(
    predict: Predict,
    x: Array,
    heat: Array,
    places: tuple[int, int],
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    seed: int = 0,
) -> float:
    """Remove and debias: (LeRF - MoRF) / 2, larger is better (Rong et al. 2022).

    What is removed is filled from around it (see `imputed`), so that the model learns nothing from the shape
    of the hole. LeRF and MoRF are the mean probabilities with the lowest and with the highest places removed.

    Args:
        predict: The target's probability.
        x: One model input, [*input].
        heat: [H, W]; only its order counts, so that ties are no trouble.
        places: The axes of H and W in x.
        shares: How much is removed, each a run.
        seed: Of the noise.
    """
    order = ranked(heat)

    def without(order: Array) -> Iterator[Array]:
        for share in shares:
            removed = np.zeros(heat.size, bool)
            removed[order[: round(share * heat.size)]] = True
            yield imputed(x, removed.reshape(heat.shape), places, seed=seed)

    most, least = (predicted(predict, without(one)).mean() for one in (order, order[::-1]))
    return float(least - most) / 2


def _curve(
    predict: Predict, start: Array, end: Array, heat: Array, places: tuple[int, int], steps: int
) -> Curve:
    """The values on the way from one input to another, place by place in the map's order."""
    order, shares = ranked(heat), np.linspace(0, 1, steps + 1)

    def on_the_way() -> Iterator[Array]:
        for share in shares:
            kept = np.ones(heat.size)
            kept[order[: round(share * heat.size)]] = 0
            yield blended(start, end, over_places(kept, start, places))

    values = predicted(predict, on_the_way())
    return Curve(shares, values, float(np.trapezoid(values, shares)))
