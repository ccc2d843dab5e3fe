"""Robustness: how much a map changes when the picture hardly does."""

from collections.abc import Callable

import numpy as np

from onnxviz.quality.common import Array


def max_sensitivity(
    explain: Callable[[Array], Array], x: Array, radius: float = 0.02, samples: int = 10, seed: int = 0
) -> float:
    """The largest |Phi(x + d) - Phi(x)| / |Phi(x)| over random d in a cube; 0 is the best.

    Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", definition 2.2.

    Args:
        explain: From model inputs [K, *input] to their maps [K, ...].
        x: One model input, [*input], of floats.
        radius: Half the cube's side, as a share of the range of x.
        samples: How many d.
        seed: Of d.
    """
    rng, reach = np.random.default_rng(seed), radius * float(np.ptp(x.astype(np.float64)))
    moved = [(x + rng.uniform(-reach, reach, x.shape)).astype(x.dtype) for _ in range(samples)]
    first, *others = explain(np.stack([x, *moved])).astype(np.float64)
    size = float(np.linalg.norm(first))
    return max(float(np.linalg.norm(other - first)) for other in others) / size if size > 0 else float("nan")
