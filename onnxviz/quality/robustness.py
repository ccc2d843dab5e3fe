"""Robustness: how much a map changes when the picture hardly does."""

from collections.abc import Callable, Iterator

import numpy as np

from onnxviz.quality.common import AT_ONCE, Array, answers, in_type, spread_of


def max_sensitivity(
    explain: Callable[[Array], Array],
    x: Array,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    batch: int = AT_ONCE,
) -> float:
    """The largest |Phi(x + d) - Phi(x)| / |Phi(x)| over random d in a cube; 0 is the best (Yeh et al. 2019).

    Definition 2.2, estimated from below by sampling. NaN for a map of zeros, and for an input that is the
    same everywhere, whose range gives the cube no size.

    Args:
        explain: From model inputs [K, *input] to their maps [K, ...].
        x: One model input, [*input].
        radius: Half the cube's side, as a share of the range of x.
        samples: How many d.
        seed: Of d.
        batch: How many inputs are explained together.
    """
    rng, reach = np.random.default_rng(seed), radius * spread_of(x)

    def moved() -> Iterator[Array]:
        yield x
        for _ in range(samples):
            yield in_type(x.astype(np.float64) + rng.uniform(-reach, reach, x.shape), x)

    maps = (one.astype(np.float64) for one in answers(explain, moved(), batch))
    first = next(maps)
    size = float(np.linalg.norm(first))
    if size == 0 or reach == 0:
        return float("nan")
    return float(np.max([np.linalg.norm(other - first) for other in maps])) / size
