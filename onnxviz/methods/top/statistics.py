"""The statistics of a layer's channels over a set of pictures, from their summary."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.methods.top.histogram import BINS, LEVELS, ZERO, Counts, quantiles
from onnxviz.methods.top.summary import Summary, finite, from_units

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """How the activations of C channels spread over a set of pictures, each place of each map counted once.

    Attributes:
        pictures: How many pictures.
        places: How many places of one channel, in all pictures.
        mean: float64 [C]; exact, rounded once.
        least, greatest: float64 [C], the smallest and the largest.
        quantiles: float64 [C, 7], at 1, 5, 25, 50, 75, 95 and 99 %; off by at most 1/32 of themselves.
        zeros: float64 [C], the share of places that are 0.
        nonpositive: float64 [C], the share of places that are 0 or less.
        dead: float64 [C], the share of pictures in which the channel rises nowhere above 0.
        broken: int64 [C], how many places are NaN or infinite; the other figures leave them out.
        histogram: int64 [C, bins + 1]; see `onnxviz.methods.top.histogram`.
    """

    pictures: int
    places: int
    mean: Floats
    least: Floats
    greatest: Floats
    quantiles: Floats
    zeros: Floats
    nonpositive: Floats
    dead: Floats
    broken: npt.NDArray[np.int64]
    histogram: Counts

    def __len__(self) -> int:
        """The number of channels."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: see docs/top.md."""
        return {
            "pictures": self.pictures,
            "places": self.places,
            "levels": list(LEVELS),
            "channels": [
                {
                    "channel": channel,
                    "mean": float(self.mean[channel]),
                    "min": float(self.least[channel]),
                    "max": float(self.greatest[channel]),
                    "quantiles": self.quantiles[channel].tolist(),
                    "share_of_zeros": float(self.zeros[channel]),
                    "share_not_above_zero": float(self.nonpositive[channel]),
                    "share_of_dead_pictures": float(self.dead[channel]),
                    "not_finite": int(self.broken[channel]),
                }
                for channel in range(len(self))
            ],
        }


def statistics(summary: Summary) -> Statistics:
    """The statistics of a summary; NaN for a channel without one finite activation."""
    counts, number = summary.counts, finite(summary.counts)
    least, greatest = (_known(array) for array in (summary.least, summary.greatest))
    # The middle of an end's bin may lie beyond what was seen.
    middle = np.clip(quantiles(counts), least[:, None], greatest[:, None])
    with np.errstate(invalid="ignore"):
        zeros, below = counts[:, ZERO] / number, counts[:, : ZERO + 1].sum(axis=1) / number
        dead = 1 - np.divide(summary.woke, float(summary.pictures))
    return Statistics(
        pictures=summary.pictures,
        places=summary.places,
        mean=np.array([from_units(*pair) for pair in zip(summary.sums, number.tolist(), strict=True)]),
        least=least,
        greatest=greatest,
        quantiles=middle,
        zeros=zeros,
        nonpositive=below,
        dead=dead,
        broken=counts[:, BINS],
        histogram=counts,
    )


def _known(ends: npt.NDArray[np.float32]) -> Floats:
    return np.where(np.isfinite(ends), ends, np.nan).astype(np.float64)
