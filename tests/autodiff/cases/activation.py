"""Activation functions."""

from autodiff.cases.table import NEVER, add

for _operator in ("Relu", "Sigmoid", "Tanh"):
    add(_operator, "double[2,3] a", f"y = {_operator}(a)")
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

for _operator, _alpha in (("Elu", 0.3), ("Celu", 0.3), ("ThresholdedRelu", 0.4), ("Swish", -1.7)):
    _more = {"since": 24} if _operator == "Swish" else {}
    add(_operator, "double[3,7] a", f"b = Sum(a, a) y = {_operator}(b)", **_more)
    add(f"{_operator}-alpha", "double[2,5] a", f"y = {_operator}<alpha={_alpha}>(a)", **_more)
add("Elu-negative-alpha", "double[2,5] a", "y = Elu<alpha=-0.5>(a)")
add("ThresholdedRelu-negative-alpha", "double[2,5] a", "y = ThresholdedRelu<alpha=-0.4>(a)")
add("Selu", "double[2,5] a", "y = Selu(a)")
add("Selu-attributes", "double[2,5] a", "y = Selu<alpha=0.6, gamma=1.7>(a)")
add("Shrink", "double[3,7] a", "y = Shrink(a)")
add("Shrink-attributes", "double[3,7] a", "y = Shrink<lambd=0.3, bias=0.2>(a)")
for _operator in ("Softplus", "Softsign", "Mish"):
    add(_operator, "double[3,7] a", f"y = {_operator}(a)")
add("Gelu", "double[3,7] a", "b = Sum(a, a) y = Gelu(b)", since=20)
add("Gelu-tanh", "double[3,7] a", 'b = Sum(a, a) y = Gelu<approximate="tanh">(b)', since=20)
for _what, _attributes in (("default", ""), ("alpha", "<alpha=1.7>")):
    add(
        f"SwiGLU-{_what}",
        "double[2,5] a, double[2,5] b",
        f"y = SwiGLU{_attributes}(a, b)",
        since=28,
        runs=NEVER,
    )

# Clip: which bounds are given, and what is asked of them

add("Clip-none", "double[3,4] a", "y = Clip(a)")
add("Clip-low", "double[3,4] a, double l", "y = Clip(a, l)", feeds={"l": -0.25})
add("Clip-high", "double[3,4] a, double h", 'y = Clip(a, "", h)', feeds={"h": 0.25})
add("Clip-both", "double[3,4] a, double l, double h", "y = Clip(a, l, h)", feeds={"l": -0.4, "h": 0.3})
add("Clip-crossed", "double[3,4] a, double l, double h", "y = Clip(a, l, h)", feeds={"l": 0.4, "h": -0.3})
add(
    "Clip-constants",
    "double[3,4] a",
    "l = Constant<value=double{-0.3}>() h = Constant<value=double{0.6}>() y = Clip(a, l, h)",
)


# Softmax

for _operator in ("Softmax", "LogSoftmax"):
    add(_operator, "double[2,3,4] a", f"y = {_operator}(a)")
    for _axis in (-3, -2, -1, 0, 1, 2):
        add(f"{_operator}-axis{_axis}", "double[2,3,4] a", f"y = {_operator}<axis={_axis}>(a)")
    add(f"{_operator}-symbolic", "double[N,C] a", f"y = {_operator}(a)", sizes={"N": 2, "C": 4})
