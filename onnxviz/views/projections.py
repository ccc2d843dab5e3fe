"""Units on one sheet: what each saw, what of it excited it, and where its channel is active."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from onnxviz.views.colors import BACKGROUND, Color, Limits, Numbers, Pixels, limits_of, suited
from onnxviz.views.grids import near_square
from onnxviz.views.heatmaps import Box, place, tint
from onnxviz.views.layout import beside, panels, resize, stack
from onnxviz.views.text import NOTE_SIZE, caption, paragraph, wrap

FRAME: Color = (255, 255, 255)
_TILES = ((9, 168), (36, 112), (144, 80))
_LEAST_TILE = 64
_GAP = 4
_MOST = 99
_LEAST_FRAME = 2


@dataclass(frozen=True)
class UnitView:
    """One unit to draw.

    Attributes:
        title: above it.
        patch: uint8 [h, w, 3], what the unit sees.
        projection: float [h, w, 3], signed; None where there is nothing to draw.
        reason: why there is nothing to draw.
        picture: uint8 [H, W, 3], the whole picture as the model sees it.
        activation: [r, c], the map of the unit's channel.
        field: left, top, right, bottom of the patch in the picture.
    """

    title: str
    patch: Pixels
    projection: Numbers | None
    reason: str
    picture: Pixels
    activation: Numbers
    field: Box


def centred(projection: Numbers) -> Pixels:
    """A signed picture [h, w, 3] in colours: zero is mid-grey, and both signs are as far from it.

    A projection is nothing but a few strong pixels where maxima were pooled on the way: the scale ends at the
    99th percentile of the magnitudes that are not zero, so that the others are seen too.
    """
    sizes = np.abs(projection[projection != 0])
    bound = float(np.percentile(sizes, _MOST)) if sizes.size else 1.0
    shown: Pixels = np.rint(128 + 127 * np.clip(projection / bound, -1, 1)).astype(np.uint8)
    return shown


def projection_sheet(
    units: Sequence[UnitView], title: str, note: str = "", colormap: str | None = None, alpha: float = 0.8
) -> Pixels:
    """For each unit its patch, its projection, and its channel's map on the picture with the field framed.

    Args:
        units: at least one.
        title: above the sheet.
        note: a smaller line under the title.
        colormap: a matplotlib name; None chooses by the maps' sign.
        alpha: opacity of the strongest activations on the picture, in [0, 1].

    Raises:
        SelectorError: no such colormap.
    """
    side = next((size for most, size in _TILES if len(units) <= most), _LEAST_TILE)
    rows, columns = near_square(len(units), aspect=3)
    limits = limits_of(np.stack([unit.activation for unit in units]), "channel")
    colors = suited(limits, "channel") if colormap is None else colormap
    groups = [_group(unit, side, pair, colors, alpha) for unit, pair in zip(units, limits, strict=True)]
    titles = [unit.title for unit in units]
    lines = [
        panels(groups[start : start + columns], titles[start : start + columns], gap=20)
        for start in range(0, rows * columns, columns)
        if start < len(units)
    ]
    return caption(stack(lines, gap=14), title, note)


def _group(unit: UnitView, side: int, limits: Limits, colormap: str, alpha: float) -> Pixels:
    patch = _fitted(unit.patch, side)
    if unit.projection is None:
        second = _said(unit.reason, patch.shape[:2])
    else:
        second = _fitted(centred(unit.projection), side)
    return beside([patch, second, _located(unit, side, limits, colormap, alpha)], gap=_GAP)


def _located(unit: UnitView, side: int, limits: Limits, colormap: str, alpha: float) -> Pixels:
    """The channel's map laid over the picture, and a frame around the unit's field."""
    photo = _fitted(unit.picture, side)
    height, width = photo.shape[:2]
    over = photo
    if unit.activation.size > 1:  # a single number says nothing of where
        whole = (0, 0, width, height)
        over = tint(photo, place(unit.activation, whole, (height, width)), limits, colormap, alpha)
    down, across = height / unit.picture.shape[0], width / unit.picture.shape[1]
    left, top, right, bottom = unit.field
    framed = Image.fromarray(over)
    # Drawn beyond the picture where the field is, so that no false edge shows.
    x, y = left * across, top * down
    corners = (x, y, max(x + _LEAST_FRAME, right * across - 1), max(y + _LEAST_FRAME, bottom * down - 1))
    ImageDraw.Draw(framed).rectangle(corners, outline=FRAME)
    return np.asarray(framed)


def _fitted(picture: Pixels, side: int) -> Pixels:
    """The picture with its longer side at `side` pixels; a small one in repeated pixels."""
    longest = max(picture.shape[:2])
    height, width = (max(1, round(edge * side / longest)) for edge in picture.shape[:2])
    if longest * 2 > side:
        return resize(picture, (height, width))
    rows, columns = (
        np.arange(new) * old // new for new, old in zip((height, width), picture.shape, strict=False)
    )
    return picture[np.ix_(rows, columns)]


def _said(text: str, size: tuple[int, int]) -> Pixels:
    """Words in place of a picture."""
    height, width = size
    tile = np.full((height, width, 3), BACKGROUND, np.uint8)
    lines = wrap(text, width - 2 * _GAP, NOTE_SIZE)
    words = paragraph(lines, width - 2 * _GAP, NOTE_SIZE)[: height - 2 * _GAP]
    tile[_GAP : _GAP + len(words), _GAP : width - _GAP] = np.minimum(words, BACKGROUND[0])
    return tile
