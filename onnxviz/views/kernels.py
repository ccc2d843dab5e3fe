"""The weights of a convolution as a picture."""

import math

import numpy as np

from onnxviz.errors import ShapeError
from onnxviz.views.colors import BACKGROUND, NONFINITE, Limits, Numbers, Pixels, limits_of, paint, suited
from onnxviz.views.figures import joined, remarks, with_bar
from onnxviz.views.grids import columns_for, enlarge, least_side, tile
from onnxviz.views.text import caption

MOST_FILTERS = 32
MOST_INPUTS = 32
MOST_ALONE = 1024
LEAST_CELL = 24
# Kernels are a few large cells each: what parts them must be wider than in a sheet of maps.
GUTTER = 5
_RGB_NOTE = "inputs as red, green, blue; each filter in its own range, grey is zero"


def kernel_grid(
    weights: Numbers,
    title: str,
    note: str = "",
    colormap: str | None = None,
    most_filters: int = MOST_FILTERS,
    most_inputs: int = MOST_INPUTS,
) -> Pixels:
    """The kernels of one convolution.

    Filters of three inputs are drawn as RGB, each in its own range, with zero at mid grey. Filters of one
    input (depthwise) go on a plain sheet. Others give a row per filter with a tile per input, in one pair of
    limits. Kernels of three dimensions show their depth slices side by side.

    Args:
        weights: [M, C, kw], [M, C, kh, kw] or [M, C, kd, kh, kw].
        title: above the sheet.
        note: a smaller line under the title, before what this function has to announce.
        colormap: a matplotlib name for signed kernels; None chooses by sign.
        most_filters: rows drawn of a sheet with one tile per input.
        most_inputs: columns drawn of such a sheet, each depth slice counted.

    Raises:
        SelectorError: no such colormap.
        ShapeError: weights of another rank.
    """
    if weights.ndim not in (3, 4, 5) or 0 in weights.shape:
        raise ShapeError(
            "kernels need weights [filters, inputs, size ...] with one to three sizes; "
            f"got {list(weights.shape)}"
        )
    filters, inputs = weights.shape[:2]
    depth = weights.shape[2] if weights.ndim == 5 else 1
    height = weights.shape[-2] if weights.ndim > 3 else 1
    slices = weights.reshape(filters, inputs, depth, height, -1)
    dead = remarks(weights, "filters")
    if inputs == 3 and weights.ndim > 3:
        sheet = _plain(_rgb(slices[:MOST_ALONE]), depth)
        notes = [_first(MOST_ALONE, filters, "filters"), _RGB_NOTE]
        return caption(sheet, title, joined(note, *notes, *dead))
    pairs = limits_of(weights)
    name = suited(pairs) if colormap is None else colormap
    if inputs == 1:
        sheet = _plain(_painted(slices[:MOST_ALONE], pairs, name), depth)
        notes = [_first(MOST_ALONE, filters, "filters")]
    else:
        most_inputs = max(1, most_inputs // depth)
        shown = slices[:most_filters, :most_inputs]
        tiles = _painted(shown, pairs, name)
        least = least_side(max(tiles.shape[1:3]), len(shown), shown.shape[1] * depth, LEAST_CELL)
        sheet = tile(_side_by_side(enlarge(tiles, least), depth), shown.shape[1], GUTTER)
        parts = [_first(most_filters, filters, "filters"), _first(most_inputs, inputs, "inputs")]
        notes = [", ".join(part for part in parts if part), "a row for each filter, a column for each input"]
    return caption(with_bar(sheet, pairs, name), title, joined(note, *notes, *dead))


def _first(shown: int, count: int, noun: str) -> str:
    return f"first {shown} of {count} {noun}" if shown < count else ""


def _plain(tiles: Pixels, depth: int) -> Pixels:
    """Slices [M * depth, h, w, 3] on a sheet of M kernels with their numbers."""
    height, width = tiles.shape[1], tiles.shape[2] * depth
    count = len(tiles) // depth
    columns = columns_for(count, height, width)
    least = least_side(max(tiles.shape[1:3]), math.ceil(count / columns), columns * depth)
    kernels = _side_by_side(enlarge(tiles, least), depth)
    return tile(kernels, columns, GUTTER, labels=[str(index) for index in range(count)])


def _painted(slices: Numbers, pairs: tuple[Limits, ...], colormap: str) -> Pixels:
    """Kernels [M, C, d, h, w] in colours, uint8 [M * C * d, h, w, 3]."""
    return paint(slices.reshape(-1, *slices.shape[-2:]), colormap=colormap, limits=pairs)


def _rgb(slices: Numbers) -> Pixels:
    """Kernels [M, 3, d, h, w] in their own colours, uint8 [M * d, h, w, 3]."""
    broken = ~np.isfinite(slices)
    known = np.where(broken, 0, slices).astype(np.float64)
    bound = np.abs(known).max(axis=(1, 2, 3, 4), keepdims=True)
    shades = np.rint(127.5 + 127.5 * known / np.where(bound > 0, bound, 1)).astype(np.uint8)
    colors = np.moveaxis(shades, 1, -1)
    colors[broken.any(axis=1)] = NONFINITE
    return colors.reshape(-1, *colors.shape[2:])


def _side_by_side(tiles: Pixels, depth: int) -> Pixels:
    """Every `depth` tiles [n * depth, h, w, 3] side by side, [n, h, depth * w + seams, 3]."""
    seamed = np.full((*tiles.shape[:2], tiles.shape[2] + 1, 3), BACKGROUND, np.uint8)
    seamed[:, :, :-1] = tiles
    height, width = seamed.shape[1:3]
    count = len(seamed) // depth
    rows = (
        seamed.reshape(count, depth, height, width, 3).swapaxes(1, 2).reshape(count, height, depth * width, 3)
    )
    return rows[:, :, :-1]
