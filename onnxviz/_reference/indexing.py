"""Gathers and scatters."""

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array


class GatherElements(OpRun):
    """onnx's own wants the other axes of data and indices to be of one size."""

    def _run(self, x: Array, indices: Array, axis: int) -> tuple[Array]:
        places: list[Array] = list(np.indices(indices.shape, sparse=True))
        places[axis] = indices
        return (x[tuple(places)],)


class Unique(OpRun):
    """onnx's own takes no axis when unsorted, and gives what an empty name asks for to the next."""

    def _run(self, x: Array, axis: int | None, sorted: int) -> tuple[Array, ...]:
        if axis is None:
            x, axis = x.reshape(-1), 0
        y, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
        order = np.arange(len(first)) if sorted else np.argsort(first)
        answers = y.take(order, axis), first[order], np.argsort(order)[inverse.reshape(-1)], counts[order]
        return answers[: len(self.output)]


OPERATORS: tuple[type[OpRun], ...] = (GatherElements, Unique)
