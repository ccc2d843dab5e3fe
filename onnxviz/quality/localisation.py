"""Localisation: does a map lie on the object?"""

import numpy as np
from scipy.ndimage import distance_transform_edt

from onnxviz.errors import ShapeError
from onnxviz.quality.common import Array


def pointing_game(heat: Array, mask: Array, tolerance: float = 15) -> float:
    """Whether the map's highest place lies on the object, or near it (Zhang et al. 2018, section 4.2).

    1 or 0; where several places are highest, the share of them that does, so that a flat map scores what
    chance would. NaN for a map that holds NaN, and where the object has no place.

    Args:
        heat: [H, W].
        mask: bool [H, W], the object; see `box_mask`.
        tolerance: How far beside it still counts, in places.

    Raises:
        ShapeError: The two are of different shapes.
    """
    _check(heat, mask)
    if np.isnan(heat).any() or not mask.any():
        return float("nan")
    distance = distance_transform_edt(~mask.astype(bool))
    return float((distance[heat == heat.max()] <= tolerance).mean())


def mass_inside(heat: Array, mask: Array) -> float:
    """The share of what is positive in a map that lies on the object (Kohlbrenner et al. 2020).

    NaN where nothing is positive, for a map that holds NaN, and where the object has no place.

    Args:
        heat: [H, W].
        mask: bool [H, W], the object; see `box_mask`.

    Raises:
        ShapeError: The two are of different shapes.
    """
    _check(heat, mask)
    positive = np.maximum(heat.astype(np.float64), 0)
    total = float(positive.sum())
    if not total > 0 or not mask.any():
        return float("nan")
    return float(positive[mask.astype(bool)].sum()) / total


def box_mask(box: tuple[float, float, float, float], size: tuple[int, int]) -> Array:
    """The places [H, W] whose centres lie in a box (left, top, right, bottom)."""
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    down, across = (rows > box[1]) & (rows < box[3]), (columns > box[0]) & (columns < box[2])
    return np.logical_and.outer(down, across)


def _check(heat: Array, mask: Array) -> None:
    if heat.shape != mask.shape:
        raise ShapeError(f"a map of {heat.shape} and a mask of {mask.shape} are not of one picture")
