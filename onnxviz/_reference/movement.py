"""Operators that only move data, and Resize."""

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_resize import Resize as OnnxResize

from onnxviz._reference.arrays import Array, halves


class Resize(OnnxResize):
    """onnx's own takes no negative axes."""

    def _run(self, x: Array, *rest: Any, **attributes: Any) -> tuple[Array]:  # type: ignore[override]
        axes = attributes.pop("axes")
        attributes["axes"] = None if axes is None else [axis % x.ndim for axis in axes]
        (y,) = super()._run(x, *rest, **attributes)
        return (y,)


class Pad(OpRun):
    """onnx's own refuses negative pads, which cut."""

    def _run(
        self,
        x: Array,
        pads: Array,
        value: Array | None = None,
        axes: Array | None = None,
        mode: str = "constant",
    ) -> tuple[Array]:
        begin, end = halves(pads.tolist(), len(pads) // 2)
        for axis, first, last in zip(range(x.ndim) if axes is None else axes, begin, end, strict=True):
            x = x.take(np.arange(max(0, -first), x.shape[axis] + min(0, last)), axis)
            width = [(0, 0)] * x.ndim
            width[axis] = (max(0, first), max(0, last))
            fill = {"constant_values": 0 if value is None else value.item()} if mode == "constant" else {}
            x = np.pad(x, width, mode, **fill)  # type: ignore[call-overload]
        return (x,)


class Dropout(OpRun):
    """onnx's own cannot do without a ratio in training."""

    def _run(
        self, x: Array, ratio: Array | None = None, training: Array | None = None, seed: int | None = None
    ) -> tuple[Array, ...]:
        rate = float(training or 0) * float(0.5 if ratio is None else ratio)
        mask = np.random.RandomState(seed).uniform(size=x.shape) >= rate
        return (np.asarray(x * mask / (1 - rate), x.dtype), mask)[: len(self.output)]


OPERATORS = (Dropout, Pad, Resize)
