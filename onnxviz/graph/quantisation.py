"""The scale and zero point of quantised tensors, read from the nodes around them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.graph.ops import constant_of

Scale: TypeAlias = tuple[npt.NDArray[Any], npt.NDArray[Any]]

# Where an operator names the scale of its output; the zero point comes behind it.
_OUTPUT_SCALE = {
    "QuantizeLinear": 1,
    "QLinearConv": 6,
    "QLinearMatMul": 6,
    "QLinearAdd": 6,
    "QLinearMul": 6,
    "QLinearConcat": 0,
    "QLinearGlobalAveragePool": 3,
    "QLinearAveragePool": 3,
    "QLinearSigmoid": 3,
    "QLinearLeakyRelu": 3,
    "QLinearSoftmax": 3,
}
_KEEPS_SCALE = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity")


def scale_of(value: ir.Value) -> Scale | None:
    """Scale and zero point of a quantised tensor; None where no constant tells them."""
    made = scale_when_made(value)
    return made if made is not None else _scale_when_read(value)


def as_floats(value: ir.Value, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What a tensor holds as floats: dequantised where its scale is known; floats as they are."""
    if array.dtype.kind not in "iu":
        return array
    scale = scale_of(value)
    return array.astype(np.float32) if scale is None else dequantised(array, *scale)


def dequantised(
    array: npt.NDArray[Any], scale: npt.NDArray[Any], zero: npt.NDArray[Any], axis: int = 1
) -> npt.NDArray[np.float32]:
    """(array - zero point) * scale in float32, along `axis` where the scale is one per channel."""
    shape = [1] * array.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    exact = array.astype(np.float32) - zero.astype(np.float32).reshape(shape if zero.size > 1 else ())
    return exact * scale.astype(np.float32).reshape(shape if scale.size > 1 else ())


def scale_when_made(value: ir.Value) -> Scale | None:
    """Scale and zero point as the node that makes a quantised tensor names them; None where none does."""
    node = value.producer()
    if node is not None and node.op_type in _OUTPUT_SCALE:
        return _constants(node.inputs[_OUTPUT_SCALE[node.op_type] :])
    if node is not None and node.op_type in _KEEPS_SCALE and node.inputs[0] is not None:
        return scale_when_made(node.inputs[0])
    return None


def _scale_when_read(value: ir.Value) -> Scale | None:
    """An operator that reads a quantised tensor names its scale and zero point right behind it."""
    for use in value.uses():
        node, found = use.node, None
        if node.op_type == "DequantizeLinear" or node.op_type.startswith("QLinear"):
            found = _constants(node.inputs[use.idx + 1 :])
        elif node.op_type in _KEEPS_SCALE and use.idx == 0:
            found = _scale_when_read(node.outputs[0])
        if found is not None:
            return found
    return None


def _constants(parts: Sequence[ir.Value | None]) -> Scale | None:
    scale, zero = (constant_of(part) for part in (*parts[:2], None, None)[:2])
    if scale is None:
        return None
    return scale, np.zeros_like(scale) if zero is None else zero
