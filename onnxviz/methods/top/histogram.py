"""A histogram of any floats in bounded memory, the same however the numbers were divided.

The bins are fixed: each power of two from 2^-32 to 2^32 in 16 equal parts, on both sides of zero, as the
first bits of a float32 say (the division of HdrHistogram; on merging see Masson, Rim & Lee 2019, "DDSketch",
arXiv:1908.10693). So counts add up exactly, and a quantile is off by at most 1/32 of itself. Zero has a bin
of its own, and so have what is nearer to zero than 2^-32, what is beyond 2^32, and what is not finite.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Counts: TypeAlias = npt.NDArray[np.int64]

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""The quantiles that statistics tell."""

_PARTS_BITS = 4
_LOWEST, _HIGHEST = -32, 32
_REGULAR = (_HIGHEST - _LOWEST) << _PARTS_BITS
# Sign, exponent, and the first bits of the fraction.
_SHIFT = 23 - _PARTS_BITS
_KEYS = 1 << (9 + _PARTS_BITS)
_SIDE = _REGULAR + 2  # and the nearer and the farther

ZERO = _SIDE
BINS = 2 * _SIDE + 1
"""The bins of finite numbers, from the smallest; one more counts what is not finite."""


def _table() -> npt.NDArray[np.intp]:
    """The bin of each key: the first bits of a float32."""
    magnitude = np.arange(_KEYS // 2)
    exponent = magnitude >> _PARTS_BITS
    regular = magnitude - ((_LOWEST + 127) << _PARTS_BITS)
    steps = np.clip(regular + 2, 1, _SIDE)
    steps[exponent == 0] = 0  # subnormal numbers are zero to most devices
    bins = np.concatenate([ZERO + steps, ZERO - steps])
    bins[np.tile(exponent == 255, 2)] = BINS
    return bins


def _edges() -> npt.NDArray[np.float64]:
    """Where the bins above zero begin and end, without those beyond 2^32 and nearer than 2^-32."""
    parts = np.arange(_REGULAR + 1)
    within = (parts % (1 << _PARTS_BITS)) / (1 << _PARTS_BITS)
    edges: npt.NDArray[np.float64] = np.ldexp(1 + within, _LOWEST + (parts >> _PARTS_BITS))
    return edges


def _middles() -> npt.NDArray[np.float64]:
    """The number that stands for each bin: its middle."""
    edges = _edges()
    steps = np.concatenate([[edges[0] / 2], (edges[:-1] + edges[1:]) / 2, [edges[-1]]])
    return np.concatenate([-steps[::-1], [0.0], steps])


_BIN_OF = _table()
MIDDLES = _middles()


def empty_counts(channels: int) -> Counts:
    """No numbers yet: int64 [channels, BINS + 1]."""
    return np.zeros((channels, BINS + 1), np.int64)


def count(values: npt.NDArray[np.float32], into: Counts) -> None:
    """Count numbers [N, C, Z] in place, into the rows of their channels [C, BINS + 1]."""
    bins = _BIN_OF[values.view(np.uint32) >> np.uint32(_SHIFT)]
    bins += (np.arange(len(into)) * into.shape[1])[:, None]
    np.add.at(into.reshape(-1), bins.reshape(-1), 1)


def quantiles(counts: Counts, levels: Sequence[float] = LEVELS) -> npt.NDArray[np.float64]:
    """For each channel the numbers that these shares of its finite numbers do not exceed.

    Args:
        counts: [C, BINS + 1].
        levels: in (0, 1].

    Returns:
        float64 [C, levels]: the middle of the bin that holds the number; NaN where nothing was counted.
    """
    sums = counts[:, :BINS].cumsum(axis=1)
    found = np.full((len(counts), len(levels)), np.nan)
    for row, up_to in enumerate(sums):
        if up_to[-1]:
            # Ranks are whole numbers: the least that holds the share, at least the first.
            ranks = np.maximum(1, np.ceil(np.asarray(levels) * up_to[-1]))
            found[row] = MIDDLES[np.searchsorted(up_to, ranks)]
    return found


def bars(counts: Counts, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The finite numbers of one channel in other bins, as if they lay evenly in their own.

    Args:
        counts: [BINS + 1].
        edges: [bars + 1], rising; what lies beyond the ends is left out.
    """
    above = np.concatenate([[0.0], _edges(), [_edges()[-1]]])
    steps = counts[ZERO + 1 : BINS], counts[:ZERO][::-1]
    up, down = (np.concatenate([[0], step.cumsum()]) for step in steps)
    rising = np.interp(edges, above, up) - np.interp(-edges, above, down)
    found: npt.NDArray[np.float64] = np.diff(rising)
    zero = int(np.searchsorted(edges, 0.0, side="right")) - 1
    if 0 <= zero < len(found):
        found[zero] += counts[ZERO]
    return found
