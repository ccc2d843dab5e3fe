"""Elementwise functions."""

import math

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array


def erf(x: Array) -> Array:
    """The error function, in the type of x."""
    return np.asarray(np.vectorize(math.erf, otypes=[x.dtype])(x))


class Erf(OpRun):
    """onnx's own rounds to float32."""

    def _run(self, x: Array) -> tuple[Array]:
        return (erf(x),)


class Mean(OpRun):
    """onnx's own cannot stretch its first operand."""

    def _run(self, *operands: Array) -> tuple[Array]:
        return (np.asarray(sum(operands) / len(operands), operands[0].dtype),)


class Multinomial(OpRun):
    """onnx has none."""

    def _run(self, logits: Array, dtype: int, sample_size: int, seed: float | None = None) -> tuple[Array]:
        rng = np.random.default_rng(None if seed is None else int(seed))
        noisy = logits[:, None, :] + rng.gumbel(size=(len(logits), sample_size, logits.shape[1]))
        return (noisy.argmax(axis=-1).astype(tensor_dtype_to_np_dtype(dtype)),)


OPERATORS = (Erf, Mean, Multinomial)
