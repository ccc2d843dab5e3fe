"""Sheets of synthetic pictures, and the curves of how they came about."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from onnxviz.views.colors import Numbers, Pixels
from onnxviz.views.grids import MOST_SIDE, columns_for, enlarge, least_side, tile
from onnxviz.views.text import FAINT, caption, paragraph, wrap

_LEAST_TILE = 96
_NOTE_SIZE = 12
_MOST_CURVES = 64


def picture_grid(
    images: Pixels,
    labels: Sequence[str],
    title: str,
    note: str = "",
    awake: Sequence[bool] = (),
    columns: int | None = None,
) -> Pixels:
    """Pictures on one sheet, each with a label; those that never woke are said to be so and not drawn.

    Args:
        images: uint8 [K, h, w, 3].
        labels: one short text for each.
        title: above the sheet.
        note: a smaller line under the title.
        awake: whether each one woke; empty: all did.
        columns: tiles in a row; None makes the sheet nearly square.
    """
    count, height, width = images.shape[:3]
    across = columns or columns_for(count, height, width)
    rows = math.ceil(count / across)
    most = min(MOST_SIDE // across, MOST_SIDE // rows) - 20
    tiles = _sized(images, most)
    tiles = enlarge(tiles, least_side(max(tiles.shape[1:3]), rows, across, min(_LEAST_TILE, most)))
    for row, woke in enumerate(awake):
        if not woke:
            tiles[row] = _asleep(tiles.shape[1], tiles.shape[2])
    return caption(tile(tiles, across, labels=labels), title, note)


def curves(losses: Numbers, labels: Sequence[str], title: str) -> Pixels:
    """The objective at each step, a line for each picture.

    Args:
        losses: [K, steps]; NaN where it is not known. Beyond 64 pictures only the median and the range.
        labels: one for each; shown where there are few.
        title: above the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    steps = np.arange(losses.shape[1])
    if len(losses) <= _MOST_CURVES:
        for row, label in zip(losses, labels, strict=True):
            axes.plot(steps, row, linewidth=1.2, label=label)
        if len(losses) <= 10:
            axes.legend(fontsize=8)
    else:
        low, middle, high = np.nanpercentile(losses, (0, 50, 100), axis=0)
        axes.fill_between(steps, low, high, alpha=0.3, label="range")
        axes.plot(steps, middle, label="median")
        axes.legend(fontsize=8)
    axes.set_xlabel("step")
    axes.set_ylabel("objective")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    data.seek(0)
    return np.asarray(Image.open(data).convert("RGB"))


def on_white(image: Pixels, opacity: Numbers) -> Pixels:
    """A picture [h, w, 3] that shows as much as its opacity [h, w] in [0, 1] says, on white."""
    share = opacity[..., None]
    return np.asarray(np.rint(image * share + 255 * (1 - share)), np.uint8)


def _sized(images: Pixels, most: int) -> Pixels:
    """Pictures of at most that many pixels along their longer side."""
    height, width = images.shape[1:3]
    longest = max(height, width)
    if longest <= most:
        return images.copy()
    size = (max(1, width * most // longest), max(1, height * most // longest))
    return np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BOX)) for one in images])


def _asleep(height: int, width: int) -> Pixels:
    """What stands for a picture that never woke: hatching, and the words."""
    y, x = np.mgrid[:height, :width]
    sheet = np.where(((x + y) // 6 % 2)[..., None] == 0, 236, 248).astype(np.uint8).repeat(3, axis=2)
    lines = wrap("never woke", width, _NOTE_SIZE)
    words = paragraph(lines, width, _NOTE_SIZE, FAINT, centred=True)[:height]
    top = (height - len(words)) // 2
    sheet[top : top + len(words)] = np.minimum(sheet[top : top + len(words)], words)
    return np.asarray(sheet, np.uint8)
