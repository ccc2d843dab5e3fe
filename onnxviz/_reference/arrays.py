"""What the operators share."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = Sequence[int] | None


def halves(pads: Ints, rank: int) -> tuple[list[int], list[int]]:
    """The first and the last pads of each axis; zeros where there are none."""
    pads = list(pads or [0] * (2 * rank))
    return pads[:rank], pads[rank:]
