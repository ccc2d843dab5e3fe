"""Pictures as planes of numbers, [C, H, W], 0 to 255: what an ascent works on."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Array: TypeAlias = npt.NDArray[Any]


def as_planes(pixels: npt.NDArray[np.uint8], channels: int) -> Array:
    """A picture, uint8 [H, W, 3], in so many channels: its colours for three, its grey in each for others."""
    if channels == 3:
        return pixels.transpose(2, 0, 1).astype(np.float64)
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)
    return np.broadcast_to(grey, (channels, *grey.shape))


def resized(planes: Array, size: tuple[int, int]) -> Array:
    """Planes at another height and width, as Pillow resizes them (bilinear, antialiased)."""
    images = [Image.fromarray(plane.astype(np.float32)) for plane in planes]
    return np.stack([np.asarray(one.resize(size[::-1], Image.Resampling.BILINEAR)) for one in images])
