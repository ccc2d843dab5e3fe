"""Pictures of unequal size set beside and below each other on white."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from onnxviz.views.colors import Pixels
from onnxviz.views.text import NOTE_SIZE, blank, paragraph, wrap

GAP = 12


def beside(images: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Pictures from left to right, their upper edges in one line."""
    height = max(image.shape[0] for image in images)
    sheet = blank(height, sum(image.shape[1] for image in images) + gap * (len(images) - 1))
    left = 0
    for image in images:
        sheet[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + gap
    return sheet


def stack(images: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Pictures from top to bottom, their left edges in one line."""
    return beside([image.swapaxes(0, 1) for image in images], gap).swapaxes(0, 1)


def panels(images: Sequence[Pixels], titles: Sequence[str], gap: int = GAP) -> Pixels:
    """Pictures side by side, each under a centred title of at most two lines that keeps to its width."""
    wrapped = [
        wrap(title, image.shape[1], NOTE_SIZE, most=2) for image, title in zip(images, titles, strict=True)
    ]
    most = max(map(len, wrapped))
    columns = [
        stack(
            [paragraph([""] * (most - len(lines)) + lines, image.shape[1], NOTE_SIZE, centred=True), image],
            gap=2,
        )
        for image, lines in zip(images, wrapped, strict=True)
    ]
    return beside(columns, gap)


def panel(image: Pixels, title: str) -> Pixels:
    """A picture under a short centred title."""
    return panels([image], [title])


def resize(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture at another size (height, width): bilinear as Pillow does it."""
    height, width = size
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def fit(picture: Pixels, longest: int) -> Pixels:
    """The picture with its longer side at `longest` pixels at most, its proportions kept; never enlarged."""
    side = max(picture.shape[:2])
    if side <= longest:
        return picture
    height, width = (max(1, round(edge * longest / side)) for edge in picture.shape[:2])
    return resize(picture, (height, width))
