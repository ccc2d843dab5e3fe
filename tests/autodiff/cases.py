"""The case table: each operator that has a rule, its attributes crossed with the branches of the rule.

A key is "Operator-what". The inputs and the body are ONNX text whose floats are written `double`, so that
the same case is built in other float types; every float input is differentiated, and `y` is the output.
Inputs are standard normal numbers, positive ones where the name begins with `p`, and off the kinks; other
types are fed from `feeds`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx.parser
import onnxruntime


@dataclass(frozen=True)
class Case:
    inputs: str
    body: str
    feeds: Mapping[str, object] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    since: int = 18
    runs: int = 18  # the first opset of which ONNX Runtime runs the gradient


NEVER = 99  # ONNX Runtime has no kernel, or one that leaves the standard

# The checker wants an output's rank, which some operators hide.
FLATTENED = "r = Constant<value_ints=[-1]>() y = Reshape(z, r)"

CASES: dict[str, Case] = {}

NUMPY_TYPES = {"double": np.float64, "float": np.float32, "float16": np.float16}


def model_of(case: Case, dtype: str = "double", opset: int = 18) -> onnx.ModelProto:
    """The case as a model, its floats of another type if asked for."""
    text = f"m ({case.inputs}) => (double[] y) {{ {case.body} }}"
    code = {"double": 11, "float": 1, "float16": 10}[dtype]
    text = re.sub(r"\bdouble\b", dtype, text).replace("DOUBLE", str(code))
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> {text}')


def feeds_of(case: Case, dtype: str = "double", seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for a case's inputs, the same numbers in every float type."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for kind, dims, name in re.findall(r"(\w+)(?:\[([^\]]*)\])? (\w+)", case.inputs):
        if name in case.feeds:
            kind = {"double": dtype, "bool": "bool_"}.get(kind, kind)
            feeds[name] = np.asarray(case.feeds[name], NUMPY_TYPES.get(kind) or getattr(np, kind))
            continue
        shape = [case.sizes[dim] if dim in case.sizes else int(dim) for dim in dims.split(",") if dim]
        numbers = rng.uniform(0.5, 2, shape) if name.startswith("p") else rng.standard_normal(shape)
        feeds[name] = np.asarray(numbers, NUMPY_TYPES[dtype])
    return feeds


def floats_of(case: Case) -> list[str]:
    """The inputs to differentiate."""
    return re.findall(r"double(?:\[[^\]]*\])? (\w+)", case.inputs)


def newest_opset() -> int:
    """The newest operator set that the installed ONNX Runtime loads."""
    for opset in range(onnx.defs.onnx_opset_version(), 18, -1):
        model = model_of(Case("double[1] a", "y = Identity(a)"), "float", opset)
        try:
            onnxruntime.InferenceSession(model.SerializeToString())
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            continue
        return opset
    return 18


def add(key: str, inputs: str, body: str, **more: object) -> None:
    assert key not in CASES, key
    CASES[key] = Case(inputs, body, **more)  # type: ignore[arg-type]


def add_symbolic(key: str, inputs: str, body: str, **more: object) -> None:
    """The case as it is, and with a first input whose batch and spatial sizes are only known when it runs."""
    add(key, inputs, body, **more)
    first, *rest = re.split(r"(?<=\w), (?=double|int64|bool)", inputs)
    kind, dims, name = re.fullmatch(r"(\w+)\[([^\]]*)\] (\w+)", first).groups()  # type: ignore[union-attr]
    shape = [int(dim) for dim in dims.split(",")]
    symbols = ["N", "C", "D", "H", "W"] if len(shape) == 5 else ["N", "C", "H", "W"][: len(shape)]
    symbols[1] = str(shape[1])
    sizes = {symbol: size for symbol, size in zip(symbols, shape, strict=True) if not symbol.isdigit()}
    CASES[f"{key}-symbolic"] = replace(
        CASES[key], inputs=", ".join([f"{kind}[{','.join(symbols)}] {name}", *rest]), sizes=sizes
    )


# Functions of one element

for _operator in ("Identity", "Neg", "Exp", "Abs", "Erf", "Relu", "Sigmoid", "Tanh"):
    add(_operator, "double[2,3] a", f"y = {_operator}(a)")
add("Log", "double[2,3] p", "y = Log(p)")
add("Sqrt", "double[2,3] p", "y = Sqrt(p)")
for _operator in ("Floor", "Ceil", "Round", "Sign"):
    add(_operator, "double[2,3] a", f"s = {_operator}(a) y = Mul(s, a)")
add(
    "ConstantOfShape",
    "double[2,3] a",
    "s = Shape(a) z = ConstantOfShape<value=float[1]{2}>(s) b = Cast<to=DOUBLE>(z) "
    "c = Mul(a, b) y = Mul(a, c)",
)
add("LeakyRelu", "double[2,5] a", "y = LeakyRelu(a)")
add("LeakyRelu-alpha", "double[2,5] a", "y = LeakyRelu<alpha=0.3>(a)")
add("LeakyRelu-negative-alpha", "double[2,5] a", "y = LeakyRelu<alpha=-0.5>(a)")
add("HardSigmoid", "double[3,7] a", "b = Sum(a, a, a, a) y = HardSigmoid(b)")
add("HardSigmoid-alpha", "double[3,7] a", "y = HardSigmoid<alpha=0.7, beta=0.4>(a)")
add("HardSwish", "double[4,9] a", "b = Sum(a, a, a, a) y = HardSwish(b)")
add("PRelu-channel", "double[2,3,4] a, double[3,1] s", "y = PRelu(a, s)")
add("PRelu-one", "double[2,3,4] a, double[1] s", "y = PRelu(a, s)")
add("PRelu-full", "double[2,3] a, double[2,3] s", "y = PRelu(a, s)")
add("PRelu-symbolic", "double[N,3,H] a, double[3,1] s", "y = PRelu(a, s)", sizes={"N": 2, "H": 4})
add("Cast-there-and-back", "double[2,3] a", "h = Cast<to=1>(a) b = Cast<to=DOUBLE>(h) y = Mul(b, a)")
add("Cast-half", "double[2,3] a", "h = Cast<to=10>(a) b = Cast<to=DOUBLE>(h) y = Mul(b, a)")
add("Cast-through-integer", "double[4,9] a", "h = Cast<to=7>(a) b = Cast<to=DOUBLE>(h) y = Mul(b, a)")
add("Dropout", "double[2,3] a", "y = Dropout(a)")
add("Dropout-mask", "double[2,3] a", "y, mask = Dropout(a)")
add("Dropout-ratio", "double[2,3] a", "r = Constant<value=double{0.7}>() y = Dropout(a, r)")
add(
    "Dropout-flag-off",
    "double[2,3] a",
    'f = Constant<value=bool{0}>() y = Dropout(a, "", f)',
)

# Clip: which bounds are given, and what is asked of them

add("Clip-none", "double[3,4] a", "y = Clip(a)")
add("Clip-low", "double[3,4] a, double l", "y = Clip(a, l)", feeds={"l": -0.25})
add("Clip-high", "double[3,4] a, double h", 'y = Clip(a, "", h)', feeds={"h": 0.25})
add("Clip-both", "double[3,4] a, double l, double h", "y = Clip(a, l, h)", feeds={"l": -0.4, "h": 0.3})
add(
    "Clip-constants",
    "double[3,4] a",
    "l = Constant<value=double{-0.3}>() h = Constant<value=double{0.6}>() y = Clip(a, l, h)",
)

# Arithmetic with broadcasting

UNNAMED = {"a": 3, "p": 3, "b": 12, "pb": 12}

for _operator in ("Add", "Sub", "Mul", "Div", "Pow"):
    _p = "p" if _operator in ("Div", "Pow") else ""
    _q = "p" if _operator == "Div" else ""

    def arithmetic(what: str, a: str, b: str, operator: str = _operator, **more: object) -> None:
        first = "p" if operator == "Pow" else "a"
        second = "pb" if operator == "Div" else "b"
        add(
            f"{operator}-{what}",
            f"double{a} {first}, double{b} {second}",
            f"y = {operator}({first}, {second})",
            **more,
        )

    arithmetic("same-shape", "[2,3]", "[2,3]")
    arithmetic("vector-right", "[2,3]", "[3]")
    arithmetic("vector-left", "[3]", "[2,3]")
    arithmetic("scalar-right", "[2,3]", "")
    arithmetic("scalar-left", "", "[2,3]")
    arithmetic("both-stretched", "[2,1,4]", "[3,1]")
    arithmetic("lead-and-ones", "[2,3,1,2]", "[1,4,1]")
    arithmetic("symbolic-same", "[N,3]", "[N,3]", sizes={"N": 2})
    arithmetic("symbolic-one", "[N,3]", "[M,3]", sizes={"N": 1, "M": 4})
    arithmetic("symbolic-other-one", "[N,3]", "[M,K]", sizes={"N": 4, "M": 1, "K": 1})
    arithmetic("symbolic-equal", "[N,3]", "[M,3]", sizes={"N": 2, "M": 2})
    arithmetic("symbolic-rank", "[N,3]", "[K,M,3]", sizes={"N": 1, "M": 4, "K": 2})
    arithmetic("symbolic-number", "[N,3]", "[4,K]", sizes={"N": 1, "K": 1})
    arithmetic("unnamed-size", "[?,3]", "[?,3]", sizes={"?": 2})
    arithmetic(
        "unnamed-stretched",
        "[?,3]",
        "[?,3]",
        feeds={name: np.arange(1, 1 + size).reshape(-1, 3) / 2 for name, size in UNNAMED.items()},
    )
    arithmetic("static-one-against-symbol", "[1,3]", "[N,3]", sizes={"N": 4})
    first = "p" if _operator == "Pow" else "a"
    add(f"{_operator}-twice", f"double[2,3] {first}", f"y = {_operator}({first}, {first})")

add(
    "Pow-negative-base",
    "double[2,3] a",
    "e = Constant<value=double{3}>() y = Pow(a, e)",
)
add("Pow-negative-exponent", "double[2,3] p", "e = Constant<value=double{-1.5}>() y = Pow(p, e)")
add("Pow-integer-exponent", "double[2,3] a, int64[3] e", "y = Pow(a, e)", feeds={"e": [3, 1, 2]})
add(
    "Pow-float32-exponent",
    "double[2,3] p",
    "e = Constant<value=float[3]{2, 0.5, -1}>() y = Pow(p, e)",
)
add(
    "Pow-zero-base",
    "double[4] a, double[4] b",
    "y = Pow(a, b)",
    feeds={"a": [0, 0, 0, 0], "b": [2, 3, 1, 4]},
)
add("Sum-one", "double[2,3] a", "y = Sum(a)")
add("Sum-broadcast", "double[2,3] a, double[3] b, double[4,1,1] c", "y = Sum(a, b, c)")
add("Sum-twice", "double[2,3] a, double[3] b", "y = Sum(a, b, a)")
add("Sum-symbolic", "double[N,3] a, double[M,3] b", "y = Sum(a, b)", sizes={"N": 1, "M": 3})
for _what, _c, _a, _b in (
    ("same", "[2,3]", "[2,3]", "[2,3]"),
    ("stretched-condition", "[1,3]", "[2,3]", "[2,1]"),
    ("scalar", "[2,3]", "[2,3]", ""),
    ("rank", "[3]", "[4,2,3]", "[2,1]"),
):
    _on = {"[2,3]": [[1, 0, 1], [0, 1, 0]], "[1,3]": [[1, 0, 1]], "[3]": [1, 0, 1]}[_c]
    add(f"Where-{_what}", f"bool{_c} c, double{_a} a, double{_b} b", "y = Where(c, a, b)", feeds={"c": _on})
add("Where-computed", "double[2,3] a, double[3] b", "z = Sub(b, b) c = Greater(a, z) y = Where(c, a, b)")
add(
    "Where-symbolic",
    "bool[2,3] c, double[N,3] a, double[M,3] b",
    "y = Where(c, a, b)",
    feeds={"c": [[1, 0, 1], [0, 1, 0]]},
    sizes={"N": 1, "M": 2},
)

# Matrix products

for _ta in (0, 1):
    for _tb in (0, 1):
        _shapes = f"double{['[2,3]', '[3,2]'][_ta]} a, double{['[3,4]', '[4,3]'][_tb]} b"
        for _what, _c in (
            ("none", None),
            ("scalar", ""),
            ("one", "[1]"),
            ("row", "[4]"),
            ("row-matrix", "[1,4]"),
            ("column", "[2,1]"),
            ("full", "[2,4]"),
        ):
            _bias, _use = (f", double{_c} c", ", c") if _c is not None else ("", "")
            add(
                f"Gemm-{'T' if _ta else 'N'}{'T' if _tb else 'N'}-{_what}",
                _shapes + _bias,
                f"y = Gemm<transA={_ta}, transB={_tb}, alpha=0.5, beta=2.0>(a, b{_use})",
            )
add("Gemm-defaults", "double[2,3] a, double[3,4] b, double[4] c", "y = Gemm(a, b, c)")
add(
    "Gemm-symbolic",
    "double[N,3] a, double[3,4] b, double[4] c",
    "y = Gemm<beta=3.0>(a, b, c)",
    sizes={"N": 2},
)
add(
    "Gemm-symbolic-one",
    "double[N,3] a, double[4,3] b, double[M,4] c",
    "y = Gemm<transB=1>(a, b, c)",
    sizes={"N": 1, "M": 1},
)
add("Gemm-twice", "double[3,3] a", "y = Gemm<transB=1>(a, a, a)")

for _what, _a, _b, _sizes in (
    ("vectors", "[3]", "[3]", {}),
    ("vector-matrix", "[3]", "[3,4]", {}),
    ("vector-batch", "[3]", "[2,5,3,4]", {}),
    ("matrix-vector", "[2,3]", "[3]", {}),
    ("batch-vector", "[5,2,4,3]", "[3]", {}),
    ("matrices", "[2,3]", "[3,4]", {}),
    ("batches", "[5,2,3]", "[5,3,4]", {}),
    ("stretch-left", "[1,2,3]", "[5,3,4]", {}),
    ("stretch-right", "[5,2,3]", "[1,3,4]", {}),
    ("stretch-both", "[5,1,2,3]", "[1,6,3,4]", {}),
    ("rank-left", "[2,3]", "[5,3,4]", {}),
    ("rank-right", "[6,5,2,3]", "[5,3,4]", {}),
    ("rank-matrix", "[6,5,2,3]", "[3,4]", {}),
    ("symbolic-batch", "[N,2,3]", "[N,3,4]", {"N": 5}),
    ("symbolic-left", "[N,2,3]", "[3,4]", {"N": 5}),
    ("symbolic-right", "[2,3]", "[N,3,4]", {"N": 5}),
    ("symbolic-one-left", "[N,2,3]", "[M,3,4]", {"N": 1, "M": 5}),
    ("symbolic-one-right", "[N,2,3]", "[M,3,4]", {"N": 5, "M": 1}),
    ("symbolic-one-static", "[N,2,3]", "[1,3,4]", {"N": 5}),
    ("symbolic-number", "[N,2,3]", "[5,3,4]", {"N": 1}),
    ("symbolic-rank", "[N,6,2,3]", "[M,3,4]", {"N": 5, "M": 1}),
    ("symbolic-rows", "[N,L,3]", "[3,4]", {"N": 2, "L": 5}),
    ("symbolic-vector", "[N,L]", "[L]", {"N": 2, "L": 3}),
    ("rank-ones", "[1,1,2,3]", "[5,3,4]", {}),
    ("symbolic-all", "[N,L,K]", "[N,K,L]", {"N": 2, "L": 3, "K": 4}),
):
    add(f"MatMul-{_what}", f"double{_a} a, double{_b} b", "y = MatMul(a, b)", sizes=_sizes)
add(
    "MatMul-unnamed-batch",
    "double[?,2,3] a, double[?,3,4] b",
    "y = MatMul(a, b)",
    feeds={"a": np.arange(6).reshape(1, 2, 3) - 2.5, "b": np.arange(60).reshape(5, 3, 4) % 7 - 3.0},
)
add("MatMul-twice", "double[3,3] a", "y = MatMul(a, a)")

# Convolutions: data, weights and bias together

for _what, _x, _w, _attributes in (
    ("1d", "[2,2,7]", "[3,2,3]", "strides=[2]"),
    ("1d-pads", "[2,2,7]", "[3,2,4]", "strides=[3], pads=[2,1], dilations=[2]"),
    ("3d", "[1,2,4,5,3]", "[3,2,2,3,2]", "strides=[1,2,1], pads=[0,1,0,1,0,1]"),
    ("3d-group", "[2,2,3,4,3]", "[4,1,2,2,2]", "group=2"),
    ("plain", "[2,2,5,6]", "[3,2,3,2]", ""),
    ("pads", "[2,2,5,6]", "[3,2,3,3]", "pads=[1,1,1,1], kernel_shape=[3,3]"),
    ("uneven-pads", "[1,2,5,6]", "[3,2,3,3]", "pads=[0,2,1,0]"),
    ("uneven-pads-stride", "[1,2,6,5]", "[3,2,3,3]", "pads=[0,2,1,0], strides=[2,2]"),
    ("wide-pads", "[1,2,4,5]", "[3,2,2,3]", "pads=[3,1,0,4]"),
    ("wide-pads-stride", "[1,2,4,5]", "[3,2,2,3]", "pads=[3,1,2,4], strides=[2,3]"),
    ("remainder", "[1,2,6,7]", "[3,2,3,2]", "strides=[2,3]"),
    ("remainder-end", "[1,2,8,9]", "[3,2,2,2]", "strides=[3,4], pads=[0,0,1,0]"),
    ("stride-one-axis", "[1,2,6,7]", "[3,2,3,2]", "strides=[1,2]"),
    ("stride-beyond-kernel", "[1,2,7,8]", "[3,2,1,2]", "strides=[3,3]"),
    ("dilated", "[1,2,9,8]", "[3,2,3,2]", "dilations=[2,3], pads=[1,0,2,1]"),
    ("dilated-stride", "[1,2,9,8]", "[3,2,3,2]", "dilations=[2,3], strides=[2,2]"),
    ("group", "[2,4,5,5]", "[6,2,3,3]", "group=2"),
    ("group-stride", "[2,4,5,6]", "[6,2,3,3]", "group=2, strides=[2,2], pads=[1,1,1,1]"),
    ("group-dilated", "[2,4,6,5]", "[2,2,2,2]", "group=2, dilations=[2,1]"),
    ("depthwise", "[2,3,5,5]", "[3,1,3,3]", "group=3"),
    ("depthwise-more", "[2,3,5,5]", "[6,1,3,2]", "group=3, strides=[2,1]"),
    ("row-kernel", "[2,3,4,5]", "[2,3,1,3]", ""),
    ("1x1", "[2,3,4,5]", "[2,3,1,1]", ""),
    ("1x1-group", "[2,4,3,2]", "[6,2,1,1]", "group=2"),
    ("1x1-stride", "[2,3,4,5]", "[2,3,1,1]", "strides=[2,3]"),
    ("1x1-pads", "[1,3,2,3]", "[2,3,1,1]", "pads=[1,0,0,2]"),
    ("same-upper", "[1,2,6,5]", "[3,2,4,3]", 'auto_pad="SAME_UPPER"'),
    ("same-lower", "[1,2,6,5]", "[3,2,4,3]", 'auto_pad="SAME_LOWER"'),
    ("same-upper-stride", "[1,2,7,6]", "[3,2,4,3]", 'auto_pad="SAME_UPPER", strides=[2,2]'),
    ("same-lower-stride", "[1,2,7,6]", "[3,2,4,3]", 'auto_pad="SAME_LOWER", strides=[2,2]'),
    ("same-lower-even", "[1,2,8,9]", "[3,2,3,2]", 'auto_pad="SAME_LOWER", strides=[2,3]'),
    ("same-upper-skip", "[1,2,7,8]", "[3,2,1,2]", 'auto_pad="SAME_UPPER", strides=[3,3]'),
    ("same-upper-mixed", "[1,2,7,6]", "[3,2,4,3]", 'auto_pad="SAME_UPPER", strides=[1,2]'),
    ("same-upper-dilated", "[1,2,7,8]", "[3,2,3,2]", 'auto_pad="SAME_UPPER", dilations=[2,3]'),
    ("same-lower-group", "[2,4,7,6]", "[2,2,3,4]", 'auto_pad="SAME_LOWER", strides=[2,2], group=2'),
    ("valid", "[1,2,6,5]", "[3,2,4,3]", 'auto_pad="VALID"'),
    ("valid-stride", "[1,2,7,6]", "[3,2,4,3]", 'auto_pad="VALID", strides=[2,2]'),
):
    _filters = re.match(r"\[(\d+)", _w).group(1)  # type: ignore[union-attr]
    _call = f"Conv<{_attributes}>" if _attributes else "Conv"
    add_symbolic(
        f"Conv-{_what}", f"double{_x} a, double{_w} w, double[{_filters}] b", f"y = {_call}(a, w, b)"
    )
add("Conv-no-bias", "double[1,2,5,6] a, double[3,2,3,3] w", "y = Conv(a, w)")
add("Conv-by-itself", "double[2,2,3,3] a", "y = Conv<pads=[1,1,1,1]>(a, a)")
add(
    "Conv-symbolic-batch",
    "double[N,2,6,7] a, double[3,2,3,2] w",
    "y = Conv<strides=[2,3]>(a, w)",
    sizes={"N": 2},
)
add(
    "Conv-symbolic-height",
    "double[2,2,H,7] a, double[3,2,3,2] w",
    'y = Conv<strides=[2,3], auto_pad="SAME_UPPER">(a, w)',
    sizes={"H": 6},
)
add(
    "Conv-symbolic-weight",
    "double[1,2,6,7] a, double[M,2,3,2] w",
    "y = Conv<strides=[2,1], kernel_shape=[3,2]>(a, w)",
    sizes={"M": 3},
)

for _what, _x, _w, _attributes, _symbolic in (
    ("1d", "[2,2,4]", "[2,3,3]", "strides=[2]", True),
    ("3d", "[1,2,2,3,2]", "[2,3,2,3,2]", "strides=[1,2,1], pads=[0,1,0,1,0,1]", True),
    ("plain", "[2,2,4,3]", "[2,3,3,2]", "", True),
    ("pads", "[2,2,4,3]", "[2,3,3,3]", "pads=[1,1,1,1], kernel_shape=[3,3]", True),
    ("uneven-pads", "[1,2,4,5]", "[2,3,3,3]", "pads=[0,2,1,0], strides=[2,2]", True),
    ("stride", "[1,2,3,4]", "[2,3,3,2]", "strides=[2,3]", True),
    ("output-padding", "[1,2,3,4]", "[2,3,3,2]", "strides=[2,3], output_padding=[1,2]", True),
    (
        "output-padding-pads",
        "[1,2,3,4]",
        "[2,3,3,4]",
        "strides=[3,2], output_padding=[2,1], pads=[1,0,0,2]",
        True,
    ),
    ("dilated", "[1,2,4,3]", "[2,3,3,2]", "dilations=[2,3]", True),
    ("dilated-stride", "[1,2,4,3]", "[2,3,3,2]", "dilations=[2,3], strides=[2,2], pads=[1,0,2,1]", True),
    ("group", "[2,4,3,4]", "[4,3,2,3]", "group=2, strides=[2,1]", True),
    ("depthwise", "[2,3,3,4]", "[3,1,2,3]", "group=3, strides=[2,2], pads=[1,1,0,0]", True),
    ("1x1", "[2,3,3,4]", "[3,2,1,1]", "", True),
    ("same-upper", "[1,2,3,4]", "[2,3,4,3]", 'auto_pad="SAME_UPPER", strides=[2,2]', True),
    ("same-lower", "[1,2,3,4]", "[2,3,4,3]", 'auto_pad="SAME_LOWER", strides=[2,2]', True),
    ("same-upper-one", "[1,2,3,4]", "[2,3,4,3]", 'auto_pad="SAME_UPPER"', True),
    ("same-lower-dilated", "[1,2,3,4]", "[2,3,3,2]", 'auto_pad="SAME_LOWER", dilations=[2,3]', True),
    (
        "same-skip",
        "[1,2,3,4]",
        "[2,3,1,2]",
        'auto_pad="SAME_UPPER", strides=[2,3], output_padding=[1,1]',
        True,
    ),
    ("valid", "[1,2,3,4]", "[2,3,4,3]", 'auto_pad="VALID", strides=[2,2]', True),
    ("output-shape-beyond", "[1,2,3,4]", "[2,3,1,2]", "output_shape=[6,13], strides=[2,3]", False),
    ("output-shape", "[1,2,3,4]", "[2,3,4,3]", "output_shape=[6,8], strides=[2,2]", False),
    (
        "output-shape-upper",
        "[1,2,3,4]",
        "[2,3,4,3]",
        'output_shape=[5,7], strides=[2,2], auto_pad="SAME_UPPER"',
        False,
    ),
    (
        "output-shape-extra",
        "[1,2,3,4]",
        "[2,3,4,3]",
        "output_shape=[6,9], strides=[2,2], output_padding=[1,1]",
        False,
    ),
):
    _filters, _group = re.match(r"\[\d+,(\d+)", _w).group(1), re.search(r"group=(\d)", _attributes)  # type: ignore[union-attr]
    _channels = int(_filters) * int(_group.group(1) if _group else 1)
    _call = f"ConvTranspose<{_attributes}>" if _attributes else "ConvTranspose"
    (add_symbolic if _symbolic else add)(
        f"ConvTranspose-{_what}",
        f"double{_x} a, double{_w} w, double[{_channels}] b",
        f"y = {_call}(a, w, b)",
    )
add("ConvTranspose-no-bias", "double[1,2,3,4] a, double[2,3,3,3] w", "y = ConvTranspose(a, w)")

# Pools. Before opset 19, ONNX infers a wrong size where ceil_mode drops a window, and ONNX Runtime trusts it.

for _what, _x, _attributes, _runs in (
    ("1d", "[2,2,7]", "kernel_shape=[3], strides=[2]", 18),
    ("3d", "[1,2,4,5,3]", "kernel_shape=[2,3,2], strides=[2,1,1]", 18),
    ("plain", "[2,2,6,6]", "kernel_shape=[2,2], strides=[2,2]", 18),
    ("default-stride", "[2,2,4,5]", "kernel_shape=[2,3]", 18),
    ("overlap", "[1,2,7,6]", "kernel_shape=[3,3], strides=[2,2]", 18),
    ("overlap-pads", "[1,2,7,6]", "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]", 18),
    ("uneven-pads", "[1,2,5,6]", "kernel_shape=[3,3], strides=[1,2], pads=[0,2,1,0]", 18),
    ("remainder", "[1,2,7,8]", "kernel_shape=[2,2], strides=[3,3]", 18),
    ("ceil", "[1,2,7,8]", "kernel_shape=[3,2], strides=[2,3], ceil_mode=1", 18),
    ("ceil-off", "[1,2,7,8]", "kernel_shape=[3,2], strides=[2,3], ceil_mode=0, pads=[1,0,1,0]", 18),
    ("ceil-extra", "[1,2,6,8]", "kernel_shape=[3,3], strides=[2,2], ceil_mode=1", 18),
    ("ceil-far", "[1,2,7,10]", "kernel_shape=[3,4], strides=[3,5], ceil_mode=1", 19),
    ("ceil-pads", "[1,2,6,7]", "kernel_shape=[3,3], strides=[2,3], ceil_mode=1, pads=[1,1,1,1]", 18),
    ("ceil-dropped", "[1,2,5,5]", "kernel_shape=[2,2], strides=[3,3], ceil_mode=1, pads=[1,1,1,1]", 19),
    ("same-upper", "[1,2,7,6]", 'kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER"', 18),
    ("same-lower", "[1,2,7,6]", 'kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_LOWER"', 18),
    ("same-upper-one", "[1,2,4,5]", 'kernel_shape=[2,4], auto_pad="SAME_UPPER"', 18),
    ("same-lower-one", "[1,2,4,5]", 'kernel_shape=[2,4], auto_pad="SAME_LOWER"', 18),
    ("valid", "[1,2,7,6]", 'kernel_shape=[3,3], strides=[2,2], auto_pad="VALID"', 18),
    ("end-pads", "[1,2,5,5]", "kernel_shape=[2,2], strides=[2,2], pads=[0,0,1,1]", 18),
    ("same-ceil", "[1,2,7,6]", 'kernel_shape=[3,3], strides=[2,2], ceil_mode=1, auto_pad="SAME_UPPER"', 18),
):
    add_symbolic(f"MaxPool-{_what}", f"double{_x} a", f"y = MaxPool<{_attributes}>(a)", runs=_runs)
    for _include in (0, 1):
        add_symbolic(
            f"AveragePool-{_what}-{'include' if _include else 'exclude'}",
            f"double{_x} a",
            f"y = AveragePool<{_attributes}, count_include_pad={_include}>(a)",
            runs=_runs,
        )
for _what, _attributes, _runs in (
    ("dilated", "kernel_shape=[3,2], dilations=[2,3]", 18),
    ("dilated-pads", "kernel_shape=[3,2], dilations=[2,3], strides=[2,2], pads=[1,1,2,0]", 18),
    ("dilated-ceil", "kernel_shape=[3,2], dilations=[1,2], strides=[3,2], ceil_mode=1", 18),
    ("dilated-same", 'kernel_shape=[3,2], dilations=[2,2], strides=[2,2], auto_pad="SAME_LOWER"', NEVER),
):
    add_symbolic(f"MaxPool-{_what}", "double[1,2,9,8] a", f"y = MaxPool<{_attributes}>(a)", runs=_runs)
    for _include in (0, 1):
        add_symbolic(
            f"AveragePool-{_what}-{'include' if _include else 'exclude'}",
            "double[1,2,9,8] a",
            f"y = AveragePool<{_attributes}, count_include_pad={_include}>(a)",
            since=19,
            runs=_runs,
        )
add("MaxPool-indices", "double[1,2,5,6] a", "y, where = MaxPool<kernel_shape=[3,2], strides=[2,2]>(a)")
add(
    "MaxPool-column-major",
    "double[2,2,5,6] a",
    "y, where = MaxPool<kernel_shape=[3,2], strides=[2,2], storage_order=1>(a)",
)
add("AveragePool-1x1", "double[1,2,3,4] a", "y = AveragePool<kernel_shape=[1,1]>(a)")
for _rank, _x in ((3, "[2,3,5]"), (4, "[2,3,4,5]"), (5, "[2,3,2,3,4]")):
    for _operator in ("GlobalAveragePool", "GlobalMaxPool"):
        add_symbolic(f"{_operator}-rank{_rank}", f"double{_x} a", f"y = {_operator}(a)")

# Normalisation

for _rank, _x in ((2, "[4,3]"), (3, "[2,3,5]"), (4, "[2,3,4,2]")):
    add_symbolic(
        f"BatchNormalization-rank{_rank}",
        f"double{_x} a, double[3] s, double[3] b, double[3] m, double[3] p",
        "y = BatchNormalization(a, s, b, m, p)",
    )
add(
    "BatchNormalization-epsilon",
    "double[2,3,4] a, double[3] s, double[3] b, double[3] m, double[3] p",
    "y = BatchNormalization<epsilon=0.5, momentum=0.3>(a, s, b, m, p)",
)
for _size in (1, 2, 3, 4, 5):
    add_symbolic(
        f"LRN-{_size}",
        "double[2,6,3,2] a",
        f"y = LRN<size={_size}, alpha=0.7, beta=0.6, bias=1.5>(a)",
        runs=18 if _size % 2 else NEVER,
    )
add("LRN-defaults", "double[2,4,2,3] a", "b = Mul(a, a) c = Exp(b) y = LRN<size=3>(c)")

# Softmax

for _operator in ("Softmax", "LogSoftmax"):
    add(_operator, "double[2,3,4] a", f"y = {_operator}(a)")
    for _axis in (-3, -2, -1, 0, 1, 2):
        add(f"{_operator}-axis{_axis}", "double[2,3,4] a", f"y = {_operator}<axis={_axis}>(a)")
    add(f"{_operator}-symbolic", "double[N,C] a", f"y = {_operator}(a)", sizes={"N": 2, "C": 4})

# Reductions

for _operator in ("ReduceSum", "ReduceMean"):
    add(f"{_operator}-defaults", "double[2,3,4] a", f"x = Constant<value_ints=[1]>() y = {_operator}(a, x)")
    for _keep in (0, 1):
        for _what, _axes in (
            ("last", "-1"),
            ("first", "0"),
            ("two", "0,2"),
            ("negative", "-2,0"),
            ("all", "0,1,2"),
        ):
            add(
                f"{_operator}-keep{_keep}-{_what}",
                "double[2,3,4] a",
                f"x = Constant<value_ints=[{_axes}]>() y = {_operator}<keepdims={_keep}>(a, x)",
            )
        add(f"{_operator}-keep{_keep}-absent", "double[2,3,4] a", f"y = {_operator}<keepdims={_keep}>(a)")
        add(
            f"{_operator}-keep{_keep}-absent-noop",
            "double[2,3,4] a",
            f"y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>(a)",
        )
        add(
            f"{_operator}-keep{_keep}-empty-noop",
            "double[2,3,4] a",
            "x = Constant<value=int64[0]{}>() "
            f"y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>(a, x)",
        )
        add(
            f"{_operator}-keep{_keep}-empty",
            "double[2,3,4] a",
            f"x = Constant<value=int64[0]{{}}>() y = {_operator}<keepdims={_keep}>(a, x)",
        )
        add(
            f"{_operator}-keep{_keep}-noop-with-axes",
            "double[2,3,4] a",
            f"x = Constant<value_ints=[1]>() y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>(a, x)",
        )
        add(
            f"{_operator}-keep{_keep}-computed",
            "double[2,3,4] a, int64[2] x",
            f"z = {_operator}<keepdims={_keep}>(a, x) {FLATTENED}",
            feeds={"x": [0, -1]},
        )
        add(
            f"{_operator}-keep{_keep}-computed-empty-noop",
            "double[2,3,4] a, int64[0] x",
            f"z = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>(a, x) {FLATTENED}",
            feeds={"x": []},
        )
        add(
            f"{_operator}-keep{_keep}-symbolic",
            "double[N,3,L] a",
            f"x = Constant<value_ints=[0,2]>() y = {_operator}<keepdims={_keep}>(a, x)",
            sizes={"N": 2, "L": 4},
        )

# Moving data

for _axis in (-3, -1, 0, 1, 2):
    _other = ["[5,3,4]", "[2,5,4]", "[2,3,5]"][_axis % 3]
    add(f"Concat-axis{_axis}", f"double[2,3,4] a, double{_other} b", f"y = Concat<axis={_axis}>(a, b)")
add("Concat-one", "double[2,3] a", "y = Concat<axis=0>(a)")
add("Concat-twice", "double[2,3] a, double[2,1] b", "y = Concat<axis=1>(a, b, a)")
add("Concat-symbolic", "double[N,3] a, double[M,3] b", "y = Concat<axis=0>(a, b)", sizes={"N": 2, "M": 4})
add(
    "Concat-symbolic-axis",
    "double[2,K] a, double[2,L] b",
    "y = Concat<axis=-1>(a, b)",
    sizes={"K": 2, "L": 5},
)

add("Split-attribute", "double[2,6] a", "b, c = Split<axis=1, num_outputs=2>(a) d = Mul(b, c) y = Exp(d)")
add(
    "Split-uneven-attribute",
    "double[2,5] a",
    "b, c = Split<axis=1, num_outputs=2>(a) d = Exp(b) e = Neg(c) y = Concat<axis=1>(d, e)",
)
add(
    "Split-sizes",
    "double[5,2] a",
    "s = Constant<value_ints=[1,3,1]>() b, c, d = Split(a, s) e = Mul(b, c) y = Mul(e, d)",
)
add(
    "Split-negative-axis",
    "double[3,5] a",
    "s = Constant<value_ints=[1,4]>() b, c = Split<axis=-1>(a, s) y = Mul(b, c)",
)
add("Split-unused", "double[6,2] a", "b, c, d = Split<num_outputs=3>(a) y = Mul(b, d)")
add(
    "Split-computed",
    "double[2,5] a, int64[2] s",
    f"b, c = Split<axis=1>(a, s) d = Exp(c) z = Concat<axis=-1>(d, b) {FLATTENED}",
    feeds={"s": [2, 3]},
)
add(
    "Split-computed-unused",
    "double[5,2] a, int64[2] s",
    f"b, c = Split(a, s) z = Exp(c) {FLATTENED}",
    feeds={"s": [2, 3]},
)
add("Split-symbolic", "double[N,4] a", "b, c = Split<axis=1, num_outputs=2>(a) y = Mul(b, c)", sizes={"N": 3})

for _what, _bounds in {
    "plain": {"starts": [1, 0], "ends": [3, 2]},
    "negative": {"starts": [-3, -2], "ends": [-1, 9]},
    "far": {"starts": [-100, 1], "ends": [100, 100]},
    "axes": {"starts": [1], "ends": [4], "axes": [1]},
    "negative-axes": {"starts": [1, 1], "ends": [4, 3], "axes": [-1, 0]},
    "step": {"starts": [0], "ends": [5], "axes": [1], "steps": [2]},
    "backwards": {"starts": [4, -1], "ends": [0, -100], "axes": [1, 0], "steps": [-2, -1]},
    "step-one": {"starts": [1], "ends": [3], "axes": [0], "steps": [1]},
    "empty": {"starts": [3], "ends": [1], "axes": [0]},
}.items():
    # The sum is there for the slice that takes nothing.
    _use = f"b = Slice(a, {', '.join(_bounds)}) s = ReduceSum<keepdims=0>(b) y = Sum(a, s)"
    if _what != "empty":
        _use = f"y = Slice(a, {', '.join(_bounds)})"
    _constants = " ".join(f"{name} = Constant<value_ints={numbers}>()" for name, numbers in _bounds.items())
    add_symbolic(f"Slice-{_what}", "double[4,5] a", f"{_constants} {_use}")
    _inputs = ", ".join(f"int64[{len(numbers)}] {name}" for name, numbers in _bounds.items())
    add(f"Slice-{_what}-computed", f"double[4,5] a, {_inputs}", _use, feeds=_bounds)
add(
    "Slice-steps-without-axes",
    "double[4,5] a",
    "s = Constant<value_ints=[0,4]>() e = Constant<value_ints=[4,0]>() t = Constant<value_ints=[2,-3]>() "
    'y = Slice(a, s, e, "", t)',
)
add(
    "Slice-computed-ends",
    "double[4,5] a, int64[1] e",
    "s = Constant<value_ints=[1]>() y = Slice(a, s, e)",
    feeds={"e": [3]},
)
add(
    "Slice-computed-steps",
    "double[4,5] a, int64[1] t",
    "s = Constant<value_ints=[0]>() e = Constant<value_ints=[4]>() x = Constant<value_ints=[0]>() "
    "y = Slice(a, s, e, x, t)",
    feeds={"t": [3]},
)
add(
    "Slice-symbolic-other-axis",
    "double[N,5] a",
    "s = Constant<value_ints=[1]>() e = Constant<value_ints=[3]>() x = Constant<value_ints=[1]>() "
    "y = Slice(a, s, e, x)",
    sizes={"N": 2},
)

for _mode in ("constant", "reflect", "edge", "wrap"):
    for _what, _pads, _axes in (
        ("plain", "1,0,2,2", ""),
        ("negative", "-1,2,1,-1", ""),
        ("axes", "2,1", "1"),
        ("negative-axes", "2,1,1,0", "-1,0"),
    ):
        _axes_text = f"x = Constant<value_ints=[{_axes}]>()" if _axes else ""
        _call = f'Pad<mode="{_mode}">(a, s{", , x" if _axes else ""})'
        add_symbolic(
            f"Pad-{_mode}-{_what}",
            "double[4,5] a",
            f"s = Constant<value_ints=[{_pads}]>() {_axes_text} y = {_call}",
            since=19 if _mode == "wrap" else 18,
        )
add("Pad-default", "double[2,3] a", "s = Constant<value_ints=[1,0,0,2]>() y = Pad(a, s)")
add("Pad-value", "double[2,3] a, double v", "s = Constant<value_ints=[1,0,0,2]>() y = Pad(a, s, v)")
add(
    "Pad-value-axes",
    "double[2,3] a, double v",
    "s = Constant<value_ints=[1,-1]>() x = Constant<value_ints=[1]>() y = Pad(a, s, v, x)",
)
add("Pad-computed", "double[2,3] a, double v, int64[4] s", "y = Pad(a, s, v)", feeds={"s": [0, 1, 2, 0]})
add(
    "Pad-computed-edge",
    "double[2,3] a, int64[4] s",
    'y = Pad<mode="edge">(a, s)',
    feeds={"s": [0, 1, 2, 0]},
)

add("Transpose-default", "double[2,3,4] a", "y = Transpose(a)")
for _perm in ("1,0,2", "1,2,0", "2,0,1", "0,1,2"):
    add(f"Transpose-{_perm}", "double[2,3,4] a", f"y = Transpose<perm=[{_perm}]>(a)")
add("Transpose-cycle", "double[2,3,4,5] a", "y = Transpose<perm=[2,3,1,0]>(a)")
add("Transpose-symbolic", "double[N,3,L] a", "y = Transpose<perm=[1,2,0]>(a)", sizes={"N": 2, "L": 4})

for _what, _shape in (("plain", "3,4"), ("zero", "0,3,2"), ("rest", "-1,2"), ("zero-rest", "0,-1")):
    add_symbolic(
        f"Reshape-{_what}",
        "double[2,6] a",
        f"s = Constant<value_ints=[{_shape}]>() y = Reshape(a, s)",
    )
add("Reshape-allowzero", "double[2,6] a", "s = Constant<value_ints=[12]>() y = Reshape<allowzero=1>(a, s)")
add("Reshape-computed", "double[2,6] a, int64[2] s", "y = Reshape(a, s)", feeds={"s": [4, 3]})
add("Reshape-own-shape", "double[2,6] a", "s = Shape(a) y = Reshape(a, s)")
for _axis in (0, 1, 2, -1):
    add_symbolic(f"Flatten-axis{_axis}", "double[2,3,4] a", f"y = Flatten<axis={_axis}>(a)")
add("Flatten-default", "double[2,3,4] a", "y = Flatten(a)")
add("Squeeze-all", "double[2,1,3,1] a", "y = Squeeze(a)")
add("Squeeze-axes", "double[2,1,3,1] a", "s = Constant<value_ints=[1]>() y = Squeeze(a, s)")
add("Squeeze-negative", "double[2,1,3,1] a", "s = Constant<value_ints=[-1]>() y = Squeeze(a, s)")
add("Squeeze-symbolic", "double[N,1,3] a", "s = Constant<value_ints=[1]>() y = Squeeze(a, s)", sizes={"N": 2})
add("Unsqueeze-axes", "double[2,3] a", "s = Constant<value_ints=[0,2]>() y = Unsqueeze(a, s)")
add("Unsqueeze-negative", "double[2,3] a", "s = Constant<value_ints=[-1]>() y = Unsqueeze(a, s)")
add("Unsqueeze-computed", "double[2,3] a, int64[1] s", f"z = Unsqueeze(a, s) {FLATTENED}", feeds={"s": [1]})

for _what, _a, _shape in (
    ("rank", "[3]", "2,3"),
    ("ones", "[2,1,3]", "2,4,3"),
    ("both", "[3,1]", "2,1,4"),
    ("same", "[2,3]", "2,3"),
    ("lesser", "[2,3]", "1,3"),
    ("scalar", "", "2,3"),
):
    add(f"Expand-{_what}", f"double{_a} a", f"s = Constant<value_ints=[{_shape}]>() y = Expand(a, s)")
    add(
        f"Expand-{_what}-computed",
        f"double{_a} a, int64[{_shape.count(',') + 1}] s",
        "y = Expand(a, s)",
        feeds={"s": [int(n) for n in _shape.split(",")]},
    )
add("Expand-symbolic", "double[N,3] a, int64[2] s", "y = Expand(a, s)", feeds={"s": [4, 3]}, sizes={"N": 1})

for _axis in (0, 1, -1):
    for _what, _indices in (("scalar", 1), ("vector", [1, 0, 1, -1]), ("matrix", [[0, 1], [-2, 0]])):
        _dims = {0: "", 1: "[4]", 2: "[2,2]"}[np.ndim(_indices)]
        add(
            f"Gather-axis{_axis}-{_what}",
            f"double[3,2,4] a, int64{_dims} i",
            f"y = Gather<axis={_axis}>(a, i)",
            feeds={"i": _indices},
        )
add("Gather-default", "double[3,2] a, int64[2] i", "y = Gather(a, i)", feeds={"i": [2, 0]})
add("Gather-int32", "double[3,2] a, int32[2] i", "y = Gather(a, i)", feeds={"i": [2, 2]})
add("Gather-symbolic", "double[N,2] a, int64[2] i", "y = Gather(a, i)", feeds={"i": [-1, 0]}, sizes={"N": 3})

# Resize


def add_resize(what: str, target: str, attributes: str = "", x: str = "[2,2,4,5]", **more: object) -> None:
    """`target` is "scales=..." or "sizes=..."."""
    kind, numbers = target.split("=")
    call = f"Resize<{attributes}>" if attributes else "Resize"
    if kind == "scales":
        constant = f"s = Constant<value=float[{numbers.count(',') + 1}]{{{numbers}}}>()"
        body = f'{constant} y = {call}(a, "", s)'
    else:
        body = f's = Constant<value_ints=[{numbers}]>() y = {call}(a, "", "", s)'
    add_symbolic(f"Resize-{what}", f"double{x} a", body, **more)


for _nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
    for _coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        # Away from the jumps where float32 and float64 round differently.
        add_resize(
            f"nearest-{_nearest}-{_coordinates}",
            "sizes=2,2,11,3" if _coordinates == "align_corners" else "scales=1,1,2.5,0.7",
            f'mode="nearest", nearest_mode="{_nearest}", coordinate_transformation_mode="{_coordinates}"',
        )
for _mode in ("linear", "cubic"):
    for _coordinates in (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ):
        _attributes = f'mode="{_mode}", coordinate_transformation_mode="{_coordinates}"'
        # onnx and ONNX Runtime differ on what align_corners aligns where the scaled size is no integer.
        _scales = "scales=1,1,1.5,2" if _coordinates == "align_corners" else "scales=1,1,1.7,0.6"
        add_resize(f"{_mode}-{_coordinates}-scales", _scales, _attributes)
        add_resize(f"{_mode}-{_coordinates}-sizes", "sizes=2,2,7,3", _attributes)
add_resize(
    "nearest-half_pixel_symmetric",
    "scales=1,1,2.3,0.7",
    'mode="nearest", coordinate_transformation_mode="half_pixel_symmetric"',
)
add_resize("nearest-default", "scales=1,1,2,2")
add_resize("nearest-sizes", "sizes=2,2,7,3")
add_resize(
    "linear-to-one", "sizes=2,2,1,1", 'mode="linear", coordinate_transformation_mode="pytorch_half_pixel"'
)
add_resize("linear-one-axis", "scales=1,1,1,2", 'mode="linear"')
add_resize("linear-axes", "scales=2,0.5", 'mode="linear", axes=[2,3]')
add_resize("linear-axes-swapped", "scales=2,0.5", 'mode="linear", axes=[3,2]')
add_resize("linear-axes-negative", "sizes=7,3", 'mode="linear", axes=[-2,-1]')
add_resize("nearest-axes", "sizes=3", "axes=[3]")
add_resize("linear-3d", "scales=1,1,2,1.5,0.5", 'mode="linear"', x="[1,1,2,3,4]")
add_resize("nearest-3d", "sizes=1,2,4,5,2", "", x="[1,2,2,3,4]")
add_resize("linear-1d", "scales=1,1,1.5", 'mode="linear"', x="[2,2,4]")
add_resize("cubic-coefficient", "scales=1,1,1.7,0.6", 'mode="cubic", cubic_coeff_a=-0.5')
add_resize("cubic-exclude", "scales=1,1,1.7,1.6", 'mode="cubic", exclude_outside=1')
for _mode in ("linear", "cubic"):
    add_resize(f"{_mode}-antialias-down", "scales=1,1,0.6,0.5", f'mode="{_mode}", antialias=1')
    add_resize(f"{_mode}-antialias-up", "scales=1,1,1.5,2", f'mode="{_mode}", antialias=1')
    add_resize(f"{_mode}-antialias-sizes", "sizes=2,2,3,8", f'mode="{_mode}", antialias=1')
add(
    "Resize-computed-scales",
    "double[2,2,4,5] a, float[4] s",
    'y = Resize<mode="linear">(a, "", s)',
    feeds={"s": [1, 1, 2, 0.6]},
)
add(
    "Resize-computed-sizes",
    "double[2,2,4,5] a, int64[4] s",
    'y = Resize<mode="linear">(a, "", "", s)',
    feeds={"s": [2, 2, 6, 3]},
)
add(
    "Resize-computed-batch",
    "double[N,2,4,5] a, int64[4] s",
    'y = Resize<mode="linear">(a, "", "", s)',
    feeds={"s": [3, 2, 6, 3]},
    sizes={"N": 3},
)
add(
    "Resize-unnamed-sizes",
    "double[?,?,?,?] a, int64[4] s",
    'y = Resize<mode="linear">(a, "", "", s)',
    feeds={"a": np.random.default_rng(0).standard_normal((1, 4, 5, 2)), "s": [1, 6, 3, 2]},
)
add(
    "Resize-like-another",
    "double[N,2,H,W] a, double[N,2,K,L] b",
    "t = Shape(b) h = Shape<start=0, end=2>(a) g = Shape<start=2>(b) s = Concat<axis=0>(h, g) "
    'r = Resize<mode="linear">(a, "", "", s) y = Mul(r, b)',
    sizes={"N": 2, "H": 3, "W": 4, "K": 6, "L": 2},
)
add(
    "Resize-empty-scales",
    "double[1,2,4,5] a",
    "e = Constant<value=float[0]{}>() s = Constant<value_ints=[1,2,7,3]>() "
    'y = Resize<mode="linear">(a, "", e, s)',
)


def cases(operator: str) -> Iterator[str]:
    """The keys of one operator's cases."""
    return (key for key in CASES if key.split("-")[0] == operator)
