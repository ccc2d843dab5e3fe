"""Heatmaps on photographs: put where they belong, laid over, and bare."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxviz.views.colors import BACKGROUND, DIVERGING, HEAT, Limits, Numbers, Pixels, paint

Box: TypeAlias = tuple[float, float, float, float]

ALPHA = 0.6


def resample(values: Numbers, size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps at another size: bilinear with half-pixel centres, averaging where they get smaller.

    Args:
        values: [..., h, w].
        size: height and width, pixels.

    Returns:
        float32 [..., height, width]; a value that is not finite makes NaN where it has weight.
    """
    height, width = size
    return _spread(values, (0, 0, width, height), size)


def place(heatmap: Numbers, box: Box, picture_size: tuple[int, int]) -> NDArray[np.float32]:
    """A map of the model's input put back onto the picture that the input was cut from.

    Args:
        heatmap: [..., H, W].
        box: left, top, right, bottom in the picture's pixels: the region that fills the model's input.
            Where it reaches outside the picture the map is cut.
        picture_size: height and width of the picture, pixels.

    Returns:
        float32 [..., height, width], bilinear; 0 at pixels whose centre lies outside the box.
    """
    return _spread(heatmap, box, picture_size)


def _spread(values: Numbers, box: Box, size: tuple[int, int]) -> NDArray[np.float32]:
    left, top, right, bottom = box
    down = _weights(size[0], values.shape[-2], top, bottom)
    across = _weights(size[1], values.shape[-1], left, right).T
    finite = np.isfinite(values)
    if finite.all():
        known = values.astype(np.float32)
        # Rounding alone could carry a mean past the values that it is the mean of.
        return np.clip(down @ known @ across, min(0, known.min()), max(0, known.max()))
    # One NaN would spread over its whole row and column of the product.
    spread = _spread(np.where(finite, values, 0), box, size)
    spread[(down @ (~finite).astype(np.float32) @ across) > 0] = np.nan
    return spread


def _weights(pixels: int, cells: int, start: float, stop: float) -> NDArray[np.float32]:
    """How much each of `cells` that fill [start, stop) adds to each of `pixels`: float32 [pixels, cells]."""
    step = cells / (stop - start)
    centres = (np.arange(pixels) + 0.5 - start) * step
    distance = np.abs(centres[:, None] - (np.arange(cells) + 0.5)) / max(1.0, step)
    weights = np.maximum(1 - distance, 0)
    weights[(centres < 0) | (centres > cells)] = 0
    total = weights.sum(axis=1, keepdims=True)
    return (weights / np.where(total > 0, total, 1)).astype(np.float32)


def heat(heatmap: Numbers, colormap: str = HEAT) -> Pixels:
    """A heatmap [h, w] in [0, 1] in colours, uint8 [h, w, 3]."""
    painted: Pixels = paint(heatmap[None], colormap=colormap, limits=Limits(0, 1))[0]
    return painted


def signed(raw: Numbers, colormap: str = DIVERGING) -> Pixels:
    """A signed map [h, w] in colours, uint8 [h, w, 3], with zero in the middle of the colormap."""
    finite = np.isfinite(raw)
    bound = float(np.abs(np.where(finite, raw, 0)).max())
    # Any bound paints a map of zeros in the middle colour, except 0.
    bound = bound if bound > 0 else 1.0
    painted: Pixels = paint(raw[None], colormap=colormap, limits=Limits(-bound, bound))[0]
    return painted


def overlay(picture: Pixels, heatmap: Numbers, colormap: str = HEAT, alpha: float = ALPHA) -> Pixels:
    """A heatmap laid over its picture; the opacity is alpha * heat, so that cold regions stay a photograph.

    Args:
        picture: uint8 [h, w, 3].
        heatmap: [h, w] in [0, 1].
        colormap: a matplotlib name.
        alpha: opacity of the hottest pixels, in [0, 1].

    Returns:
        uint8 [h, w, 3]; equal to the picture where the heat is 0, magenta where it is not finite.
    """
    return _blend(picture, heat(heatmap, colormap), heatmap, alpha)


def tint(picture: Pixels, values: Numbers, limits: Limits, colormap: str, alpha: float) -> Pixels:
    """A map [h, w] laid over its picture: the farther from zero, the more opaque; each sign in its hue."""
    bound = max(abs(limits.low), abs(limits.high))
    strength = values / (bound if bound > 0 else 1.0)
    # A diverging colormap is pale near zero, and its opacity fades there already.
    hues = np.sign(values) * (0.8 * bound) if limits.signed else values
    return _blend(picture, paint(hues[None], colormap=colormap, limits=limits)[0], np.abs(strength), alpha)


def _blend(picture: Pixels, colors: Pixels, strength: Numbers, alpha: float) -> Pixels:
    """Colours over a picture with the opacity alpha * strength, strength [h, w] in [0, 1]."""
    finite = np.isfinite(strength)
    opacity = alpha * np.clip(np.where(finite, strength, 0), 0, 1).astype(np.float32)
    opacity[~finite] = 1
    mixed = picture + (colors.astype(np.float32) - picture) * opacity[..., None]
    return np.rint(mixed).astype(np.uint8)


def mosaic(colors: Pixels, box: Box, size: tuple[int, int]) -> Pixels:
    """A painted map put onto the frame of a picture with its own cells kept square and sharp.

    Args:
        colors: uint8 [H, W, 3].
        box: see `place`.
        size: height and width of the frame, pixels.

    Returns:
        uint8 [height, width, 3]; the colour BACKGROUND outside the box.
    """
    left, top, right, bottom = box
    down, rows = _cells(size[0], colors.shape[0], top, bottom)
    across, columns = _cells(size[1], colors.shape[1], left, right)
    frame = np.full((*size, 3), BACKGROUND, np.uint8)
    frame[np.ix_(down, across)] = colors[np.ix_(rows, columns)]
    return frame


def _cells(pixels: int, cells: int, start: float, stop: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pixels whose centres lie in [start, stop), and the cell that each of them falls into."""
    where = np.floor((np.arange(pixels) + 0.5 - start) * cells / (stop - start)).astype(np.intp)
    inside = np.flatnonzero((where >= 0) & (where < cells))
    return inside, where[inside]
