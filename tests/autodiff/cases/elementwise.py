"""Arithmetic, choice, conversion and steps, element by element."""

import numpy as np
from autodiff.cases.table import FLATTENED, NEVER, add

add("Identity", "double[2,3] a", "y = Identity(a)")

# Steps, which are constant between their jumps

for _operator in ("Floor", "Ceil", "Round", "Sign"):
    add(_operator, "double[2,3] a", f"s = {_operator}(a) y = Mul(s, a)")
add(
    "ConstantOfShape",
    "double[2,3] a",
    "s = Shape(a) z = ConstantOfShape<value=float[1]{2}>(s) b = Cast<to=DOUBLE>(z) "
    "c = Mul(a, b) y = Mul(a, c)",
)
add(
    "EyeLike",
    "double[3,3] a",
    "s = EyeLike(a) y = Mul(s, a)",
)
for _operator in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
    add(
        _operator,
        "double[2,3] a, double[3] b",
        f"c = {_operator}(a, b) s = Cast<to=DOUBLE>(c) d = Mul(s, a) y = Sub(d, b)",
    )
for _operator in ("IsInf", "IsNaN"):
    add(_operator, "double[2,3] a", f"c = {_operator}(a) n = Neg(a) y = Where(c, n, a)")
for _operator in ("And", "Or", "Xor"):
    add(
        _operator,
        "double[2,3] a, double[3] b",
        f"c = Greater(a, b) d = Less(b, a) e = {_operator}(c, d) y = Where(e, a, b)",
    )
add("Not", "double[2,3] a, double[3] b", "c = Greater(a, b) d = Not(c) y = Where(d, a, b)")
for _operator in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
    add(
        _operator,
        "double[2,3] a",
        f"i = Cast<to=6>(a) j = {_operator}(i, i) s = Cast<to=DOUBLE>(j) y = Mul(s, a)",
    )
add("BitwiseNot", "double[2,3] a", "i = Cast<to=6>(a) j = BitwiseNot(i) s = Cast<to=DOUBLE>(j) y = Mul(s, a)")
add(
    "BitShift",
    "double[2,3] p",
    'i = Cast<to=12>(p) j = BitShift<direction="LEFT">(i, i) s = Cast<to=DOUBLE>(j) y = Mul(s, p)',
)
for _operator in ("ArgMax", "ArgMin", "NonZero", "Shape"):
    add(
        _operator,
        "double[2,3] a",
        f"i = {_operator}(a) s = Cast<to=DOUBLE>(i) t = ReduceSum(s) y = Mul(t, a)",
    )
add("Size", "double[2,3] a", "i = Size(a) s = Cast<to=DOUBLE>(i) y = Mul(s, a)")
add("Hardmax", "double[2,3] a", "s = Hardmax(a) y = Mul(s, a)")
add(
    "NonMaxSuppression",
    "double[1,2,4] b, double[1,1,2] a",
    "f = Cast<to=1>(b) g = Cast<to=1>(a) n = Constant<value_ints=[2]>() "
    "u = Constant<value_floats=[0.5]>() i = NonMaxSuppression(f, g, n, u, u) "
    "j = Cast<to=DOUBLE>(i) s = ReduceSum<keepdims=0>(j) t = ReduceSum<keepdims=0>(b) v = Add(s, t) "
    "y = Mul(v, a)",
)
add(
    "TfIdfVectorizer",
    "double[4] a",
    'i = Cast<to=6>(a) z = TfIdfVectorizer<mode="TF", max_gram_length=1, min_gram_length=1, '
    "max_skip_count=0, ngram_counts=[0], ngram_indexes=[0,1,2], pool_int64s=[0,1,2]>(i) "
    "t = ReduceSum<keepdims=0>(z) "
    "s = Cast<to=DOUBLE>(t) y = Mul(s, a)",
)
for _operator in ("HannWindow", "HammingWindow", "BlackmanWindow"):
    add(
        _operator,
        "double[5] a",
        f"n = Size(a) z = {_operator}(n) {FLATTENED.replace('y =', 'w =')} v = Cast<to=DOUBLE>(w) "
        "y = Mul(v, a)",
    )
add(
    "MelWeightMatrix",
    "double[4] a, double[1] l",
    "b = Constant<value_int=4>() d = Constant<value_int=16>() r = Constant<value_int=8192>() "
    "k = Squeeze(l) f = Cast<to=1>(k) h = Constant<value_float=4096.0>() w = MelWeightMatrix(b, d, r, f, h) "
    "v = Cast<to=DOUBLE>(w) s = ReduceSum<keepdims=0>(v) m = Mul(s, a) y = Add(m, l)",
    feeds={"l": [100]},
)
# What is drawn is not the same on every runtime, so it counts nothing here.
for _operator in ("RandomNormalLike", "RandomUniformLike"):
    add(_operator, "double[2,3] a", f"r = {_operator}(a) s = Sub(r, r) y = Add(s, a)")
add("Bernoulli", "double[3] a", "r = Bernoulli(a) s = Sub(r, r) y = Add(s, a)", feeds={"a": [0.2, 0.5, 0.9]})
add(
    "Multinomial",
    "double[2,3] a",
    "f = Cast<to=1>(a) r = Multinomial<sample_size=4>(f) i = Sub(r, r) j = Cast<to=DOUBLE>(i) "
    "s = ReduceSum<keepdims=0>(j) y = Add(s, a)",
    runs=NEVER,
)

# Conversions

add("CastLike", "double[2,3] a, double[1] b", "h = Cast<to=1>(a) c = CastLike(h, b) y = Mul(c, b)")
add("CastLike-through-integer", "double[4,9] a", "h = Cast<to=7>(a) b = CastLike(h, a) y = Mul(b, a)")
add("BitCast", "double[2,3] a", "y = BitCast<to=DOUBLE>(a)", since=26)
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
# Any number of operands

for _operator in ("Max", "Min", "Mean"):
    add(f"{_operator}-two", "double[2,3] a, double[2,3] b", f"y = {_operator}(a, b)")
    add(f"{_operator}-one", "double[2,3] a", f"y = {_operator}(a)")
    add(f"{_operator}-broadcast", "double[2,3] a, double[3] b, double[4,1,1] c", f"y = {_operator}(a, b, c)")
    add(
        f"{_operator}-symbolic",
        "double[N,3] a, double[M,3] b",
        f"y = {_operator}(a, b)",
        sizes={"N": 1, "M": 3},
    )
_dividends, _divisors = [[7.3, -7.3, 0.4], [5.1, -2.6, -9.7]], [2.1, -3.2, 4.3]
for _what, _fmod in (("trunc", 1), ("floor", 0)):
    add(
        f"Mod-{_what}",
        "double[2,3] a, double[3] b",
        f"y = Mod<fmod={_fmod}>(a, b)",
        feeds={"a": _dividends, "b": _divisors},
        runs=18 if _fmod else NEVER,
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
