"""Pools."""

import math
from collections.abc import Sequence

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array, Ints, halves


class MaxPool(OpRun):
    """onnx's own gives no indices at stride 1, and rounds the size of SAME_LOWER down."""

    def _run(
        self,
        x: Array,
        auto_pad: str,
        ceil_mode: int,
        dilations: Ints,
        kernel_shape: Sequence[int],
        pads: Ints,
        storage_order: int,
        strides: Ints,
    ) -> tuple[Array, ...]:
        pool = _Pool(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
        read = pool.windows(x, -np.inf, -np.inf)
        largest = read.argmax(axis=-1)[..., None]
        order = "F" if storage_order else "C"
        plane = np.arange(math.prod(pool.sizes)).reshape(pool.sizes, order=order)  # type: ignore[call-overload]
        offsets = np.arange(x.shape[0] * x.shape[1]) * plane.size
        places = offsets.reshape(*x.shape[:2], *[1] * len(pool.sizes)) + plane
        where = np.take_along_axis(pool.windows(places, -1, -1), largest, axis=-1)[..., 0]
        y = np.take_along_axis(read, largest, axis=-1)[..., 0]
        return (y, where.astype(np.int64))[: len(self.output)]


class AveragePool(OpRun):
    """onnx's own shifts the windows that `ceil_mode` adds, and pads wrongly for SAME with dilations."""

    def _run(
        self,
        x: Array,
        auto_pad: str,
        ceil_mode: int,
        count_include_pad: int,
        kernel_shape: Sequence[int],
        pads: Ints,
        strides: Ints,
        dilations: Ints = None,
    ) -> tuple[Array]:
        pool = _Pool(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
        counted = np.ones((1, 1, *pool.sizes), x.dtype)
        divisor = pool.windows(counted, float(count_include_pad), 0.0).sum(axis=-1)
        return (pool.windows(x, 0.0, 0.0).sum(axis=-1) / divisor,)


class LpPool(OpRun):
    """onnx's own divides by what the windows hold, and multiplies by the size of the kernel."""

    def _run(
        self,
        x: Array,
        auto_pad: str,
        ceil_mode: int,
        dilations: Ints,
        kernel_shape: Sequence[int],
        p: int,
        pads: Ints,
        strides: Ints,
    ) -> tuple[Array]:
        pool = _Pool(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
        return ((np.abs(pool.windows(x, 0.0, 0.0)) ** p).sum(axis=-1) ** (1 / p),)


class GlobalLpPool(OpRun):
    """onnx has none."""

    def _run(self, x: Array, p: int) -> tuple[Array]:
        return ((np.abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)


class GlobalMaxPool(OpRun):
    """onnx's own is right for two spatial axes alone."""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class _Pool:
    """Where the windows of a pool lie."""

    def __init__(
        self,
        x: Array,
        auto_pad: str,
        ceil_mode: int,
        dilations: Ints,
        kernel: Sequence[int],
        pads: Ints,
        strides: Ints,
    ) -> None:
        rank = len(kernel)
        self.sizes = x.shape[2:]
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        self.begin, self.end = halves(pads if auto_pad == "NOTSET" else None, rank)
        self.reads = []
        for axis, (size, s, k, d) in enumerate(zip(self.sizes, stride, kernel, dilation, strict=True)):
            span = (k - 1) * d + 1
            if auto_pad.startswith("SAME"):
                out = math.ceil(size / s)
                total = max(0, (out - 1) * s + span - size)
                self.begin[axis] = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
                self.end[axis] = total - self.begin[axis]
            else:
                room = size + self.begin[axis] + self.end[axis] - span
                out = (math.ceil(room / s) if ceil_mode else room // s) + 1
                # No window starts behind the input and its first padding.
                if ceil_mode and (out - 1) * s >= size + self.begin[axis]:
                    out -= 1
            self.reads.append(np.arange(out)[:, None] * s + np.arange(k) * d)

    def windows(self, x: Array, padding: float, beyond: float) -> Array:
        """[N, C, ..., k]: the k inputs that each window reads.

        It reads `padding` in the pads, and `beyond` where `ceil_mode` lets it reach out further.
        """
        pads = [(0, 0), (0, 0), *zip(self.begin, self.end, strict=True)]
        padded = np.pad(x, pads, constant_values=padding)
        rank = len(self.sizes)
        for axis in reversed(range(rank)):
            missing = max(0, int(self.reads[axis].max()) + 1 - padded.shape[2 + axis])
            width = [(0, 0)] * padded.ndim
            width[2 + axis] = (0, missing)
            padded = np.pad(padded, width, constant_values=beyond).take(self.reads[axis], 2 + axis)
        outs, taps = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
        read = padded.transpose(0, 1, *outs, *taps)
        return read.reshape(*read.shape[: 2 + rank], -1)


OPERATORS = (MaxPool, AveragePool, LpPool, GlobalLpPool, GlobalMaxPool)
