"""What is left of the probability where a map hides the picture (Chattopadhyay et al. 2018, section 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxviz.quality.common import Array, Predict, blended, over_places


@dataclass(frozen=True)
class Drops:
    """Means over pictures.

    `drop` is the share of the probability that is lost, `increase` the share of pictures on which it rises,
    and `gain` the share of what was missing to 1 that is gained (Zhang et al. 2024, "Opti-CAM").
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
    """
    shown = blended(x, np.asarray(baseline), over_places(heat.astype(np.float64), x, places))
    before, after = predict(np.stack([x, shown]))
    return float(before), float(after)


def drops(pairs: Sequence[tuple[float, float]]) -> Drops:
    """The three figures from each picture's probabilities before and after, as `hidden` gives them."""
    before, after = np.array(pairs, np.float64).T
    lost = np.divide(np.maximum(before - after, 0), before, out=np.zeros_like(before), where=before > 0)
    left = 1 - before
    gained = np.divide(np.maximum(after - before, 0), left, out=np.zeros_like(left), where=left > 0)
    return Drops(float(lost.mean()), float((after > before).mean()), float(gained.mean()))
