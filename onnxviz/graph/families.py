"""Families of operators: one meaning under several names."""

from collections.abc import Collection

import onnx_ir as ir

_NAMES = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization BiasGelu BitShift Cast CastLike Ceil Celu
    Clip Cos Cosh DequantizeLinear Div Dropout Elu Equal Erf Exp FastGelu Floor Gelu Greater GreaterOrEqual
    HardSigmoid HardSwish Identity IsInf IsNaN LRN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul
    Neg Not Or PRelu Pow QuantizeLinear QuickGelu Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh
    Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""

ELEMENTWISE = frozenset(_NAMES.split())
"""Operators whose output at a position depends on its inputs at that position alone (channels may mix)."""


def family(op_type: str) -> str:
    """The plain name of an operator that was quantised, fused or laid out anew: QLinearConv is Conv."""
    name = op_type
    for prefix in ("QLinear", "Nhwc", "Fused"):
        name = name.removeprefix(prefix)
    if name in ("ConvInteger", "MatMulInteger"):
        name = name.removesuffix("Integer")
    return "Gemm" if name == "QGemm" else name or op_type


def in_family(node: ir.Node, families: Collection[str]) -> bool:
    """Whether a node's operator, or the plain form of it in the same layout, is among `families`."""
    return node.op_type in families or (
        family(node.op_type) in families and not node.op_type.startswith("Nhwc")
    )
