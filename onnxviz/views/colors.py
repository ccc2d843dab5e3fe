"""From numbers to colours: limits, colormaps, and a colour for what is not a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import matplotlib
import numpy as np
from numpy.typing import NDArray

from onnxviz.errors import SelectorError, did_you_mean

Pixels: TypeAlias = NDArray[np.uint8]
Numbers: TypeAlias = NDArray[Any]
Color: TypeAlias = tuple[int, int, int]
Scale: TypeAlias = Literal["layer", "channel", "std"]

SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
HEAT = "inferno"
NONFINITE: Color = (255, 0, 255)
BACKGROUND: Color = (205, 205, 205)

# A channel whose spread is below float32's own rounding holds one value.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Limits:
    """The numbers that get a colormap's first and last colour."""

    low: float
    high: float

    @property
    def signed(self) -> bool:
        """Whether zero lies in the middle, between two signs."""
        return self.low < 0 and self.low == -self.high


def nonfinite(values: Numbers) -> int:
    """How many values are NaN or infinite, which `paint` shows in magenta."""
    return int(values.size - np.count_nonzero(np.isfinite(values)))


def limits_of(values: Numbers, scale: Scale = "layer") -> tuple[Limits, ...]:
    """The limits that fit a stack of maps, from its finite values.

    Args:
        values: [K, h, w], any dtype.
        scale: "layer" gives one pair for the whole stack, "channel" one pair per channel: from 0 to the
            maximum, or symmetric around zero where any value of the stack is negative. "std" gives mean ± 2
            standard deviations per channel: (x - mean) / std * 64 + 128 in 256 colours (Chollet 2017, Deep
            Learning with Python, 5.4.1); a channel that holds one value gets the middle colour.

    Returns:
        One pair, or one pair per channel.

    Raises:
        SelectorError: no such scale.
    """
    if scale not in get_args(Scale):
        raise SelectorError(f"no scale {scale!r}; choose one of {', '.join(get_args(Scale))}")
    finite = np.isfinite(values)
    if scale == "std":
        return _spread(values, finite)
    known = values if finite.all() else np.where(finite, values, 0)
    axis = None if scale == "layer" else tuple(range(1, known.ndim))
    low = np.atleast_1d(known.min(axis=axis, initial=0)).astype(np.float64)
    high = np.atleast_1d(known.max(axis=axis, initial=0)).astype(np.float64)
    if low.min() < 0:
        high = np.maximum(high, -low)
        low = -high
    return tuple(Limits(*pair) for pair in zip(low.tolist(), high.tolist(), strict=True))


def _spread(values: Numbers, finite: NDArray[np.bool_]) -> tuple[Limits, ...]:
    axis = tuple(range(1, values.ndim))
    known = np.where(finite, values, 0).astype(np.float64)
    count = np.maximum(finite.sum(axis=axis), 1)
    mean = known.sum(axis=axis) / count
    apart = np.where(finite, known - mean.reshape(-1, *(1 for _ in axis)), 0)
    std = np.sqrt((apart**2).sum(axis=axis) / count)
    std[std <= _ROUNDING * np.abs(mean)] = 1
    return tuple(Limits(m - 2 * s, m + 2 * s) for m, s in zip(mean.tolist(), std.tolist(), strict=True))


def table(colormap: str) -> Pixels:
    """A matplotlib colormap as 256 colours.

    Returns:
        uint8 [256, 3]; not to be written to.

    Raises:
        SelectorError: matplotlib has no colormap of that name.
    """
    if colormap not in matplotlib.colormaps:
        near = did_you_mean(colormap, list(matplotlib.colormaps))
        raise SelectorError(f"matplotlib has no colormap {colormap!r}{near}")
    return _table(colormap)


@lru_cache(maxsize=32)
def _table(colormap: str) -> Pixels:
    parts = matplotlib.colormaps[colormap](np.linspace(0, 1, 256))[:, :3]
    colors: Pixels = np.rint(parts * 255).astype(np.uint8)
    colors.flags.writeable = False
    return colors


def suited(limits: Sequence[Limits], scale: Scale = "layer") -> str:
    """The colormap for these limits: DIVERGING where zero lies in its light middle, else SEQUENTIAL."""
    # Under "std" the middle is the mean, and limits with zero there are so by chance.
    return DIVERGING if scale != "std" and any(pair.signed for pair in limits) else SEQUENTIAL


def paint(
    values: Numbers,
    scale: Scale = "layer",
    colormap: str | None = None,
    limits: Limits | Sequence[Limits] | None = None,
) -> Pixels:
    """A stack of maps in colours; NaN and infinite values in magenta.

    Args:
        values: [K, h, w], any dtype.
        scale: how the limits are found; see `limits_of`.
        colormap: a matplotlib name; None takes DIVERGING where zero lies in the middle, else SEQUENTIAL.
        limits: one pair, or one per channel; None finds them by `scale`.

    Returns:
        uint8 [K, h, w, 3].

    Raises:
        SelectorError: no such colormap or scale.
    """
    if limits is None:
        limits = limits_of(values, scale)
    pairs = [limits] if isinstance(limits, Limits) else list(limits)
    colors = table(suited(pairs, scale) if colormap is None else colormap)
    broken = ~np.isfinite(values)
    known = np.where(broken, 0, values) if broken.any() else values
    dtype = np.float64 if known.dtype == np.float64 else np.float32
    shape = (-1, *(1 for _ in known.shape[1:]))
    low = np.array([pair.low for pair in pairs]).reshape(shape)
    span = np.array([pair.high - pair.low for pair in pairs]).reshape(shape)
    span = np.where(span > 0, span, 1)
    # Counted from the middle, a zero between two signs gets exactly the middle colour.
    middle = low + span / 2
    with np.errstate(over="ignore"):
        steps = (known.astype(dtype) - middle.astype(dtype)) * (256 / span).astype(dtype) + 128
    painted: Pixels = colors.take(np.clip(steps, 0, 255).astype(np.uint8), axis=0)
    if broken.any():
        painted[broken] = NONFINITE
    return painted
