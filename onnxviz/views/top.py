"""The strongest patches of channels and their projections: many channels on a sheet, or one on a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from onnxviz.views.colors import Color, Numbers, Pixels
from onnxviz.views.grids import enlarge, near_square, tile
from onnxviz.views.heatmaps import Box
from onnxviz.views.layout import beside, fit, panel, panels, stack
from onnxviz.views.projections import FRAME, centred
from onnxviz.views.text import FAINT, INK, NOTE_SIZE, blank, caption, font, number, paragraph

_TILES = ((1, 128), (4, 96), (16, 64), (36, 48))
_LEAST_TILE = 36
_PAGE_TILE = 112
_BAR: Color = (70, 110, 160)
_PLOT = (150, 520)
_EMPTY: Color = (128, 128, 128)


@dataclass(frozen=True)
class ChannelView:
    """One channel to draw.

    Attributes:
        title: above it.
        patches: uint8 [k, h, w, 3], what its strongest units see, the strongest first.
        projections: float [h, w, 3] each, signed; None for a unit without one. None: none are drawn.
    """

    title: str
    patches: Pixels
    projections: Sequence[Numbers | None] | None


@dataclass(frozen=True)
class PageView:
    """What a page about one channel shows beside its patches.

    Attributes:
        labels: one short text for each patch.
        pictures: uint8 [H, W, 3] each, the whole pictures as the model sees them.
        fields: left, top, right, bottom of each patch in its picture.
        bars: [n], how many activations fall into each of equal parts of the range.
        ends: where the range begins and ends.
        lines: the statistics, in words.
        synthetic: uint8 [h, w, 3], a picture made to excite the channel; None: there is none.
    """

    labels: Sequence[str]
    pictures: Sequence[Pixels]
    fields: Sequence[Box]
    bars: npt.NDArray[np.float64]
    ends: tuple[float, float]
    lines: Sequence[str]
    synthetic: Pixels | None = None


def top_sheet(channels: Sequence[ChannelView], title: str, note: str = "") -> Pixels:
    """For each channel a block of patches, and beside it the block of their projections.

    Args:
        channels: at least one.
        title: above the sheet.
        note: a smaller line under the title.
    """
    side = next((size for most, size in _TILES if len(channels) <= most), _LEAST_TILE)
    blocks = [_blocks(channel, side) for channel in channels]
    height, width = blocks[0].shape[:2]
    columns = near_square(len(channels), width / height)[1]
    titles = [channel.title for channel in channels]
    lines = [
        panels(blocks[start : start + columns], titles[start : start + columns], gap=20)
        for start in range(0, len(channels), columns)
    ]
    return caption(stack(lines, gap=14), title, note)


def channel_page(channel: ChannelView, page: PageView, title: str, note: str = "") -> Pixels:
    """One channel: its patches, their projections, the pictures that they are cut from, and its statistics.

    Args:
        channel: what the sheet shows of it.
        page: what the page shows beside.
        title: above the page.
        note: a smaller line under the title.
    """
    columns = _columns(len(channel.patches))
    framed = [_framed(*pair) for pair in zip(page.pictures, page.fields, strict=True)]
    parts = [
        ("strongest patches", tile(_sized(channel.patches, _PAGE_TILE), columns, 4, page.labels)),
        *(
            []
            if channel.projections is None
            else [("their projections", tile(_projected(channel, _PAGE_TILE), columns, 4, page.labels))]
        ),
        ("where they are", tile(_sized(framed, _PAGE_TILE), columns, 4)),
        *([] if page.synthetic is None else [("synthetic", fit(page.synthetic, 3 * _PAGE_TILE))]),
    ]
    titles, pictures = zip(*parts, strict=True)
    words = paragraph(page.lines, 420, NOTE_SIZE, INK)
    below = beside([panel(_plot(page.bars, page.ends), "activations (share, log scale)"), words], gap=28)
    return caption(stack([panels(pictures, titles, gap=20), below], gap=20), title, note)


def _blocks(channel: ChannelView, side: int) -> Pixels:
    columns = _columns(len(channel.patches))
    blocks = [tile(_sized(channel.patches, side), columns)]
    if channel.projections is not None:
        blocks.append(tile(_projected(channel, side), columns))
    return beside(blocks, gap=4)


def _columns(count: int) -> int:
    return math.ceil(math.sqrt(count))


def _projected(channel: ChannelView, side: int) -> Pixels:
    """The projections; mid-grey, which is zero, for a unit without one."""
    assert channel.projections is not None
    nothing = np.full_like(channel.patches[0], _EMPTY[0])
    return _sized([nothing if each is None else centred(each) for each in channel.projections], side)


def _sized(pictures: Sequence[Pixels] | Pixels, side: int) -> Pixels:
    """Pictures of one size with their longer side at `side`; small ones in repeated pixels."""
    return np.stack([fit(enlarge(picture[None], side)[0], side) for picture in pictures])


def _framed(picture: Pixels, field: Box) -> Pixels:
    """A picture with a frame around a field, as thick as shows in a small tile."""
    framed = Image.fromarray(picture)
    thick = max(1, round(max(picture.shape[:2]) / 100))
    left, top, right, bottom = field
    ImageDraw.Draw(framed).rectangle((left, top, right - 1, bottom - 1), outline=FRAME, width=thick)
    return np.asarray(framed)


def _plot(counts: npt.NDArray[np.float64], ends: tuple[float, float]) -> Pixels:
    """Bars of counts on a logarithmic scale, which ends at the largest and at one count."""
    height, width = _PLOT
    step = math.ceil(NOTE_SIZE * 1.35)
    most = max(counts.max(initial=0), 2.0)
    tall = np.rint(np.log(np.maximum(counts, 1)) / math.log(most) * (height - 1)).astype(int) + (counts > 0)
    sheet = blank(height + 4 + step, width)
    across = np.arange(width) * len(counts) // width
    rows = np.arange(height)[::-1, None]
    sheet[:height][rows < tall[across]] = _BAR
    sheet[height] = FAINT
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    low, high = ends
    line = height + 4 + step / 2
    pen.text((0, line), number(low), fill=INK, font=font(NOTE_SIZE), anchor="lm")
    pen.text((width, line), number(high), fill=INK, font=font(NOTE_SIZE), anchor="rm")
    if low < 0 < high:
        zero = -low / (high - low) * width
        pen.line([(zero, 0), (zero, height + 3)], fill=FAINT)
        if 60 < zero < width - 60:
            pen.text((zero, line), "0", fill=INK, font=font(NOTE_SIZE), anchor="mm")
    return np.asarray(picture)
