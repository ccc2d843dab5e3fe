"""RISE: random masks, weighted by what the model says of the picture under them."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnxviz.errors import SelectorError
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.masking import Array, all_values, by_picture, masked_values
from onnxviz.methods.attribution.method import Maps, Method
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track
from onnxviz.views.heatmaps import resample

_TRIES, _TRIED = 100, np.arange(1, 10) / 10


def rise(
    question: Question,
    _layers: Sequence[Layer],
    *,
    samples: int = 1000,
    cells: int = 7,
    p: float = 0.5,
    baseline: str = "black",
) -> Maps:
    """1 / (N p) sum_n f(x m_n) m_n over random masks m (Petsiuk et al. 2018, equation 6).

    f is the class's probability, or the score where the target is no class. The masks are `cells` x `cells`
    drawn with the probability p, enlarged bilinearly and shifted at random.

    Args:
        question: What is asked.
        samples: N; the paper takes 4000 to 8000.
        cells: Cells of a mask along each side.
        p: The share of a picture that a mask keeps; 0: of .1 to .9 the one under which the target's value
            varies most over 100 masks (DIANNA takes the one for whichever class varies most).
        baseline: What stands where a mask hides the picture.

    Raises:
        SelectorError: p is no share.
    """
    if not 0 <= p < 1:
        raise SelectorError(f"rise: p is {p:g}; give a share from 0 to 1")
    size = question.query.input_size
    maps: dict[int, Array] = {}
    for numbers in by_picture(question).values():
        shares = {p: numbers} if p else _best_shares(question, numbers, cells, baseline)
        for kept, alike in shares.items():
            total = np.zeros((len(alike), *size))
            blocks = track(list(batches(samples, AT_ONCE)), "rise")
            masks = random_masks(size, [stop - start for start, stop in blocks], cells, kept, question.seed)
            for block, values in masked_values(question, alike, masks, baseline, chances=True):
                total += np.einsum("kt,khw->thw", values, block)
            maps |= {number: one / (samples * kept) for number, one in zip(alike, total, strict=True)}
    return Maps([maps[number] for number in range(len(question))])


def random_masks(
    size: tuple[int, int], counts: Sequence[int], cells: int, p: float, seed: int
) -> Iterator[Array]:
    """Blocks of random masks [k, H, W], each enlarged from a small grid and shifted by less than a cell."""
    rng = np.random.default_rng(seed)
    height, width = (math.ceil(length / cells) for length in size)
    for count in counts:
        block = np.empty((count, *size), np.float32)
        for row in range(count):
            grid = (rng.random((cells, cells)) < p).astype(np.float32)
            top, left = int(rng.integers(height)), int(rng.integers(width))
            wide = resample(grid, ((cells + 1) * height, (cells + 1) * width))
            block[row] = wide[top : top + size[0], left : left + size[1]]
        yield block


def _best_shares(
    question: Question, numbers: Sequence[int], cells: int, baseline: str
) -> Mapping[float, list[int]]:
    """The pairs by the share under which their own target's value varies most."""
    size, counts = question.query.input_size, [AT_ONCE] * (_TRIES // AT_ONCE) + [_TRIES % AT_ONCE]
    spreads = []
    for share in track(_TRIED, "rise: how much to hide"):
        masks = random_masks(size, counts, cells, float(share), question.seed)
        spreads.append(all_values(question, numbers, masks, baseline, chances=True).std(axis=0))
    found: dict[float, list[int]] = {}
    for number, best in zip(numbers, np.argmax(spreads, axis=0), strict=True):
        found.setdefault(float(_TRIED[best]), []).append(number)
    return found


RISE = Method(
    "rise",
    rise,
    "pixels",
    "1 / (N p) sum_n f(x m_n) m_n over random masks m",
    "samples F",
    "Petsiuk et al. 2018, arXiv:1806.07421",
    relative=True,
)
