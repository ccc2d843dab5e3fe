"""Operators on quantised tensors, each beside its twin of floats; test_quantization checks them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

M = "com.microsoft"


@dataclass(frozen=True)
class Quantised:
    """A quantised tensor q has the scale sq and the zero point zq, those of the output are sy and zy.

    `body` computes y from the integers in `inputs`, and `twin` from the floats, in capitals, that they stand
    for. A tensor in `places` has one scale and zero point for each place on that axis. `out` is y's type.
    """

    inputs: str
    body: str
    twin: str
    out: str = "uint8"
    cut: bool = True  # whether y's range cuts off some of what comes out
    places: Mapping[str, int] = field(default_factory=dict)
    feeds: Mapping[str, object] = field(default_factory=dict)


QUANTISED: dict[str, Quantised] = {}


def add(key: str, inputs: str, body: str, twin: str, **more: object) -> None:
    assert key not in QUANTISED, key
    QUANTISED[key] = Quantised(inputs, body, twin, **more)  # type: ignore[arg-type]


def add_contrib(operator: str, what: str, inputs: str, call: str, twin: str, **more: object) -> None:
    """A case of an operator of com.microsoft; `call` is its attributes and arguments."""
    add(f"{M}::{operator}-{what}", inputs, f"y = {M}.{operator}{call}", twin, **more)


_CONV = "<group=2, strides=[2,1], pads=[1,0,0,1]>"
_MAPS, _FILTERS = "uint8[2,4,5,6] a", "int8[6,2,3,3] w"
for _what, _places in (("plain", {}), ("filters", {"w": 0})):
    add(
        f"QLinearConv-{_what}",
        f"{_MAPS}, {_FILTERS}",
        f"y = QLinearConv{_CONV}(a, sa, za, w, sw, zw, sy, zy)",
        f"y = Conv{_CONV}(A, W)",
        places=_places,
    )
add(
    "QLinearConv-bias",
    f"{_MAPS}, {_FILTERS}, int32[6] b",
    f"y = QLinearConv{_CONV}(a, sa, za, w, sw, zw, sy, zy, b)",
    f"y = Conv{_CONV}(A, W, B)",
    feeds={"sa": 0.5, "sw": 0.25, "sb": 0.125, "zb": 0},
)
_IN, _OUT = "t = Transpose<perm=[0,3,1,2]>(A)", "y = Transpose<perm=[0,2,3,1]>(c)"
add_contrib(
    "QLinearConv",
    "last",
    "uint8[2,5,6,3] a, int8[4,3,2,3] w",
    "<channels_last=1, kernel_shape=[2,3], strides=[2,1]>(a, sa, za, w, sw, zw, sy, zy)",
    f"{_IN} c = Conv<strides=[2,1]>(t, W) {_OUT}",
)
for _what, _kind, _places in (("plain", "uint8", {}), ("int8", "int8", {}), ("columns", "uint8", {"b": 1})):
    add(
        f"QLinearMatMul-{_what}",
        f"{_kind}[2,3,4] a, {_kind}[4,5] b",
        "y = QLinearMatMul(a, sa, za, b, sb, zb, sy, zy)",
        "y = MatMul(A, B)",
        out=_kind,
        places=_places,
    )

_TWO = "(a, sa, za, b, sb, zb, sy, zy)"
add_contrib("QLinearAdd", "plain", "uint8[2,3,4] a, uint8[3,1] b", _TWO, "y = Add(A, B)")
add_contrib("QLinearAdd", "int8", "int8[2,3,4] a, int8[2,3,4] b", _TWO, "y = Add(A, B)", out="int8")
add_contrib("QLinearMul", "plain", "uint8[2,3,4] a, uint8[3,1] b", _TWO, "y = Mul(A, B)")
add_contrib(
    "QLinearConcat",
    "plain",
    "uint8[2,3] a, uint8[2,4] b",
    "<axis=1>(sy, zy, a, sa, za, b, sb, zb)",
    "y = Concat<axis=1>(A, B)",
)
add_contrib(
    "QLinearWhere",
    "plain",
    "bool[3] c, uint8[8,3] a, uint8[8,3] b",
    "(c, a, sa, za, b, sb, zb, sy, zy)",
    "y = Where(c, A, B)",
    feeds={"c": [True, False, True]},
)

_ONE = "(a, sa, za, sy, zy)"
add_contrib("QLinearSigmoid", "plain", "uint8[2,3,4] a", _ONE, "y = Sigmoid(A)")
add_contrib("QLinearLeakyRelu", "plain", "uint8[2,3,4] a", _ONE, "y = LeakyRelu(A)")
add_contrib(
    "QLinearLeakyRelu", "alpha", "int8[9] a", f"<alpha=0.3>{_ONE}", "y = LeakyRelu<alpha=0.3>(A)", out="int8"
)
add_contrib(
    "QLinearSoftmax", "plain", "uint8[2,3,4] a", f"<axis=-1, opset=13>{_ONE}", "y = Softmax(A)", cut=False
)
add_contrib(
    "QLinearSoftmax",
    "flat",
    "uint8[2,3,4] a",
    f"<axis=1, opset=9>{_ONE}",
    "t = Flatten(A) s = Softmax(t) k = Shape(A) y = Reshape(s, k)",
    cut=False,
)
_POOL = "kernel_shape=[2,3], strides=[1,2], pads=[1,0,0,1]"
add_contrib("QLinearAveragePool", "plain", _MAPS, f"<{_POOL}>{_ONE}", f"y = AveragePool<{_POOL}>(A)")
add_contrib(
    "QLinearAveragePool",
    "last",
    _MAPS,
    f"<channels_last=1, {_POOL}>{_ONE}",
    f"{_IN} c = AveragePool<{_POOL}>(t) {_OUT}",
)
add_contrib("QLinearGlobalAveragePool", "plain", _MAPS, _ONE, "y = GlobalAveragePool(A)")
add_contrib(
    "QLinearGlobalAveragePool",
    "last",
    _MAPS,
    f"<channels_last=1>{_ONE}",
    f"{_IN} c = GlobalAveragePool(t) {_OUT}",
)
_GEMM = "<transA=1, transB=1, alpha=0.5>"
for _what, _places in (("plain", {}), ("columns", {"b": 0})):
    add_contrib(
        "QGemm",
        _what,
        "uint8[4,3] a, int8[5,4] b",
        f'{_GEMM}(a, sa, za, b, sb, zb, "", sy, zy)',
        f"y = Gemm{_GEMM}(A, B)",
        places=_places,
    )

# Those whose output are floats, or plain sums of integers

add_contrib(
    "QGemm", "floats", "uint8[3,4] a, int8[4,5] b", "(a, sa, za, b, sb, zb)", "y = Gemm(A, B)", out="float"
)
add_contrib(
    "MatMulIntegerToFloat",
    "plain",
    "uint8[2,3,4] a, int8[4,5] b",
    "(a, b, sa, sb, za, zb)",
    "y = MatMul(A, B)",
    out="float",
)
add_contrib(
    "MatMulIntegerToFloat",
    "columns",
    "uint8[3,4] a, int8[4,5] b",
    "(a, b, sa, sb, za, zb)",
    "y = MatMul(A, B)",
    out="float",
    places={"b": 1},
)
add_contrib(
    "QAttention",
    "plain",
    "uint8[2,3,6] a, int8[6,24] w, float[24] b",
    "<num_heads=2>(a, w, b, sa, sw, m, za, zw)".replace("m,", '"",'),
    f"y = {M}.Attention<num_heads=2>(A, W, b)",
    out="float",
    feeds={"b": [0.25, -0.5, 0.125] * 8},
)
# With scales of one, the integers less their zero points are the floats.
for _what, _args, _call in (("plain", "(a, b, za, zb)", ""), ("columns", "(a, b, za, zb)", "b")):
    add(
        f"MatMulInteger-{_what}",
        "uint8[2,3,4] a, int8[4,5] b",
        f"z = MatMulInteger{_args} y = Cast<to=1>(z)",
        "y = MatMul(A, B)",
        out="float",
        places=dict.fromkeys(_call, 1),
        feeds={"sa": 1, "sb": [1] * 5 if _call else 1},
    )
add(
    "MatMulInteger-bare",
    "uint8[3,4] a, uint8[4,5] b",
    "z = MatMulInteger(a, b) y = Cast<to=1>(z)",
    "y = MatMul(A, B)",
    out="float",
    feeds={"sa": 1, "sb": 1, "za": 0, "zb": 0},
)
add(
    "ConvInteger-plain",
    "uint8[2,4,5,6] a, uint8[6,2,3,3] w",
    f"z = ConvInteger{_CONV}(a, w, za, zw) y = Cast<to=1>(z)",
    f"y = Conv{_CONV}(A, W)",
    out="float",
    feeds={"sa": 1, "sw": 1},
)

BY_HAND = frozenset(
    (
        "Cast",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QuantizeLinear",
        f"{M}::DequantizeLinear",
        f"{M}::DynamicQuantizeMatMul",
        f"{M}::QuantizeLinear",
    )
)
"""What has tests of its own there."""

OPERATORS = frozenset(key.split("-")[0] for key in QUANTISED) | (BY_HAND - {"Cast"})
