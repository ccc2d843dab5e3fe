"""Localisation: does a map lie on the object?"""

import numpy as np
from scipy.ndimage import distance_transform_edt

from onnxviz.quality.common import Array


def pointing_game(heat: Array, mask: Array, tolerance: float = 15) -> bool:
    """Whether the map's highest place lies on the object, or near it (Zhang et al. 2018, section 4.2).

    Args:
        heat: [H, W].
        mask: bool [H, W], the object; see `box_mask`.
        tolerance: How far beside it still counts, in places.
    """
    place = np.unravel_index(int(np.argmax(heat)), heat.shape)
    return bool(distance_transform_edt(~mask.astype(bool))[place] <= tolerance)


def mass_inside(heat: Array, mask: Array) -> float:
    """The share of what is positive in a map that lies on the object; NaN where nothing is positive.

    Kohlbrenner et al. 2020, "Towards best practice in explaining neural network decisions with LRP".
    """
    positive = np.maximum(heat.astype(np.float64), 0)
    total = float(positive.sum())
    return float(positive[mask.astype(bool)].sum()) / total if total > 0 else float("nan")


def box_mask(box: tuple[float, float, float, float], size: tuple[int, int]) -> Array:
    """The places [H, W] whose centres lie in a box (left, top, right, bottom)."""
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    down, across = (rows > box[1]) & (rows < box[3]), (columns > box[0]) & (columns < box[2])
    return np.logical_and.outer(down, across)
