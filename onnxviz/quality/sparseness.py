"""How few places a map needs."""

import numpy as np

from onnxviz.quality.common import Array


def gini(raw: Array) -> float:
    """The Gini index of a map's magnitudes: 0 where all are equal, near 1 where one has it all.

    Chalasani et al. 2020, "Concise explanations of neural networks"; NaN for a map of zeros.
    """
    size = np.sort(np.abs(raw.astype(np.float64)).ravel())
    total, n = float(size.sum()), size.size
    if total == 0:
        return float("nan")
    return float(((2 * np.arange(1, n + 1) - n - 1) * size).sum() / (n * total))


def entropy(raw: Array) -> float:
    """The entropy of a map's magnitudes as shares, in nats: 0 for one place, log n for all alike.

    Bhatt et al. 2020, "Evaluating and aggregating feature-based model explanations", complexity; NaN for a
    map of zeros.
    """
    size = np.abs(raw.astype(np.float64)).ravel()
    total = float(size.sum())
    if total == 0:
        return float("nan")
    shares = size[size > 0] / total
    return float(-(shares * np.log(shares)).sum())
