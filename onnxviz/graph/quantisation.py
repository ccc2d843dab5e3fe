"""The scale and zero point of quantised tensors, read from the nodes around them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.graph.ops import constant_of

_KEEPS_SCALE = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity")


def scale_of(value: ir.Value) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Scale and zero point of a quantised tensor; None where no constant tells them.

    The operators that read a quantised tensor name both right behind it.
    """
    for use in value.uses():
        node, place = use.node, use.idx
        if node.op_type == "DequantizeLinear" or node.op_type.startswith("QLinear"):
            scale, zero = (constant_of(v) for v in (*node.inputs[place + 1 : place + 3], None, None)[:2])
            if scale is not None:
                return scale, np.zeros_like(scale) if zero is None else zero
        if node.op_type in _KEEPS_SCALE and place == 0:
            found = scale_of(node.outputs[0])
            if found is not None:
                return found
    return None


def dequantised(
    array: npt.NDArray[Any], scale: npt.NDArray[Any], zero: npt.NDArray[Any], axis: int = 1
) -> npt.NDArray[np.float32]:
    """(array - zero point) * scale in float32, along `axis` where the scale is one per channel."""
    shape = [1] * array.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    exact = array.astype(np.float32) - zero.astype(np.float32).reshape(shape if zero.size > 1 else ())
    return exact * scale.astype(np.float32).reshape(shape if scale.size > 1 else ())
