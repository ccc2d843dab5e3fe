"""Activation functions."""

from autodiff.cases.table import add

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


# Softmax

for _operator in ("Softmax", "LogSoftmax"):
    add(_operator, "double[2,3,4] a", f"y = {_operator}(a)")
    for _axis in (-3, -2, -1, 0, 1, 2):
        add(f"{_operator}-axis{_axis}", "double[2,3,4] a", f"y = {_operator}<axis={_axis}>(a)")
    add(f"{_operator}-symbolic", "double[N,C] a", f"y = {_operator}(a)", sizes={"N": 2, "C": 4})
