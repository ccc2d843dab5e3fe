"""Reductions."""

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array


class ReduceLogSumExp(OpRun):
    """onnx's own is no number where all are -inf."""

    def _run(
        self, x: Array, axes: Array | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> tuple[Array]:
        named = () if axes is None else tuple(axes)
        over = named if named or noop_with_empty_axes else None
        y = np.logaddexp.reduce(x, axis=over, keepdims=True)
        return (y if keepdims else y.squeeze(over),)


OPERATORS = (ReduceLogSumExp,)
