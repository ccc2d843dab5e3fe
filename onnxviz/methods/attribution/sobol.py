"""Sobol indices: how much of the score's variance each cell of the picture has a part in."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.masking import Array, all_values, by_picture
from onnxviz.methods.attribution.method import Maps, Method
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track


def sobol(
    question: Question,
    _layers: Sequence[Layer],
    *,
    cells: int = 8,
    designs: int = 32,
    baseline: str = "grey",
) -> Maps:
    """Total-order Sobol indices of a grid of cells, each faded to the baseline by a share (Fel et al. 2021).

    Jansen's estimator over designs of a scrambled Sobol sequence: ST_i = mean (f(A) - f(A with column i of
    B))^2 / (2 Var f).

    Args:
        question: What is asked.
        cells: Cells along each side.
        designs: Rows of A and of B; a power of 2 keeps the sequence balanced.
        baseline: What a cell fades to.

    Raises:
        SelectorError: `designs` is no power of 2.
    """
    if designs < 2 or designs & (designs - 1):
        raise SelectorError(f"sobol: designs {designs} must be a power of 2, such as 32")
    from scipy.stats import qmc

    count = cells * cells
    drawn = qmc.Sobol(2 * count, rng=np.random.default_rng(question.seed)).random(designs)
    a, b = drawn[:, :count], drawn[:, count:]
    size = question.query.input_size
    maps: dict[int, Array] = {}
    for numbers in by_picture(question).values():
        blocks = track(list(_designs(a, b)), "sobol")
        values = all_values(question, numbers, (_enlarged(block, cells, size) for block in blocks), baseline)
        first, second, mixed = values[:designs], values[designs : 2 * designs], values[2 * designs :]
        apart = (first[None] - mixed.reshape(count, designs, -1)) ** 2
        variance = np.concatenate([first, second]).var(axis=0)
        indices = apart.mean(axis=1) / (2 * np.where(variance > 0, variance, 1))
        for number, one in zip(numbers, indices.T, strict=True):
            maps[number] = _enlarged(one[None], cells, size)[0]
    return Maps([maps[number] for number in range(len(question))])


def _designs(a: Array, b: Array) -> Iterator[Array]:
    """Blocks of designs: A, B, then for each cell A with that column of B."""
    for start, stop in batches(len(a), AT_ONCE):
        yield a[start:stop]
    for start, stop in batches(len(b), AT_ONCE):
        yield b[start:stop]
    for column in range(a.shape[1]):
        mixed = a.copy()
        mixed[:, column] = b[:, column]
        yield mixed


def _enlarged(grids: Array, cells: int, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Cells [K, cells * cells] as maps [K, H, W] of squares."""
    down, across = (np.arange(length) * cells // length for length in size)
    return grids.reshape(-1, cells, cells)[:, down[:, None], across]


SOBOL = Method(
    "sobol",
    sobol,
    "pixels",
    "total-order Sobol indices of a grid of cells that fade to the baseline",
    "designs (cells^2 + 2) F (2112 by default)",
    "Fel et al. 2021, arXiv:2111.04138",
    caveat="it shows how much each place matters, not whether for or against the target",
)
