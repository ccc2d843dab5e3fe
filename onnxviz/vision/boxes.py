"""Boxes that detectors propose, as corners in the model's input, and how far boxes overlap."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

STRIDES = (8, 16, 32)
"""The cells of YOLOX's three grids, in pixels of the input."""

_NORMALISED = 2.0  # boxes in shares of the input reach little beyond 1; those in pixels far


@dataclass(frozen=True)
class Boxes:
    """Corners [P, 4] (left, top, right, bottom) in pixels of the input, and how they were read."""

    corners: npt.NDArray[np.float64]
    form: str


def read_boxes(numbers: Array, size: tuple[int, int], raw_grid: bool = False) -> Boxes:
    """Boxes from a model's numbers [P, 4].

    Where no right edge lies left of its left one (nor bottom above top), they are corners, else centre, width
    and height; where none reaches far beyond 1, in shares of the input.

    Args:
        numbers: [P, 4].
        size: Height and width of the model's input, pixels.
        raw_grid: Whether they may be YOLOX's: offsets from the cells of its grids, and logarithms of sizes.
            They are, where there is one for each cell and some size is negative.
    """
    exact, (height, width) = numbers.astype(np.float64), size
    cells = _grid(size)
    if raw_grid and len(cells) == len(exact) and (exact[:, 2:] < 0).any():
        centre = (exact[:, :2] + cells[:, :2]) * cells[:, 2:]
        return Boxes(_corners(centre, np.exp(exact[:, 2:]) * cells[:, 2:]), "yolox")
    ordered = bool((exact[:, 2:] >= exact[:, :2]).all())
    corners = exact if ordered else _corners(exact[:, :2], exact[:, 2:])
    form = "xyxy" if ordered else "cxcywh"
    if np.abs(exact).max(initial=0) <= _NORMALISED:
        return Boxes(corners * np.array([width, height, width, height]), f"{form}, normalised")
    return Boxes(corners, form)


def overlaps(corners: Array, box: tuple[float, float, float, float]) -> npt.NDArray[np.float64]:
    """Intersection over union of each of the boxes [P, 4] with one box, [P]."""
    left, top, right, bottom = corners.astype(np.float64).T
    across = np.clip(np.minimum(right, box[2]) - np.maximum(left, box[0]), 0, None)
    down = np.clip(np.minimum(bottom, box[3]) - np.maximum(top, box[1]), 0, None)
    common = across * down
    areas = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    whole = areas + (box[2] - box[0]) * (box[3] - box[1]) - common
    return np.asarray(np.divide(common, whole, out=np.zeros_like(common), where=whole > 0))


def _corners(centre: Array, extent: Array) -> npt.NDArray[np.float64]:
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)


def _grid(size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The cells of YOLOX's grids, finest first: column, row and stride, [P, 3]."""
    grids = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        places = np.stack([columns.ravel(), rows.ravel()], axis=1)
        grids.append(np.concatenate([places, np.full((len(places), 1), stride)], axis=1))
    return np.concatenate(grids).astype(np.float64)
