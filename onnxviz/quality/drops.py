"""What is left of the probability where a map hides the picture (Chattopadhyay et al. 2018, section 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxviz.quality.common import Array, Floats, Predict, blended, over_places, predicted

_ROUNDING = 1e-6  # a softmax in float32 may exceed 1 by about this much


@dataclass(frozen=True)
class Drops:
    """Means over pictures.

    `drop` is the share of the probability that is lost, `increase` the share of pictures on which it rises,
    and `gain` the share of what was missing to 1 that is gained (Zhang et al. 2024, "Opti-CAM"). Of scores
    that are no probabilities `drop` is NaN where one is negative, and `gain` where one is above 1.
    """

    drop: float
    increase: float
    gain: float


def hidden(
    predict: Predict, x: Array, heat: Array, baseline: Array, places: tuple[int, int]
) -> tuple[float, float]:
    """The probability of a picture, and of the picture where the map shows it.

    Args:
        predict: The target's probability.
        x: One model input, [*input].
        heat: [H, W] in [0, 1], by which the picture is multiplied.
        baseline: What stands where it is 0; the paper takes zeros.
        places: The axes of H and W in x.

    Raises:
        ShapeError: The map is not of the input's height and width.
    """
    shown = blended(x, np.asarray(baseline), over_places(heat.astype(np.float64), x, places))
    before, after = predicted(predict, (x, shown))
    return float(before), float(after)


def drops(pairs: Sequence[tuple[float, float]]) -> Drops:
    """Average drop, increase and gain, from each picture's probabilities before and after hiding.

    max(0, p - o) / p, the share with o > p, and max(0, o - p) / (1 - p), for p and o as `hidden` gives them.
    """
    before, after = np.array(pairs, np.float64).T
    lost = _share(np.maximum(before - after, 0), before)
    gained = _share(np.maximum(after - before, 0), 1 - before)
    return Drops(float(lost.mean()), float((after > before).mean()), float(gained.mean()))


def _share(part: Floats, whole: Floats) -> Floats:
    """part / whole: 0 of nothing, and NaN of less than nothing, which a share is not defined for."""
    shares = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.where(whole < -_ROUNDING, np.nan, shares)
