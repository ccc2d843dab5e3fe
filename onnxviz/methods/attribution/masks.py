"""What the masks of Score-CAM's kin are made of, in Python and in graphs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError


def counted(number: int) -> int:
    """A count that a user gave.

    Raises:
        SelectorError: It is below 1.
    """
    if number < 1:
        raise SelectorError(f"channels, samples and steps are counts, and {number} is none; give 1 or more")
    return number


def noise_of(seed: int, channel: int, turn: int, shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Standard normal noise for one mask, whichever others are made beside it."""
    return np.random.default_rng([seed, channel, turn]).standard_normal(tuple(shape))


def shares_of(steps: int, cumulative: bool) -> npt.NDArray[np.float64]:
    """What IS-CAM multiplies a mask by at each step: i / N, or the sum of these up to i."""
    shares = np.arange(1, steps + 1) / steps
    return np.asarray(np.cumsum(shares) if cumulative else shares)
