"""Functions of one number."""

from autodiff.cases.table import add

for _operator in ("Neg", "Exp", "Abs", "Erf", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh"):
    add(_operator, "double[2,3] a", f"y = {_operator}(a)")
for _operator in ("Log", "Sqrt", "Reciprocal"):
    add(_operator, "double[2,3] p", f"y = {_operator}(p)")
add("Reciprocal-negative", "double[3] a", "y = Reciprocal(a)", feeds={"a": [-0.5, -2, 3]})
for _operator in ("Asin", "Acos", "Atanh"):
    add(_operator, "double[4] a", f"y = {_operator}(a)", feeds={"a": [-0.9, -0.2, 0.3, 0.8]})
add("Acosh", "double[3] a", "y = Acosh(a)", feeds={"a": [1.1, 2, 5]})

# Where a square would overflow a half float

for _operator in ("Asinh", "Acosh"):
    add(f"{_operator}-large", "double[2] a", f"y = {_operator}(a)", feeds={"a": [300, 5000]})
