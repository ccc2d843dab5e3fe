"""`Sums`: what some pictures did, in a form in which two sets of pictures become one."""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

MOST_FLIPS, MOST_WORST = 50, 20

_MERGED: Mapping[str, Any] = {"sum": np.add, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True)
class Flip:
    """A picture whose first class changed: the classes, and the reference's probabilities of the two."""

    number: int
    picture: str
    reference: int
    audited: int
    margin: float
    probability: float


@dataclass(frozen=True)
class Worst:
    """How far a picture's answers are from the reference's."""

    number: int
    picture: str
    kl: float | None
    max_abs: float


@dataclass(frozen=True)
class Sums:
    """What some pictures did.

    Attributes:
        arrays: Sums, maxima and minima by name; a name begins with "sum:", "max:" or "min:".
        flips: Those with the largest margin.
        worst: Those that differ most.
        failed: Why a picture could not be used, by its number: name and reason.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    flips: tuple[Flip, ...] = ()
    worst: tuple[Worst, ...] = ()
    failed: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    def get(self, name: str) -> Array | None:
        """A figure; None where no picture made it."""
        return self.arrays.get(name)

    def number(self, name: str) -> float:
        """A figure of one number; 0 where no picture made it."""
        found = self.arrays.get(name)
        return 0.0 if found is None else float(found)


def merge(one: Sums, other: Sums) -> Sums:
    """What two disjoint sets of pictures did together."""
    arrays = dict(one.arrays)
    for name, array in other.arrays.items():
        mine = arrays.get(name)
        arrays[name] = array if mine is None else _MERGED[name.partition(":")[0]](mine, array)
    return Sums(
        arrays,
        largest_margins([*one.flips, *other.flips]),
        farthest([*one.worst, *other.worst]),
        dict(sorted({**one.failed, **other.failed}.items())),
    )


def largest_margins(flips: Iterable[Flip]) -> tuple[Flip, ...]:
    """The flips worth telling."""
    return tuple(sorted(flips, key=lambda each: (-each.margin, each.number))[:MOST_FLIPS])


def farthest(worst: Iterable[Worst]) -> tuple[Worst, ...]:
    """The pictures that differ most: by KL divergence where there are classes."""

    def distance(each: Worst) -> tuple[float, float, int]:
        return (-(each.kl or 0.0), -each.max_abs, each.number)

    return tuple(sorted(worst, key=distance)[:MOST_WORST])


def pack(sums: Sums) -> bytes:
    """Sums as the bytes of an .npz file; no pickles."""
    said = {
        "flips": [asdict(each) for each in sums.flips],
        "worst": [asdict(each) for each in sums.worst],
        "failed": sums.failed,
        "names": list(sums.arrays),
    }
    data = io.BytesIO()
    arrays = {f"array_{i}": array for i, array in enumerate(sums.arrays.values())}
    # As bytes: what is no Unicode in a file's name is a lone surrogate, written as an escape.
    np.savez(data, said=np.frombuffer(json.dumps(said).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    return data.getvalue()


def unpack(data: bytes) -> Sums:
    """The sums that `pack` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        said = json.loads(held["said"].tobytes())
        return Sums(
            {name: held[f"array_{i}"] for i, name in enumerate(said["names"])},
            tuple(Flip(**each) for each in said["flips"]),
            tuple(Worst(**each) for each in said["worst"]),
            {int(number): (name, why) for number, (name, why) in said["failed"].items()},
        )
