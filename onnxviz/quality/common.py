"""What the metrics share: the model as a function, and runs of bounded size."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Predict: TypeAlias = Callable[[Array], Array]
"""The target's value for model inputs: [K, *input] to [K]; a probability, where a metric says so."""

AT_ONCE = 16


def predicted(predict: Predict, inputs: Iterable[Array]) -> npt.NDArray[np.float64]:
    """The target's values for any number of inputs, a few at a time."""
    values = [predict(np.stack(block)) for block in _blocks(inputs)]
    return np.concatenate(values).astype(np.float64)


def _blocks(inputs: Iterable[Array]) -> Iterator[list[Array]]:
    pending = iter(inputs)
    while block := list(islice(pending, AT_ONCE)):
        yield block


def ranked(heat: Array) -> npt.NDArray[np.intp]:
    """The places of a map [H, W] from the highest to the lowest; of equal ones the first comes first."""
    return np.argsort(-heat.astype(np.float64).ravel(), kind="stable")


def over_places(mask: Array, like: Array, places: tuple[int, int]) -> Array:
    """A mask [H, W] with axes for the rest of a model input."""
    shape = [like.shape[axis] if axis in places else 1 for axis in range(like.ndim)]
    return mask.reshape(shape)


def blended(inputs: Array, base: Array, kept: Array) -> Array:
    """`inputs` where `kept` is 1 and `base` where it is 0; integers stay integers."""
    mixed = base + kept * (inputs.astype(np.float64) - base)
    return (np.rint(mixed) if inputs.dtype.kind in "iu" else mixed).astype(inputs.dtype)
