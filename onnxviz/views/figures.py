"""The sheets of maps that commands write: one layer, several pictures, every layer."""

from collections.abc import Sequence

import numpy as np

from onnxviz.errors import ShapeError
from onnxviz.views.colors import (
    Limits,
    Numbers,
    Pixels,
    Scale,
    limits_of,
    nonfinite,
    paint,
    suited,
)
from onnxviz.views.grids import MOST_ASPECT, MOST_SIDE, columns_for, legible, near_square, tile
from onnxviz.views.heatmaps import mosaic, resample
from onnxviz.views.layout import beside, panels, stack
from onnxviz.views.text import FAINT, NOTE_SIZE, caption, colorbar, number, paragraph, wrap

BAR_WIDTH = 320
THUMB = 144
_SCALE_NOTES = {
    "layer": "",
    "channel": "each channel on its own scale, up to its own maximum",
    "std": "each channel on its own scale, mean ± 2 standard deviations",
}


def feature_grid(
    maps: Numbers,
    channels: Sequence[int],
    title: str,
    note: str = "",
    scale: Scale = "layer",
    colormap: str | None = None,
    limits: Limits | Sequence[Limits] | None = None,
) -> Pixels:
    """The feature maps of one layer on one sheet, each with its channel's number, and a colour bar.

    Args:
        maps: [K, h, w], any dtype.
        channels: the number of each map's channel.
        title: above the sheet.
        note: a smaller line under the title.
        scale: see `limits_of`.
        colormap: a matplotlib name; None chooses by sign.
        limits: one pair, or one per channel; None finds them by `scale`.

    Raises:
        SelectorError: no such colormap or scale.
        ShapeError: the maps are not [K, h, w] with one channel number each.
    """
    check_maps(maps, channels)
    pairs = chosen_limits(maps, scale, limits)
    name = suited(pairs, scale) if colormap is None else colormap
    columns = columns_for(len(maps), *maps.shape[1:])
    sheet = _sheet(maps, channels, pairs, name, columns, MOST_SIDE)
    return caption(with_bar(sheet, pairs, name), title, joined(note, scale_note(scale), *remarks(maps)))


def compare_grid(
    columns: Sequence[tuple[str, Numbers]],
    channels: Sequence[int],
    title: str,
    note: str = "",
    scale: Scale = "layer",
    colormap: str | None = None,
) -> Pixels:
    """The same channels for several pictures, one sheet beside the other, all in the same limits.

    Args:
        columns: a name and maps [K, h, w] per picture; h and w may differ.
        channels: the number of each map's channel.
        title: above the sheets.
        note: a smaller line under the title.
        scale: see `limits_of`; the limits are those of all pictures together.
        colormap: a matplotlib name; None chooses by sign.

    Raises:
        SelectorError: no such colormap or scale.
        ShapeError: the maps are not [K, h, w] with one channel number each.
    """
    for _, maps in columns:
        check_maps(maps, channels)
    together = np.concatenate([maps.reshape(len(maps), 1, -1) for _, maps in columns], axis=2)
    pairs = limits_of(together, scale)
    colors = suited(pairs, scale) if colormap is None else colormap
    height, width = columns[0][1].shape[1:]
    across = columns_for(len(channels), height, width * len(columns))
    side = MOST_SIDE // len(columns)
    sheets = [_sheet(maps, channels, pairs, colors, across, side) for _, maps in columns]
    notes = [f"{name}: {remark}" for name, maps in columns for remark in remarks(maps)]
    body = panels(sheets, [name for name, _ in columns], gap=24)
    return caption(with_bar(body, pairs, colors), title, joined(note, scale_note(scale), *notes))


