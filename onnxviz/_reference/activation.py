"""Activation functions."""

import math

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array
from onnxviz._reference.elementwise import erf


class Gelu(OpRun):
    """onnx's own rounds to float32."""

    def _run(self, x: Array, approximate: str) -> tuple[Array]:
        if approximate == "tanh":
            gate = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        else:
            gate = erf(x / math.sqrt(2))
        return ((0.5 * x * (1 + gate)).astype(x.dtype),)


OPERATORS = (Gelu,)
