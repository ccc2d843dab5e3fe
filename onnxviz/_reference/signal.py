"""Fourier transforms and filters."""

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array


class CausalConvWithState(OpRun):
    """onnx's own computes the activation in float32."""

    def _run(
        self,
        x: Array,
        w: Array,
        bias: Array | None = None,
        past: Array | None = None,
        activation: str = "none",
    ) -> tuple[Array, Array]:
        taps = w.shape[2]
        before = np.zeros((*x.shape[:2], taps - 1), x.dtype) if past is None else past
        padded = np.concatenate([before, x], axis=2)
        y = sum(padded[:, :, tap : tap + x.shape[2]] * w[:, 0, tap, None] for tap in range(taps))
        y = y if bias is None else y + bias[:, None]
        y = y if activation == "none" else y / (1 + np.exp(-y))
        return np.asarray(y, x.dtype), padded[:, :, x.shape[2] :]


OPERATORS: tuple[type[OpRun], ...] = (CausalConvWithState,)
