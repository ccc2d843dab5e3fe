"""Which channels of a layer: from "0,3,8-15", "all" or "strongest:16" to numbers."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError

_STRONGEST = re.compile(r"strongest(?::([1-9]\d*))?")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def choose_channels(spec: str, maps: npt.NDArray[Any], layer: str) -> list[int]:
    """The channels that `spec` names, in its order; `strongest:k` by largest absolute value, largest first.

    Args:
        spec: "all", "strongest:k", or numbers and ranges between commas.
        maps: [N, C, ...], the layer's feature maps for N pictures.
        layer: The layer's name, for messages.

    Raises:
        SelectorError: The text is none of these, or a channel is out of range.
    """
    strongest = _STRONGEST.fullmatch(spec.strip().lower())
    if strongest:
        peaks = np.abs(np.nan_to_num(maps.astype(np.float64))).max(
            axis=tuple(a for a in range(maps.ndim) if a != 1)
        )
        order = np.argsort(-peaks, kind="stable")
        return [int(channel) for channel in order[: int(strongest[1] or 16)]]
    return numbered_channels(spec, maps.shape[1], layer)


def numbered_channels(spec: str, count: int, layer: str) -> list[int]:
    """The channels that "all" or numbers and ranges between commas name, of the `count` channels of a layer.

    Raises:
        SelectorError: The text is neither, or a channel is out of range.
    """
    if spec.strip().lower() == "all":
        return list(range(count))
    chosen: dict[int, None] = {}
    for part in spec.split(","):
        match = _RANGE.fullmatch(part.strip())
        if not match:
            raise SelectorError(f'cannot read channels {spec!r}; write "0,3,8-15", "all" or "strongest:16"')
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise SelectorError(f"channels {part.strip()!r} run backwards; write {last}-{first}")
        if last >= count:
            raise SelectorError(f"no channel {last} in layer {layer!r}: it has channels 0 to {count - 1}")
        chosen.update(dict.fromkeys(range(first, last + 1)))
    return list(chosen)
