"""From pixels to what is shown: as they are, or stretched as the sources of the recipes do."""

import numpy as np
import numpy.typing as npt

from onnxviz.methods.ascent.recipe import Display
from onnxviz.methods.ascent.transforms import Array


def shown(pictures: Array, how: Display) -> npt.NDArray[np.uint8]:
    """Pictures [n, H, W, C] of 0 to 255 as uint8, each by itself.

    `real` clips; `std` is (x - mean) / (std + 1e-5) * 0.1 + 0.5 (Chollet 2017, section 5.4.2); `minmax` from
    the smallest number to the largest (Hvass); `pct2` from the 2nd to the 98th percentile.
    """
    return np.stack([_one(picture.astype(np.float64), how) for picture in pictures])


def as_rgb(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Pictures [n, H, W, C] in three colours: grey for one channel, the mean for any other number."""
    if pictures.shape[-1] == 3:
        return pictures
    grey = np.rint(pictures.mean(axis=-1, keepdims=True)).astype(np.uint8)
    return np.repeat(grey, 3, axis=-1)


def _one(picture: Array, how: Display) -> npt.NDArray[np.uint8]:
    if how == "std":
        picture = ((picture - picture.mean()) / (picture.std() + 1e-5) * 0.1 + 0.5) * 255
    elif how != "real":
        ends = (0, 100) if how == "minmax" else (2, 98)
        low, high = np.percentile(picture, ends)
        picture = (picture - low) / (high - low if high > low else 1.0) * 255
    return np.asarray(np.rint(np.clip(picture, 0, 255)), np.uint8)
