"""`Summary`: what a set of pictures did to the channels of a layer, and how two sets become one.

Summaries of disjoint sets form a commutative monoid under `merge`, exactly, to the last bit: counts are
integers, sums are held as integers too, and the order among equal activations is that of the pictures'
numbers. So the pictures may be divided, finished, and merged in any order, on any number of machines, with
one answer.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.methods.top.histogram import BINS, Counts, empty_counts

Array: TypeAlias = npt.NDArray[Any]

# The smallest number of a float32: every sum of them is a whole multiple.
_UNIT = 149
_TO_INT: Any = np.frompyfunc(int, 1, 1)


@dataclass(frozen=True)
class Summary:
    """What some pictures did to C channels.

    Attributes:
        pictures: How many pictures.
        places: How many places of one channel, in all pictures.
        values: float32 [C,k], the largest activations, one per picture, from the largest; of equal ones first
            that of the picture with the smaller number. -inf where there are fewer pictures.
        numbers: int64 [C,k], those pictures' numbers; -1 where there is none.
        cells: int64 [C,k], where: the first such place of the picture's map, row by row.
        sums: Python integers [C], the sum of all finite activations in units of 2^-149.
        least, greatest: float32 [C], the smallest and the largest finite activation.
        woke: int64 [C], the number of pictures in which the channel rises above 0.
        counts: int64 [C, BINS + 1], the histogram (see `onnxviz.methods.top.histogram`).
        names: The names of the pictures in `numbers`.
        failed: Why a picture could not be used, by its number: name and reason.
    """

    pictures: int
    places: int
    values: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    sums: Array
    least: npt.NDArray[np.float32]
    greatest: npt.NDArray[np.float32]
    woke: npt.NDArray[np.int64]
    counts: Counts
    names: Mapping[int, str]
    failed: Mapping[int, tuple[str, str]]


def empty(channels: int, k: int) -> Summary:
    """The summary of no pictures, which changes none that it is merged with."""
    return Summary(
        pictures=0,
        places=0,
        values=np.full((channels, k), -np.inf, np.float32),
        numbers=np.full((channels, k), -1, np.int64),
        cells=np.full((channels, k), -1, np.int64),
        sums=np.zeros(channels, object),
        least=np.full(channels, np.inf, np.float32),
        greatest=np.full(channels, -np.inf, np.float32),
        woke=np.zeros(channels, np.int64),
        counts=empty_counts(channels),
        names={},
        failed={},
    )


def merge(one: Summary, other: Summary) -> Summary:
    """The summary of two disjoint sets of pictures together."""
    values = np.concatenate([one.values, other.values], axis=1)
    numbers = np.concatenate([one.numbers, other.numbers], axis=1)
    cells = np.concatenate([one.cells, other.cells], axis=1)
    order = np.lexsort((numbers, -values), axis=1)[:, : one.values.shape[1]]
    kept = np.take_along_axis(numbers, order, axis=1)
    names = {**one.names, **other.names}
    return Summary(
        pictures=one.pictures + other.pictures,
        places=one.places + other.places,
        values=np.take_along_axis(values, order, axis=1),
        numbers=kept,
        cells=np.take_along_axis(cells, order, axis=1),
        sums=one.sums + other.sums,
        least=np.minimum(one.least, other.least),
        greatest=np.maximum(one.greatest, other.greatest),
        woke=one.woke + other.woke,
        counts=one.counts + other.counts,
        names={int(number): names[int(number)] for number in np.unique(kept) if number >= 0},
        failed=dict(sorted({**one.failed, **other.failed}.items())),
    )


def merge_all(first: Summary, *others: Summary) -> Summary:
    """The summary of disjoint sets of pictures together."""
    return reduce(merge, others, first)


def as_units(sums: npt.NDArray[np.float64]) -> Array:
    """Sums of float32 numbers as Python integers, in units of 2^-149; exact."""
    whole: Array = _TO_INT(np.ldexp(sums, _UNIT))
    return whole


def from_units(total: int, count: int) -> float:
    """A mean from its integer sum: correctly rounded, as Python divides integers."""
    return total / (count << _UNIT) if count else float("nan")


def pack(summary: Summary) -> bytes:
    """A summary as the bytes of an .npz file; no pickles."""
    rows, bins = np.nonzero(summary.counts)
    said = {"names": summary.names, "failed": summary.failed}
    data = io.BytesIO()
    np.savez(
        data,
        sizes=np.array([summary.pictures, summary.places]),
        values=summary.values,
        numbers=summary.numbers,
        cells=summary.cells,
        sums=np.array([f"{total:x}" for total in summary.sums]),
        least=summary.least,
        greatest=summary.greatest,
        woke=summary.woke,
        counted=np.stack([rows, bins, summary.counts[rows, bins]]),
        # As bytes: what is no Unicode in a file's name is a lone surrogate, written as an escape.
        said=np.frombuffer(json.dumps(said).encode(), np.uint8),
    )
    return data.getvalue()


def unpack(data: bytes) -> Summary:
    """The summary that `pack` wrote.

    Raises:
        ValueError, KeyError, OSError: It did not.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        said = json.loads(held["said"].tobytes())
        counts = empty_counts(len(held["least"]))
        rows, bins, found = held["counted"]
        counts[rows, bins] = found
        pictures, places = held["sizes"].tolist()
        sums = np.empty(len(counts), object)
        sums[:] = [int(total, 16) for total in held["sums"].tolist()]
        return Summary(
            pictures=pictures,
            places=places,
            values=held["values"],
            numbers=held["numbers"],
            cells=held["cells"],
            sums=sums,
            least=held["least"],
            greatest=held["greatest"],
            woke=held["woke"],
            counts=counts,
            names={int(number): name for number, name in said["names"].items()},
            failed={int(number): (name, why) for number, (name, why) in said["failed"].items()},
        )


def finite(counts: Counts) -> npt.NDArray[np.int64]:
    """How many finite numbers were counted in each channel."""
    whole: npt.NDArray[np.int64] = counts[:, :BINS].sum(axis=1)
    return whole
