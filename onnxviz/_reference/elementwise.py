"""Elementary functions."""

import math

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array


class Erf(OpRun):
    """onnx's own rounds to float32."""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


OPERATORS = (Erf,)
