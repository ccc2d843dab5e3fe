"""Photographs with maps on them: channels of a layer, explanations, and explanations that came out empty."""

import math
from collections.abc import Sequence

from onnxviz.views.colors import HEAT, Limits, Numbers, Pixels, Scale, nonfinite, paint, suited
from onnxviz.views.figures import check_maps, chosen_limits, joined, remarks, scale_note, spanned, with_bar
from onnxviz.views.heatmaps import ALPHA, Box, heat, mosaic, overlay, place, resample, tint
from onnxviz.views.layout import beside, fit, panel, panels, stack
from onnxviz.views.text import TITLE_SIZE, caption, paragraph, wrap

PHOTO = 400
THUMB = 260
LEAST_PHOTO = 160
LINE_SIZE = 13


def channels_on_picture(
    picture: Pixels,
    maps: Numbers,
    channels: Sequence[int],
    box: Box,
    title: str,
    note: str = "",
    scale: Scale = "channel",
    colormap: str | None = None,
    limits: Limits | Sequence[Limits] | None = None,
    alpha: float = 0.8,
) -> Pixels:
    """For each channel the picture, the map in its own cells, and the map laid over the picture.

    Args:
        picture: uint8 [H, W, 3].
        maps: [K, h, w], any dtype.
        channels: the number of each map's channel.
        box: left, top, right, bottom in the picture's pixels: the region that fills the model's input.
        title: above the figure.
        note: a smaller line under the title.
        scale: see `limits_of`.
        colormap: a matplotlib name; None chooses by sign.
        limits: one pair, or one per channel; None finds them by `scale`.
        alpha: opacity of the strongest values on the picture, in [0, 1].

    Raises:
        SelectorError: no such colormap or scale.
        ShapeError: the maps are not [K, h, w] with one channel number each.
    """
    check_maps(maps, channels)
    pairs = chosen_limits(maps, scale, limits)
    name = suited(pairs, scale) if colormap is None else colormap
    photo = _shown(picture, THUMB)
    size = photo.shape[:2]
    down, across = (new / old for new, old in zip(size, picture.shape[:2], strict=True))
    region = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    groups = []
    for index, channel in enumerate(channels):
        pair = pairs[index if len(pairs) > 1 else 0]
        cells = mosaic(paint(maps[index : index + 1], colormap=name, limits=pair)[0], region, size)
        hues = tint(photo, place(maps[index], region, size), pair, name, alpha)
        said = joined(f"channel {channel}", spanned(pair) if len(pairs) > 1 else "")
        groups.append(panel(beside([photo, cells, hues], gap=4), said))
    per_row = 1 if len(groups) < 4 else 2
    rows = [beside(groups[i : i + per_row], gap=24) for i in range(0, len(groups), per_row)]
    return caption(with_bar(stack(rows), pairs, name), title, joined(note, scale_note(scale), *remarks(maps)))


def explanation(
    picture: Pixels,
    heatmap: Numbers,
    title: str,
    lines: Sequence[str] = (),
    note: str = "",
    colormap: str = HEAT,
    alpha: float = ALPHA,
) -> Pixels:
    """The photograph, the heatmap laid over it and the heatmap alone, with lines of text under them.

    A heatmap that is zero everywhere, or holds values that are not finite, is not painted: the photograph is
    shown with the reason.

    Args:
        picture: uint8 [H, W, 3].
        heatmap: [H, W] in [0, 1], on the picture (see `place`).
        title: above the figure.
        lines: under the figure, such as the five likeliest classes.
        note: a smaller line under the title.
        colormap: a matplotlib name.
        alpha: opacity of the hottest pixels, in [0, 1].

    Raises:
        SelectorError: no such colormap.
    """
    if broken := nonfinite(heatmap):
        return empty_map(picture, f"{broken} of its {heatmap.size} values are not finite", title, lines, note)
    if not heatmap.any():
        return empty_map(picture, "it is zero everywhere", title, lines, note)
    photo = _shown(picture, PHOTO)
    warm = resample(heatmap, photo.shape[:2])
    pictures = [photo, overlay(photo, warm, colormap, alpha), heat(warm, colormap)]
    return caption(_with_lines(panels(pictures, ["picture", "overlay", "heat"]), lines), title, note)


def empty_map(picture: Pixels, reason: str, title: str, lines: Sequence[str] = (), note: str = "") -> Pixels:
    """The photograph with the reason why there is no map to lay over it, in words."""
    photo = _shown(picture, PHOTO)
    said = wrap(f"No map: {reason}", PHOTO, TITLE_SIZE)
    return caption(_with_lines(beside([photo, paragraph(said, PHOTO, TITLE_SIZE)]), lines), title, note)


def _shown(picture: Pixels, longest: int) -> Pixels:
    """A photograph of a size to look at; a tiny one in repeated pixels."""
    times = math.ceil(LEAST_PHOTO / max(picture.shape[:2]))
    return fit(picture.repeat(times, axis=0).repeat(times, axis=1), longest)


def _with_lines(body: Pixels, lines: Sequence[str]) -> Pixels:
    if not lines:
        return body
    width = max(body.shape[1], PHOTO)
    wrapped = [part for line in lines for part in wrap(line, width, LINE_SIZE)]
    return stack([body, paragraph(wrapped, width, LINE_SIZE)])
