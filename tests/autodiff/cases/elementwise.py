"""Arithmetic and elementary functions, element by element."""

import numpy as np
from autodiff.cases.table import add

# Functions of one element

for _operator in ("Identity", "Neg", "Exp", "Abs", "Erf"):
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
add("Cast-there-and-back", "double[2,3] a", "h = Cast<to=1>(a) b = Cast<to=DOUBLE>(h) y = Mul(b, a)")
add("Cast-half", "double[2,3] a", "h = Cast<to=10>(a) b = Cast<to=DOUBLE>(h) y = Mul(b, a)")
add("Cast-through-integer", "double[4,9] a", "h = Cast<to=7>(a) b = Cast<to=DOUBLE>(h) y = Mul(b, a)")

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
