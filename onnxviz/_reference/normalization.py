"""Normalisation layers."""

from collections.abc import Sequence

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


class LpNormalization(OpRun):
    """onnx's own takes no absolute values, and axis 0 for the last."""

    def _run(self, x: Array, axis: int, p: int) -> tuple[Array]:
        norm = np.linalg.norm(x, ord=p, axis=axis, keepdims=True)
        return (np.divide(x, norm, out=np.zeros_like(x), where=norm != 0),)


class GroupNormalization(OpRun):
    """onnx's own rounds to float32."""

    def _run(
        self, x: Array, scale: Array, shift: Array, epsilon: float, num_groups: int, **_stash: object
    ) -> tuple[Array]:
        grouped = x.reshape(len(x), num_groups, -1)
        centred = grouped - grouped.mean(axis=-1, keepdims=True)
        normal = centred / np.sqrt(grouped.var(axis=-1, keepdims=True) + epsilon)
        per_scale = normal.reshape(len(x), len(scale), -1)
        return ((per_scale * scale[:, None] + shift[:, None]).reshape(x.shape).astype(x.dtype),)


class LayerNormalization(OpRun):
    """onnx's own computes in float32, and refuses to do otherwise."""

    def _run(
        self,
        x: Array,
        scale: Array,
        bias: Array | None = None,
        *,
        axis: int,
        epsilon: float,
        **_stash: object,
    ) -> tuple[Array, Array, Array]:
        over = tuple(range(axis % x.ndim, x.ndim))
        mean = x.mean(axis=over, keepdims=True)
        inverse = 1 / np.sqrt(x.var(axis=over, keepdims=True) + epsilon)
        y = (x - mean) * inverse * scale + (0 if bias is None else bias)
        return y.astype(x.dtype), mean.astype(x.dtype), inverse.astype(x.dtype)


class MeanVarianceNormalization(OpRun):
    """onnx's own mixes float32 into other floats."""

    def _run(self, x: Array, axes: Sequence[int]) -> tuple[Array]:
        over = tuple(axes)
        deviation = x.std(axis=over, keepdims=True) + 1e-9
        return (((x - x.mean(axis=over, keepdims=True)) / deviation).astype(x.dtype),)


OPERATORS = (LRN, GroupNormalization, LayerNormalization, MeanVarianceNormalization, LpNormalization)
