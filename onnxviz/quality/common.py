"""What the metrics share: the model as a function, runs of bounded size, and masks over places."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import OnnxvizError, ShapeError

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]
Predict: TypeAlias = Callable[[Array], Array]
"""The target's value for model inputs: [K, *input] to [K]; a probability, where a metric says so."""

AT_ONCE = 16
"""How many inputs are run together where nothing else is said."""


def predicted(predict: Predict, inputs: Iterable[Array], batch: int = AT_ONCE) -> Floats:
    """The target's values for any number of inputs, a few at a time.

    Raises:
        ShapeError: The function does not answer with one number for each input.
    """
    values = list(answers(predict, inputs, batch))
    if any(value.ndim for value in values):
        raise ShapeError(f"one number is needed for each input, but the function gave {values[0].shape}")
    return np.array(values, np.float64)


def answers(function: Callable[[Array], Array], inputs: Iterable[Array], batch: int) -> Iterator[Array]:
    """What a function of many inputs answers for each, `batch` at a time; no more of them are held.

    Raises:
        ShapeError: The function does not answer with one row for each input.
    """
    pending = iter(inputs)
    while block := list(islice(pending, batch)):
        rows = np.asarray(function(np.stack(block)))
        if rows.ndim == 0 or len(rows) != len(block):
            raise ShapeError(
                f"the function gave {rows.shape} for {len(block)} inputs; it must give a row each"
            )
        yield from rows


def ranked(heat: Array, seed: int = 0) -> npt.NDArray[np.intp]:
    """The places of a map [H, W] from the highest to the lowest, equal ones in random order.

    By their order in memory, a flat map would seem to know of an object at the top of the picture.

    Raises:
        OnnxvizError: The map holds NaN.
    """
    values = heat.astype(np.float64).ravel()
    if np.isnan(values).any():
        raise OnnxvizError("a map that holds NaN has no order; leave it out, or find out where it comes from")
    return np.lexsort((np.random.default_rng(seed).permutation(values.size), -values))


def over_places(mask: Array, like: Array, places: tuple[int, int]) -> Array:
    """A mask [H, W] with axes for the rest of a model input, whatever the order of its axes.

    Raises:
        ShapeError: It is not of the input's height and width.
    """
    rows, columns = axes_of(mask, like, places)
    others = tuple(axis for axis in range(like.ndim) if axis not in (rows, columns))
    return np.expand_dims(mask if rows < columns else mask.T, others)


def axes_of(mask: Array, like: Array, places: tuple[int, int]) -> tuple[int, int]:
    """The axes of rows and columns in a model input, counted from the first; they must be a mask's own.

    Raises:
        ShapeError: The mask is not of the input's height and width.
    """
    rows, columns = (axis % like.ndim for axis in places)
    if mask.shape != (like.shape[rows], like.shape[columns]):
        raise ShapeError(
            f"a map of {mask.shape} does not fit an input of {like.shape} whose places are its axes {places}"
        )
    return rows, columns


def blended(inputs: Array, base: Array, kept: Array) -> Array:
    """`inputs` where `kept` is 1 and `base` where it is 0."""
    return in_type(base + kept * (inputs.astype(np.float64) - base), inputs)


def in_type(exact: Array, like: Array) -> Array:
    """Numbers in the type of another array; integers are rounded and kept in range."""
    if like.dtype.kind in "iu":
        kind = np.iinfo(like.dtype)
        exact = np.clip(np.rint(exact), kind.min, kind.max)
    return exact.astype(like.dtype)


def spread_of(x: Array) -> float:
    """The range of an input's numbers, by which noise is measured."""
    return float(np.ptp(x.astype(np.float64)))
