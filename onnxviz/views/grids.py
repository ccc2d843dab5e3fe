"""Many small pictures on one sheet: how many per row, how large each, and the sheet itself."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from onnxviz.views.colors import BACKGROUND, Numbers, Pixels
from onnxviz.views.text import INK, drawable, font, width_of

LEAST_TILE = 40
MOST_TILE = 160
MOST_ASPECT = 8
SHEET = 800
MOST_SIDE = 4000
SHEET_ASPECT = 1.5
GUTTER = 2
LABEL_SIZE = 10
LABEL_HEIGHT = 13


def near_square(count: int, aspect: float = 1.0) -> tuple[int, int]:
    """Rows and columns for `count` tiles that make a sheet somewhat wider than high.

    A full rectangle is preferred to a ragged last row while it is at most twice as wide or as high as wanted:
    512 tiles go into 16 rows of 32.

    Args:
        count: tiles, at least 1.
        aspect: a tile's width over its height.
    """
    best = min(
        (rows for rows in range(1, count + 1) if count % rows == 0),
        key=lambda rows: abs(math.log(count / rows**2 * aspect / SHEET_ASPECT)),
    )
    if 1 / 2 <= count / best**2 * aspect / SHEET_ASPECT <= 2:
        return best, count // best
    columns = min(count, math.ceil(math.sqrt(count * SHEET_ASPECT / aspect)))
    return math.ceil(count / columns), columns


def enlarge(tiles: Numbers, least: int = LEAST_TILE) -> Numbers:
    """Repeat pixels until the longer side has at least `least`, and the shorter an eighth of the longer.

    Args:
        tiles: [K, h, w] or [K, h, w, 3].
        least: pixels.
    """
    sides = tiles.shape[1:3]
    longest = max(sides) * max(1, math.ceil(least / max(sides)))
    down, across = (max(longest // max(sides), math.ceil(longest / MOST_ASPECT / side)) for side in sides)
    return tiles.repeat(down, axis=1).repeat(across, axis=2) if max(down, across) > 1 else tiles


def shrink(maps: Numbers, most: tuple[int, int]) -> Numbers:
    """Average square blocks until a map fits; smaller maps pass unchanged.

    A NaN makes its block NaN, so that it stays visible.

    Args:
        maps: [K, h, w].
        most: height and width, pixels.
    """
    factor = max(math.ceil(side / limit) for side, limit in zip(maps.shape[1:3], most, strict=True))
    if factor <= 1:
        return maps
    means: Numbers = maps.astype(np.float64 if maps.dtype == np.float64 else np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for axis in (1, 2):
            side = means.shape[axis]
            starts = np.arange(0, side, factor)
            counts = np.diff(np.append(starts, side)).astype(means.dtype)
            means = np.add.reduceat(means, starts, axis=axis) / (counts[:, None] if axis == 1 else counts)
    return means


def legible(maps: Numbers, columns: int, side: int = MOST_SIDE) -> Numbers:
    """Maps of a size that can be seen, larger where they are few, on a sheet of at most `side` pixels.

    Args:
        maps: [K, h, w].
        columns: tiles in a row of the sheet.
        side: the most pixels of the sheet's height and width, labels included.
    """
    rows = math.ceil(len(maps) / columns)
    room = (side // rows - GUTTER - LABEL_HEIGHT, side // columns - GUTTER)
    maps = shrink(maps, (max(1, room[0]), max(1, room[1])))
    # Whole repeats overshoot by less than the map's own side, so half the room is safe to ask for.
    return enlarge(maps, min(least_side(max(maps.shape[1:3]), rows, columns), min(room) // 2))


def least_side(longest: int, rows: int, columns: int, floor: int = LEAST_TILE) -> int:
    """Pixels that the longer side of a tile should have: more on a sheet of few tiles."""
    wanted = min(MOST_TILE, SHEET // max(rows, columns))
    return max(floor, longest * round(wanted / longest))


def columns_for(count: int, height: int, width: int) -> int:
    """Columns of a nearly square sheet of `count` tiles of this size."""
    return near_square(count, min(MOST_ASPECT, max(1 / MOST_ASPECT, width / height)))[1]


def tile(
    tiles: Pixels,
    columns: int | None = None,
    gutter: int = GUTTER,
    labels: Sequence[str] | None = None,
) -> Pixels:
    """Lay tiles on one sheet, row by row, with a gutter around each.

    Args:
        tiles: uint8 [K, h, w, 3].
        columns: tiles in a row; None makes the sheet nearly square.
        gutter: pixels between tiles and around the sheet.
        labels: one short text under each tile; left out where the widest does not fit.

    Returns:
        uint8 [H, W, 3]; whatever no tile covers has the colour BACKGROUND.
    """
    count, height, width = tiles.shape[:3]
    if columns is None:
        columns = columns_for(count, height, width)
    rows = math.ceil(count / columns)
    if labels is not None and not labels_fit(labels, width):
        labels = None
    down = height + gutter + (LABEL_HEIGHT if labels is not None else 0)
    across = width + gutter
    cells = np.full((rows * columns, down, across, 3), BACKGROUND, np.uint8)
    cells[:count, :height, :width] = tiles
    sheet = np.full((rows * down + gutter, columns * across + gutter, 3), BACKGROUND, np.uint8)
    sheet[gutter:, gutter:] = (
        cells.reshape(rows, columns, down, across, 3).swapaxes(1, 2).reshape(rows * down, columns * across, 3)
    )
    if labels is None:
        return sheet
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    for index, label in enumerate(labels):
        row, column = divmod(index, columns)
        corner = (gutter + column * across + width / 2, gutter + row * down + height)
        pen.text(corner, drawable(label), fill=INK, font=font(LABEL_SIZE), anchor="ma")
    return np.asarray(picture)


def labels_fit(labels: Sequence[str], width: int) -> bool:
    """Whether the widest label fits under a tile of this width."""
    return max(width_of(label, LABEL_SIZE) for label in labels) <= width
