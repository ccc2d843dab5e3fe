"""ReLUs by other names: what cuts off all that is below zero."""

import onnx_ir as ir

from onnxviz.graph.families import family
from onnxviz.graph.ops import constant_of
from onnxviz.graph.quantisation import scale_when_made

# What may be below zero; a maximum, a join or a mean of what was rectified is not.
_SUMS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Sum", "BatchNormalization"))


def is_rectifier(node: ir.Node) -> bool:
    """Whether an operator answers 0 for all that is below 0, and says so in its kind or its constants."""
    fused = node.attributes.get_string("activation", "") == "Relu"
    return node.op_type == "Relu" or fused or is_clip_at_zero(node) or is_quantiser_at_zero(node)


def is_clip_at_zero(node: ir.Node) -> bool:
    """Whether it is a Clip from 0 on, as a ReLU6 is exported."""
    if node.op_type != "Clip" or len(node.inputs) < 2:
        return False
    low = constant_of(node.inputs[1])
    return low is not None and low.size == 1 and low.item() == 0


def is_quantiser_at_zero(node: ir.Node) -> bool:
    """Whether it quantises sums to a range that begins at 0: a quantiser that a ReLU was folded into."""
    y = node.outputs[0]
    made = scale_when_made(y)
    if made is None or y.dtype is None or not y.dtype.is_integer():
        return False
    before = node.inputs[0].producer() if node.op_type == "QuantizeLinear" and node.inputs[0] else node
    if before is None or family(before.op_type) not in _SUMS:
        return False
    return bool((made[1].astype(int) == y.dtype.min).all())
