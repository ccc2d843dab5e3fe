"""Faithfulness: does a map say by how much the score changes when the input does?"""

from collections.abc import Iterator

import numpy as np

from onnxviz.quality.common import Array, Predict, blended, over_places, predicted


def sensitivity_n(
    predict: Predict,
    x: Array,
    attribution: Array,
    baseline: Array,
    places: tuple[int, int],
    share: float = 0.2,
    samples: int = 100,
    seed: int = 0,
) -> float:
    """The correlation of what a map gives to random sets of places and of what the score loses without them.

    Ancona et al. 2018, "Towards better understanding of gradient-based attribution methods". 1 is the best;
    NaN where the score never changes.

    Args:
        predict: The target's score.
        x: One model input, [*input].
        attribution: [H, W], signed.
        baseline: What takes the places' place.
        places: The axes of H and W in x.
        share: How many places a set has, of all.
        samples: How many sets.
        seed: Of the sets.
    """
    rng, count = np.random.default_rng(seed), max(1, round(share * attribution.size))
    sets = [rng.permutation(attribution.size)[:count] for _ in range(samples)]

    def without() -> Iterator[Array]:
        yield x
        for chosen in sets:
            kept = np.ones(attribution.size)
            kept[chosen] = 0
            yield blended(x, np.asarray(baseline), over_places(kept, x, places))

    whole, *left = predicted(predict, without())
    said = np.array([attribution.ravel()[chosen].sum(dtype=np.float64) for chosen in sets])
    lost = whole - np.array(left)
    if np.ptp(said) == 0 or np.ptp(lost) == 0:
        return float("nan")
    return float(np.corrcoef(said, lost)[0, 1])


def infidelity(
    predict: Predict,
    x: Array,
    attribution: Array,
    level: float = 0.01,
    samples: int = 100,
    seed: int = 0,
    scaled: bool = False,
) -> float:
    """E (I . Phi - (f(x) - f(x - I)))^2 over noise I; 0 is the best (Yeh et al. 2019, definition 2.1).

    Args:
        predict: The target's score.
        x: One model input, [*input], of floats.
        attribution: Phi, shaped like x.
        level: The noise's standard deviation, as a share of the range of x.
        samples: How many.
        seed: Of the noise.
        scaled: Multiply Phi by the number that fits best first, so that only its shape counts.
    """
    rng, spread = np.random.default_rng(seed), level * float(np.ptp(x.astype(np.float64)))
    noise = [rng.standard_normal(x.shape) * spread for _ in range(samples)]
    whole, *moved = predicted(predict, (x, *((x - one).astype(x.dtype) for one in noise)))
    lost = whole - np.array(moved)
    said = np.array([float((one * attribution).sum()) for one in noise])
    if scaled and (said**2).sum() > 0:
        said *= (said * lost).sum() / (said**2).sum()
    return float(((said - lost) ** 2).mean())
