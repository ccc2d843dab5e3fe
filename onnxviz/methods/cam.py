"""Class activation maps: a layer's feature maps, weighted by what they mean for the target."""

from typing import Any

import numpy as np
import numpy.typing as npt


def grad_cam(activation: npt.NDArray[Any], weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The signed sum of feature maps, each weighted by the spatial mean of its gradient.

    Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2; the ReLU of equation 2 belongs to the picture, the
    raw map keeps its sign.

    Args:
        activation: [N, C, h, w].
        weights: [N, C], the mean of the gradient over each map.

    Returns:
        [N, h, w].
    """
    maps = np.einsum("nc,nchw->nhw", weights.astype(np.float64), activation.astype(np.float64))
    return np.asarray(maps, np.float64)
