"""From a raw map to a heatmap in [0, 1] at the size of the model's input, or the reason why there is none."""

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.views.heatmaps import resample


def heatmap_of(
    raw: npt.NDArray[Any], size: tuple[int, int], percentile: float = 100
) -> tuple[npt.NDArray[np.float32], str | None]:
    """What is positive in a map, at another size and with a maximum of 1; and why it is empty, if it is.

    Args:
        raw: [h, w], signed.
        size: Height and width of the model's input, pixels.
        percentile: Which value becomes 1. Gradients over pixels have a few outliers that would leave all else
            dark: Smilkov et al. 2017, "SmoothGrad", section 3.1, cap them at the 99th percentile.

    Returns:
        float32 [H, W] in [0, 1], and None or a reason. A map that is not finite or has nothing positive
        becomes zeros: it is reported, never painted.
    """
    broken = raw.size - int(np.isfinite(raw).sum())
    if broken:
        return np.zeros(size, np.float32), f"{broken} of its {raw.size} values are NaN or infinite"
    if not raw.any():
        return np.zeros(size, np.float32), "it is zero everywhere: no change at this layer moves the score"
    if raw.max() <= 0:
        reason = (
            f"all weighted activations are negative (strongest {raw.min():.3g}); the layer speaks against it"
        )
        return np.zeros(size, np.float32), reason
    # Scaled first: what float32 cannot hold would otherwise vanish on the way.
    positive = resample(np.maximum(raw / raw.max(), 0), size)
    top = np.percentile(positive, percentile)
    return np.minimum(positive / (top if top > 0 else positive.max()), 1).astype(np.float32), None
