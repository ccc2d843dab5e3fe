"""The noisy linear imputer of ROAD: each place that is missing is the weighted mean of those around it."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from onnxviz.quality.common import Array, axes_of, in_type, spread_of

_AROUND = {
    (i, j): 1 / 6 if 0 in (i, j) else 1 / 12 for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)
}


def imputed(x: Array, missing: Array, places: tuple[int, int], noise: float = 0.01, seed: int = 0) -> Array:
    """A model input whose missing places are filled from around them (Rong et al. 2022, section 4.1).

    A filled place is the mean of its eight neighbours, filled or not: those beside it weigh 1/6, those across
    1/12 (at an edge, by what there is). Noise hides that it was filled.

    Args:
        x: One model input, [*input].
        missing: bool [H, W].
        places: The axes of H and W in x.
        noise: Its standard deviation, as a share of the range of x.
        seed: Of the noise.

    Raises:
        ShapeError: The mask is not of the input's height and width.
    """
    axes = axes_of(missing, x, places)
    planes = np.moveaxis(x.astype(np.float64), axes, (-2, -1))
    flat = planes.reshape(-1, missing.size).T.copy()
    chosen = np.flatnonzero(missing)
    if not len(chosen):
        return x.copy()
    number = np.full(missing.size, -1)
    number[chosen] = np.arange(len(chosen))
    rows, columns = np.divmod(chosen, missing.shape[1])
    matrix, known, total = [], np.zeros((len(chosen), flat.shape[1])), np.zeros(len(chosen))
    for (down, across), weight in _AROUND.items():
        i, j = rows + down, columns + across
        there = (i >= 0) & (i < missing.shape[0]) & (j >= 0) & (j < missing.shape[1])
        beside = np.where(there, i * missing.shape[1] + j, 0)
        total += weight * there
        unknown = there & (number[beside] >= 0)
        own = np.flatnonzero(unknown)
        matrix.append(
            sparse.coo_array((np.full(len(own), -weight), (own, number[beside[own]])), (len(chosen),) * 2)
        )
        given = there & ~unknown
        known[given] += weight * flat[beside[given]]
    if missing.all():
        flat[chosen] = flat.mean(axis=0)  # nothing is left to fill it from
    else:
        whole = sum(matrix, start=sparse.diags_array(total)).tocsc()
        # Symmetric and diagonally dominant: an ordering made for that fills in far less, and needs no pivots.
        solver = splu(whole, "MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
        flat[chosen] = solver.solve(known)
    flat[chosen] += np.random.default_rng(seed).standard_normal(known.shape) * noise * spread_of(x)
    return in_type(np.moveaxis(flat.T.reshape(planes.shape), (-2, -1), axes), x)
