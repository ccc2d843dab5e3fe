"""Words on pictures: the font that matplotlib brings, lines that fit, captions and colour bars."""

import math
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from onnxviz.views.colors import Color, Pixels, table

INK: Color = (30, 30, 30)
FAINT: Color = (95, 95, 95)
TITLE_SIZE = 16
NOTE_SIZE = 12
MARGIN = 10
LEAST_WIDTH = 480
LEAST_BAR = 200
BAR_HEIGHT = 12


def _font_file() -> str:
    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at this many pixels; it comes with matplotlib, so every machine draws the same letters."""
    return ImageFont.truetype(_font_file(), size)


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(_font_file()).get_charmap())


def drawable(text: str) -> str:
    """The text in letters that the font has: others as their code, `\\u732b`, so that names stay apart."""
    spaced = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in text)
    return "".join(
        letter if ord(letter) in _letters() else letter.encode("unicode_escape").decode() for letter in spaced
    )


def width_of(text: str, size: int) -> int:
    """Pixels that a line of text takes."""
    return math.ceil(font(size).getlength(drawable(text)))


def elide(text: str, width: int, size: int) -> str:
    """The text, or its beginning and end around an ellipsis, in a line of at most `width` pixels."""
    if width_of(text, size) <= width:
        return text
    kept = _longest(len(text), lambda n: width_of(_around(text, n), size) <= width)
    return _around(text, kept)


def _around(text: str, kept: int) -> str:
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def wrap(text: str, width: int, size: int, most: int | None = None) -> list[str]:
    """The text in lines of at most `width` pixels, broken at blanks, else after / . _ -, else anywhere.

    Args:
        text: any text; letters that the font lacks count as drawn.
        width: pixels.
        size: of the font, pixels.
        most: lines; the last one is elided. None gives as many as it takes.
    """
    rest = drawable(text).strip()
    lines: list[str] = []
    while rest:
        if width_of(rest, size) <= width or (most is not None and len(lines) == most - 1):
            return [*lines, elide(rest, width, size)]
        fits = max(1, _longest(len(rest), partial(_fits, rest, width, size)))
        cut = rest.rfind(" ", 1, fits + 1)
        if cut < 0:
            cut = 1 + max(rest.rfind(mark, 0, fits) for mark in "/._-")
        cut = cut if cut > 0 else fits
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines


def _fits(text: str, width: int, size: int, kept: int) -> bool:
    return width_of(text[:kept], size) <= width


def _longest(most: int, fits: Callable[[int], bool]) -> int:
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def blank(height: int, width: int) -> Pixels:
    """A white sheet."""
    return np.full((height, width, 3), 255, np.uint8)


def paragraph(
    lines: Sequence[str], width: int, size: int, color: Color = INK, centred: bool = False
) -> Pixels:
    """Lines of text on white; lines longer than `width` are elided."""
    step = math.ceil(size * 1.35)
    picture = Image.fromarray(blank(step * len(lines), width))
    pen = ImageDraw.Draw(picture)
    for index, line in enumerate(lines):
        corner = (width / 2 if centred else 0, index * step + step / 2)
        text = drawable(elide(line, width, size))
        pen.text(corner, text, fill=color, font=font(size), anchor="mm" if centred else "lm")
    return np.asarray(picture)


def caption(image: Pixels, title: str, note: str = "") -> Pixels:
    """A picture on a white page with a title above it, and a smaller note that is wrapped and never cut.

    The page is at least LEAST_WIDTH pixels wide; a title longer than two lines is elided.
    """
    width = max(image.shape[1], LEAST_WIDTH)
    body = blank(image.shape[0], width)
    body[:, : image.shape[1]] = image
    parts = [
        paragraph(wrap(title, width, TITLE_SIZE, most=2), width, TITLE_SIZE),
        *([paragraph(wrap(note, width, NOTE_SIZE), width, NOTE_SIZE, FAINT)] if note else []),
        blank(MARGIN // 2, width),
        body,
    ]
    return np.pad(np.vstack(parts), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=255)


def number(value: float) -> str:
    """A number in at most three significant digits."""
    return f"{value + 0.0:.3g}"


def colorbar(colormap: str, low: float, high: float, width: int) -> Pixels:
    """A horizontal colour bar, its ends in numbers under it, and a mark at 0 where they differ in sign.

    Args:
        colormap: a matplotlib name.
        low: the number of the first colour.
        high: the number of the last colour.
        width: pixels; never below LEAST_BAR, so that the numbers do not touch.
    """
    width = max(width, LEAST_BAR)
    step = math.ceil(NOTE_SIZE * 1.35)
    sheet = blank(BAR_HEIGHT + 3 + step, width)
    sheet[:BAR_HEIGHT] = table(colormap)[np.rint(np.linspace(0, 255, width)).astype(int)]
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    ends, line = (number(low), number(high)), BAR_HEIGHT + 3 + step / 2
    pen.text((0, line), ends[0], fill=INK, font=font(NOTE_SIZE), anchor="lm")
    pen.text((width, line), ends[1], fill=INK, font=font(NOTE_SIZE), anchor="rm")
    if low < 0 < high:
        zero = -low / (high - low) * (width - 1)
        pen.line([(zero, BAR_HEIGHT), (zero, BAR_HEIGHT + 3)], fill=INK)
        left, right = (width_of(end, NOTE_SIZE) + MARGIN for end in ends)
        if left < zero < width - right:
            pen.text((zero, line), "0", fill=INK, font=font(NOTE_SIZE), anchor="mm")
    return np.asarray(picture)
