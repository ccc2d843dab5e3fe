"""How alike two maps are."""

import numpy as np
from scipy.ndimage import uniform_filter

from onnxviz.quality.common import Array


def rank_correlation(first: Array, second: Array) -> float:
    """Spearman's correlation of two maps; NaN where one is the same everywhere."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    from scipy.stats import spearmanr  # takes long to load

    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def ssim(first: Array, second: Array, window: int = 7) -> float:
    """The structural similarity of two maps, each scaled to [0, 1] (Wang et al. 2004); 1 if they are equal.

    NaN where one holds NaN.

    Args:
        first: [H, W].
        second: [H, W].
        window: Side of the square over which the statistics are taken, odd; less where a map is smaller.
    """
    a, b = _scaled(first), _scaled(second)
    side = min(window, *(edge - 1 + edge % 2 for edge in a.shape))

    def mean(values: Array) -> Array:
        return np.asarray(uniform_filter(values, side, mode="reflect"))

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def _scaled(values: Array) -> Array:
    exact = values.astype(np.float64)
    span = float(np.ptp(exact))
    return np.zeros_like(exact) if span == 0 else (exact - exact.min()) / span
