"""Optimizers."""

from typing import Any

from onnx.reference.ops.aionnx_preview_training.op_adam import Adam as OnnxAdam

from onnxviz._reference.arrays import Array


class Adam(OnnxAdam):
    """onnx's own turns several tensors into float32."""

    def _run(  # type: ignore[override]
        self, rate: Array, steps: Array, *tensors: Array, **attributes: Any
    ) -> tuple[Array, ...]:
        step: Any = super()._run
        count = len(tensors) // 4
        made = [step(rate, steps, *tensors[first::count], **attributes) for first in range(count)]
        return tuple(y for kind in zip(*made, strict=True) for y in kind)


OPERATORS = (Adam,)
