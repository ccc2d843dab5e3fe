"""Finite differences, planned as batches: for graphs that hold an operator without a rule.

Grad-CAM asks only for the spatial mean of the gradient of each channel, which is one directional
derivative: the score's answer to a small step of the whole channel, by central differences.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

STEP, HALF_STEP = 0.001, 0.1
"""The step in standard deviations of the layer: small enough for kinks, large enough for rounding.

Of the steps tried these have the best worst case (docs/decisions/007-step.md); the second is for half floats.
"""


@dataclass(frozen=True)
class Steps:
    """Copies of one activation, each with one channel moved up or down by `size`.

    `copies` is [2K, ...]: for each of the channels first up, then down.
    """

    channels: range
    copies: npt.NDArray[Any]
    size: float

    def derivatives(self, scores: npt.NDArray[Any], places: int) -> npt.NDArray[np.float64]:
        """The mean of the gradient over each channel's places; `scores` are those of the copies, [2K]."""
        up, down = scores.astype(np.float64).reshape(-1, 2).T
        return np.asarray((up - down) / (2 * self.size * places), np.float64)


def channel_steps(activation: npt.NDArray[Any], axis: int, copies: int) -> Iterator[Steps]:
    """Plan the runs that tell the gradient of every channel.

    Args:
        activation: [1, ...], one picture's.
        axis: The axis of channels.
        copies: How many copies may be run at once; at least two are.
    """
    spread = float(np.std(activation.astype(np.float64)))
    step = HALF_STEP if activation.dtype.itemsize == 2 else STEP
    size = step * spread if spread > 0 and np.isfinite(spread) else step
    count = activation.shape[axis]
    at_once = max(1, copies // 2)
    for start in range(0, count, at_once):
        channels = range(start, min(start + at_once, count))
        moved = np.repeat(activation, 2 * len(channels), axis=0)
        for row, channel in enumerate(channels):
            place: list[Any] = [slice(None)] * activation.ndim
            place[axis] = channel
            for side, sign in enumerate((1, -1)):
                place[0] = 2 * row + side
                moved[tuple(place)] += np.asarray(sign * size, activation.dtype)
        yield Steps(channels, moved, size)
