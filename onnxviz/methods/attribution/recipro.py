"""ReciproCAM: what each place says of the score when only it is left."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.graph.feature_maps import as_maps, spread
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.baselines import blend
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import Question
from onnxviz.methods.attribution.shared import by_picture, nothing, scores_of
from onnxviz.methods.attribution.tail import tail_of
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track

# By the distance from the centre, 0, 1 or more, along one axis.
GAUSSIAN, ALONE = np.array([1 / 2, 1 / 4, 0]), np.array([1.0, 0, 0])

_FEW = 8
"""A map of fewer values than this is coarse."""


def recipro_cam(question: Question, layers: Sequence[Layer], *, gaussian: bool = True) -> Maps:
    """M_ij = S of the layer's activation with only the place (i, j) left (Byun & Lee 2022).

    Only what follows the layer is run, once for each place. What goes round the layer (a skip connection) and
    tokens without a place keep their values. The paper scales the map to [0, 1], which belongs to the
    picture; it takes class probabilities, here S is the score itself.

    Args:
        question: What is asked.
        layers: The layer.
        gaussian: Leave a 3 x 3 neighbourhood, weighted by 1/4 in its centre, 1/8 beside it and 1/16 at its
            corners; else the one place, as it is.
    """
    [layer] = layers
    raw: dict[int, Array] = {}
    for numbers in track(by_picture(question), f"places of {layer.name}"):
        tail = tail_of(question, layer, numbers[0])
        absent = nothing(question, layer, tail.activation)
        height, width = as_maps(tail.activation, layer).shape[2:]
        scores = []
        for start, stop in track(list(batches(height * width, tail.at_once)), "places"):
            kept = _neighbourhoods(range(start, stop), height, width, gaussian)[:, None]
            copies = _kept(tail.activation, absent, spread(kept, layer, tail.activation))
            scores.append(scores_of(question, numbers, tail.rows(copies)))
        maps = np.concatenate(scores, axis=1).reshape(-1, height, width)
        raw |= zip(numbers, maps, strict=True)
    found = [raw[number] for number in range(len(question))]
    return Maps(found, notes=_coarse(found))


def _kept(activation: Array, absent: Array, mask: Array) -> Array:
    """Copies of an activation, each with what its mask leaves of it, in the activation's own type."""
    if activation.dtype.kind in "iu":
        return blend(activation, absent, mask)
    with np.errstate(invalid="ignore"):  # what is infinite is NaN where it is left out
        return np.asarray(activation * mask.astype(activation.dtype))


def _coarse(found: Sequence[Array]) -> tuple[str, ...]:
    """Say so where the scores of single places fall on a few steps only, as they do in quantised models."""
    counts = [len(np.unique(one)) for one in found if one.size > _FEW and np.ptp(one) > 0]
    if min(counts, default=_FEW) >= _FEW:
        return ()
    return (
        f"recipro-cam: a map takes {min(counts)} values only, as one place alone moves the score by a few "
        "steps of what the model rounds it to; ablation-cam changes more at a time",
    )


def _neighbourhoods(places: range, height: int, width: int, gaussian: bool) -> npt.NDArray[np.float64]:
    """What is left for each place, counted row by row: weights [K, height, width]."""
    kernel = GAUSSIAN if gaussian else ALONE
    rows, columns = np.divmod(np.array(places), width)
    down, across = (
        kernel[np.minimum(np.abs(centres[:, None] - np.arange(size)), 2)]
        for centres, size in ((rows, height), (columns, width))
    )
    return np.asarray(down[:, :, None] * across[:, None, :])


RECIPROCALS = (
    Method(
        "recipro-cam",
        recipro_cam,
        "layer",
        "M_ij = the score when of the layer only the place (i, j) and its neighbours are left",
        "the trunk once + what follows the layer, h w times",
        "Byun & Lee 2022, arXiv:2209.14074",
    ),
)