def strip(
    rows: Sequence[tuple[str, Numbers]], title: str, note: str = "", colormap: str | None = None
) -> Pixels:
    """One channel of every layer, in the order of the model; each map in its own limits.

    Args:
        rows: a layer's name and a map [h, w] each.
        title: above the strip.
        note: a smaller line under the title.
        colormap: a matplotlib name; None chooses by each map's sign.

    Raises:
        SelectorError: no such colormap.
    """
    cells = [_thumb(name, values, colormap) for name, values in rows]
    across = near_square(len(cells))[1]
    lines = [beside(cells[start : start + across], gap=16) for start in range(0, len(cells), across)]
    return caption(stack(lines, gap=16), title, note)


def _thumb(name: str, values: Numbers, colormap: str | None) -> Pixels:
    (pair,) = limits_of(values[None])
    longest = max(values.shape)
    height, width = (max(THUMB // MOST_ASPECT, side * THUMB // longest) for side in values.shape)
    size = (height, width)
    if longest > THUMB // 2:
        picture = paint(resample(values, size)[None], colormap=colormap, limits=pair)[0]
    else:
        picture = mosaic(paint(values[None], colormap=colormap, limits=pair)[0], (0, 0, width, height), size)
    extent = spanned(pair) if pair.high > 0 else ""
    about = joined(f"{values.shape[0]}×{values.shape[1]}", extent, *remarks(values[None]))
    return stack(
        [
            picture,
            paragraph(wrap(name, THUMB, NOTE_SIZE, most=3), THUMB, NOTE_SIZE),
            paragraph(wrap(about, THUMB, NOTE_SIZE - 1), THUMB, NOTE_SIZE - 1, FAINT),
        ],
        gap=2,
    )


def _sheet(
    maps: Numbers, channels: Sequence[int], pairs: Sequence[Limits], colormap: str, columns: int, side: int
) -> Pixels:
    sized = legible(maps, columns, side)
    return tile(paint(sized, colormap=colormap, limits=pairs), columns, labels=[str(c) for c in channels])


def chosen_limits(
    maps: Numbers, scale: Scale, limits: Limits | Sequence[Limits] | None
) -> tuple[Limits, ...]:
    """The limits that the caller gave, else those of the maps, as one pair or one per map."""
    if limits is None:
        return limits_of(maps, scale)
    return (limits,) if isinstance(limits, Limits) else tuple(limits)


def with_bar(sheet: Pixels, pairs: Sequence[Limits], colormap: str) -> Pixels:
    """A colour bar under the sheet, where one pair of limits holds for all of it."""
    if len(pairs) > 1:
        return sheet
    return stack([sheet, colorbar(colormap, pairs[0].low, pairs[0].high, min(BAR_WIDTH, sheet.shape[1]))])


def remarks(maps: Numbers, noun: str = "channels") -> list[str]:
    """What a reader must be told of a stack [K, ...]: how much of it is not finite, or dead."""
    broken = nonfinite(maps)
    dead = int(np.count_nonzero(~maps.any(axis=tuple(range(1, maps.ndim)))))
    which = f"{dead} of {len(maps)} {noun} are " if len(maps) > 1 else ""
    return [
        *([f"{broken} of {maps.size} values are not finite (magenta)"] if broken else []),
        *([f"{which}zero everywhere"] if dead else []),
    ]


def spanned(pair: Limits) -> str:
    """A pair of limits in short."""
    if pair.signed:
        return f"±{number(pair.high)}"
    return f"{number(pair.low)} … {number(pair.high)}"


def scale_note(scale: Scale) -> str:
    """What a reader must be told of the scale; nothing where a colour bar tells it."""
    return _SCALE_NOTES[scale]


def joined(*notes: str) -> str:
    """One line of those notes that say anything."""
    return " · ".join(note for note in notes if note)


def check_maps(maps: Numbers, channels: Sequence[int]) -> None:
    """Refuse with ShapeError what is not a stack [K, h, w] with K channel numbers."""
    if maps.ndim != 3 or 0 in maps.shape or len(maps) != len(channels):
        raise ShapeError(
            f"a grid needs maps [channel, height, width] with one number per channel; "
            f"got maps {list(maps.shape)} and {len(channels)} numbers"
        )
