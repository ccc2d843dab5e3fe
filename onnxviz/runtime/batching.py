"""A long axis of pictures, run through a session piece by piece."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import ShapeError
from onnxviz.runtime.progress import track
from onnxviz.runtime.session import Session

_MOST = 16
# Activations take some 30 times the memory of the pictures they come from.
_MOST_BYTES = 32 * 2**20


def batches(n: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges `(start, stop)` that cut `n` items into pieces of at most `size`."""
    for start in range(0, n, size):
        yield start, min(start + size, n)


def run_batched(
    session: Session,
    feeds: Mapping[str, npt.NDArray[Any]],
    batch: int | None = None,
    outputs: Iterable[str] | None = None,
    shared: Mapping[str, Any] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Run a session on arrays of any length along axis 0, and join the answers along axis 0.

    Args:
        session: The model.
        feeds: The inputs to cut into pieces: arrays [N, ...] of one length N > 0.
        batch: How many items to run at once; None: 16, fewer where they are large. A model that fixes its
            batch size is run at that size whatever this says, the last piece filled up by repeating its
            last item.
        outputs: The names of the outputs to return; None: all. Each must be [batch, ...].
        shared: The other inputs, given to every piece as they are.

    Returns:
        Each output by name, [N, ...].

    Raises:
        ShapeError: The arrays are empty, differ in length or do not fit; or an output's first axis is not
            the batch's.
        SelectorError: There is no input or output of that name.
        DeviceError: A run failed.
    """
    n = _length(feeds)
    fixed = _fixed_batch(session, feeds)
    size = fixed if fixed is not None else _size(feeds, batch)
    constant = {} if shared is None else dict(shared)
    names = None if outputs is None else list(outputs)
    pieces = list(batches(n, size))
    found: list[dict[str, Any]] = []
    for start, stop in track(pieces, "running the model"):
        cut = {name: array[start:stop] for name, array in feeds.items()}
        if fixed is not None and stop - start < fixed:
            cut = {name: _filled(array, fixed) for name, array in cut.items()}
        ran = stop - start if fixed is None else fixed
        answers = session.run({**constant, **cut}, names)
        found.append({name: _batched(name, array, ran)[: stop - start] for name, array in answers.items()})
    return {name: _joined([answers[name] for answers in found]) for name in found[0]}


def _length(feeds: Mapping[str, npt.NDArray[Any]]) -> int:
    lengths = {name: len(array) if array.ndim else None for name, array in feeds.items()}
    if len(set(lengths.values())) != 1 or None in lengths.values():
        listed = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        raise ShapeError(
            f"batched inputs need one length along their first axis, but these are: {listed or 'none'}"
        )
    (n,) = set(lengths.values())
    if not n:
        raise ShapeError(f"there is nothing to run: {', '.join(feeds)} is empty along its first axis")
    return n


def _fixed_batch(session: Session, feeds: Mapping[str, npt.NDArray[Any]]) -> int | None:
    """The batch size that the model declares for one of these inputs, None where it leaves it open."""
    declared = [where.shape[0] for where in session.inputs if where.name in feeds and where.shape]
    sizes = {size for size in declared if isinstance(size, int) and size > 0}
    if len(sizes) > 1:
        listed = " and ".join(map(str, sorted(sizes)))
        raise ShapeError(
            f"the inputs {', '.join(feeds)} fix different batch sizes, {listed}; "
            "give those that are not batched as shared"
        )
    return sizes.pop() if sizes else None


def _size(feeds: Mapping[str, npt.NDArray[Any]], batch: int | None) -> int:
    if batch is None:
        item = sum(array[:1].nbytes for array in feeds.values())
        return max(1, min(_MOST, _MOST_BYTES // max(item, 1)))
    if batch < 1:
        raise ShapeError(f"a batch holds at least 1 item, but {batch} was asked for")
    return batch


def _filled(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _batched(name: str, array: npt.NDArray[Any], ran: int) -> npt.NDArray[Any]:
    if array.ndim == 0 or len(array) != ran:
        raise ShapeError(
            f"the output {name!r} is {list(array.shape)} for a batch of {ran}: its first axis is not the "
            "batch's, so pieces cannot be joined; leave this output out, or try a batch of 1"
        )
    return array


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
