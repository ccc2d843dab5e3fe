"""Faithfulness: does a map say by how much the score changes when the input does?"""

from collections.abc import Iterator, Sequence

import numpy as np

from onnxviz.errors import ShapeError
from onnxviz.quality.common import (
    AT_ONCE,
    Array,
    Floats,
    Predict,
    blended,
    in_type,
    over_places,
    predicted,
    spread_of,
)


def sensitivity_n(
    predict: Predict,
    x: Array,
    attribution: Array,
    baseline: Array,
    places: tuple[int, int],
    shares: Sequence[float] = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8),
    samples: int = 100,
    seed: int = 0,
    batch: int = AT_ONCE,
) -> Floats:
    """`faithfulness_correlation` of sets of n places, for several n, 1 being the best (Ancona et al. 2018).

    Args:
        predict: The target's score.
        x: One model input, [*input].
        attribution: [H, W], signed.
        baseline: What takes the places' place.
        places: The axes of H and W in x.
        shares: Each n, as a share of all places.
        samples: How many sets of each size.
        seed: Of the sets.
        batch: How many inputs are run together.

    Returns:
        A correlation for each share.
    """
    return np.array(
        [
            faithfulness_correlation(
                predict, x, attribution, baseline, places, share, samples, seed=seed, batch=batch
            )
            for share in shares
        ]
    )


def faithfulness_correlation(
    predict: Predict,
    x: Array,
    attribution: Array,
    baseline: Array,
    places: tuple[int, int],
    share: float = 0.2,
    samples: int = 100,
    seed: int = 0,
    batch: int = AT_ONCE,
) -> float:
    """Whether what a map gives to random sets of places is what the score loses by them (Bhatt et al. 2020).

    Pearson's correlation of sum_{i in S} R_i and f(x) - f(x_S). 1 is the best; NaN where the score, or
    what the map gives, never changes.

    Args:
        predict: The target's score.
        x: One model input, [*input].
        attribution: [H, W], signed.
        baseline: What takes the places' place.
        places: The axes of H and W in x.
        share: How many places a set has, of all.
        samples: How many sets.
        seed: Of the sets.
        batch: How many inputs are run together.

    Raises:
        ShapeError: The map is not of the input's height and width.
    """
    rng, count = np.random.default_rng(seed), max(1, round(share * attribution.size))
    sets = [rng.permutation(attribution.size)[:count] for _ in range(samples)]

    def without() -> Iterator[Array]:
        yield x
        for chosen in sets:
            kept = np.ones(attribution.size)
            kept[chosen] = 0
            mask = over_places(kept.reshape(attribution.shape), x, places)
            yield blended(x, np.asarray(baseline), mask)

    whole, *left = predicted(predict, without(), batch)
    said = np.array([attribution.ravel()[chosen].sum(dtype=np.float64) for chosen in sets])
    lost = whole - np.array(left)
    return float("nan") if _same(said) or _same(lost) else float(np.corrcoef(said, lost)[0, 1])


def infidelity(
    predict: Predict,
    x: Array,
    attribution: Array,
    level: float = 0.01,
    samples: int = 100,
    seed: int = 0,
    scaled: bool = False,
    batch: int = AT_ONCE,
) -> float:
    """E (I . Phi - (f(x) - f(x - I)))^2 over noise I; 0 is the best (Yeh et al. 2019, definition 2.1).

    I is normal noise, as far as the input's type can hold it. NaN for an input that is the same everywhere,
    whose range gives the noise no size.

    Args:
        predict: The target's score.
        x: One model input, [*input].
        attribution: Phi, shaped like x.
        level: The noise's standard deviation, as a share of the range of x.
        samples: How many.
        seed: Of the noise.
        scaled: Multiply Phi by the number that fits best first, so that only its shape counts.
        batch: How many inputs are run together.

    Raises:
        ShapeError: Phi is not shaped like x.
    """
    if attribution.shape != x.shape:
        raise ShapeError(f"an attribution of {attribution.shape} does not fit an input of {x.shape}")
    rng, exact, spread = np.random.default_rng(seed), x.astype(np.float64), level * spread_of(x)
    if spread == 0:
        return float("nan")
    products = []

    def moved() -> Iterator[Array]:
        yield x
        for _ in range(samples):
            away = in_type(exact - rng.standard_normal(x.shape) * spread, x)
            products.append(float(((exact - away.astype(np.float64)) * attribution).sum()))
            yield away

    whole, *left = predicted(predict, moved(), batch)
    said, lost = np.array(products), whole - np.array(left)
    if scaled and (said**2).sum() > 0:
        said *= (said * lost).sum() / (said**2).sum()
    return float(((said - lost) ** 2).mean())


def _same(values: Floats) -> bool:
    """Whether numbers differ by no more than the order in which they were summed."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())
