"""Classical machine learning."""

from typing import Any

from onnx.reference.ops.aionnxml.op_normalizer import Normalizer as OnnxNormalizer

from onnxviz._reference.arrays import Array


class Normalizer(OnnxNormalizer):
    """onnx's own takes the largest magnitude for MAX."""

    def _run(self, x: Array, norm: str = "MAX") -> tuple[Array]:
        other: Any = super()._run
        return (x / x.max(axis=-1, keepdims=True),) if norm == "MAX" else other(x, norm)


OPERATORS = (Normalizer,)
