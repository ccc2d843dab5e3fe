"""Normalisation layers."""

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array


class LRN(OpRun):
    """onnx's own takes the batch axis for the channel axis."""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        squares = np.zeros_like(x)
        for channel in range(x.shape[1]):
            first, last = channel - (size - 1) // 2, channel + size // 2
            squares[:, channel] = (x[:, max(0, first) : last + 1] ** 2).sum(axis=1)
        return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)


OPERATORS = (LRN,)
