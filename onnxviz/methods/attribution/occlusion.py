"""Occlusion: what the score loses where a window covers the picture."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from onnxviz.errors import SelectorError
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.masking import Array, by_picture, masked_values
from onnxviz.methods.attribution.method import Maps, Method
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track


def occlusion(
    question: Question,
    _layers: Sequence[Layer],
    *,
    window: float = 0.2,
    stride: float = 0.1,
    baseline: str = "grey",
) -> Maps:
    """S(x) - S(x with a window covered), at each pixel the mean over the windows that cover it.

    Zeiler & Fergus 2014, section 4.2. The last windows are cut at the edge, so that every pixel is covered.

    Args:
        question: What is asked.
        window: The window's side: pixels, or below 1 a share of the picture's sides.
        stride: The way from one window to the next, likewise.
        baseline: What covers: a colour, "mean" or "blur" of the picture, or "zero" in the model's own
        numbers.

    Raises:
        SelectorError: The window or the stride is not positive, or the stride leaves pixels uncovered.
    """
    if window <= 0 or stride <= 0:
        raise SelectorError(f"occlusion: window {window:g} and stride {stride:g} must be above 0")
    size = question.query.input_size
    places = list(_windows(size, window, stride))
    maps: dict[int, Array] = {}
    values = question.values()
    for numbers in by_picture(question).values():
        lost, covered = np.zeros((len(numbers), *size)), np.zeros(size)
        blocks = track(list(batches(len(places), AT_ONCE)), "occlusion")
        masks = (np.stack([_without(size, place) for place in places[i:j]]) for i, j in blocks)
        at = iter(places)
        for _, scores in masked_values(question, numbers, masks, baseline):
            for row in scores:
                place = next(at)
                lost[(slice(None), *place)] += (values[numbers] - row)[:, None, None]
                covered[place] += 1
        maps |= {number: one / covered for number, one in zip(numbers, lost, strict=True)}
    return Maps([maps[number] for number in range(len(question))])


def _windows(size: tuple[int, int], window: float, stride: float) -> Iterator[tuple[slice, slice]]:
    """The windows from left to right and top to bottom.

    Raises:
        SelectorError: The stride is above the window.
    """
    starts, sides = [], []
    for length in size:
        side, step = (max(1, round(one * length if one < 1 else one)) for one in (window, stride))
        count = math.ceil(max(0, length - side) / step) + 1
        if count > 1 and step > side:
            raise SelectorError(
                f"occlusion: a stride of {step} pixels leaves some that no window of {side} covers; "
                "give one that is not above the window"
            )
        starts.append([number * step for number in range(count)])
        sides.append(side)
    for top in starts[0]:
        for left in starts[1]:
            yield slice(top, top + sides[0]), slice(left, left + sides[1])


def _without(size: tuple[int, int], place: tuple[slice, slice]) -> Array:
    mask = np.ones(size)
    mask[place] = 0
    return mask


OCCLUSION = Method(
    "occlusion",
    occlusion,
    "pixels",
    "S(x) - S(x with a window covered), the mean over the windows that cover a pixel",
    "1 F for each window (121 by default)",
    "Zeiler & Fergus 2014, arXiv:1311.2901",
)
