"""Sequences and optionals."""

from autodiff.cases.table import FLATTENED, add

_S = "s = SequenceConstruct(a, b, c)"
_THREE = "double[3] a, double[2] b, double[4] c"
_JOINED = "z = ConcatFromSequence<axis=0>(t) y = Exp(z)"

add("SequenceConstruct-joined", _THREE, f"t = SequenceConstruct(a, b, c, a) {_JOINED}")
add(
    "SequenceConstruct-read-twice",
    _THREE,
    "t = SequenceConstruct(a, b, c) i = Constant<value=int64{1}>() e = SequenceAt(t, i) z = "
    "ConcatFromSequence<axis=0>(t) m = ReduceSum(e) y = Mul(z, m)",
)
add(
    "SequenceEmpty-filled",
    "double[3] a, double[2] b",
    f"n = SequenceEmpty<dtype=DOUBLE>() m = SequenceInsert(n, a) t = SequenceInsert(m, b) "
    f"z = ConcatFromSequence<axis=0>(t) {FLATTENED}",
)
add(
    "SequenceConstruct-joined-twice",
    "double[3] a, double[3] b",
    "t = SequenceConstruct(a, b) p = ConcatFromSequence<axis=0>(t) "
    "q = ConcatFromSequence<axis=0>(t) y = Mul(p, q)",
)
add(
    "SequenceLength-counts",
    _THREE,
    f"{_S} n = SequenceLength(s) f = Cast<to=DOUBLE>(n) t = SequenceErase(s) z = "
    "ConcatFromSequence<axis=0>(t) y = Mul(z, f)",
)

for _i in (-3, -2, -1, 0, 1, 2):
    _fixed = f"{_S} i = Constant<value=int64{{{_i}}}>()"
    add(f"SequenceAt-{_i}", _THREE, f"{_fixed} e = SequenceAt(s, i) y = Exp(e)")
    add(f"SequenceInsert-{_i}", f"{_THREE}, double[5] d", f"{_fixed} t = SequenceInsert(s, d, i) {_JOINED}")
    add(f"SequenceErase-{_i}", _THREE, f"{_fixed} t = SequenceErase(s, i) {_JOINED}")
for _i in (-3, 1):
    _fed = {"feeds": {"i": _i}}
    add(f"SequenceAt-fed{_i}", f"{_THREE}, int64 i", f"{_S} e = SequenceAt(s, i) y = Exp(e)", **_fed)
    add(
        f"SequenceInsert-fed{_i}",
        f"{_THREE}, double[5] d, int64 i",
        f"{_S} t = SequenceInsert(s, d, i) {_JOINED}",
        **_fed,
    )
    add(f"SequenceErase-fed{_i}", f"{_THREE}, int64 i", f"{_S} t = SequenceErase(s, i) {_JOINED}", **_fed)
add(
    "SequenceInsert-int32",
    f"{_THREE}, double[5] d, int32 i",
    f"{_S} t = SequenceInsert(s, d, i) {_JOINED}",
    feeds={"i": -1},
)
add("SequenceAt-int32", f"{_THREE}, int32 i", f"{_S} e = SequenceAt(s, i) y = Exp(e)", feeds={"i": -2})
add("SequenceInsert-end", f"{_THREE}, double[5] d", f"{_S} t = SequenceInsert(s, d) {_JOINED}")
add("SequenceErase-end", _THREE, f"{_S} t = SequenceErase(s) {_JOINED}")

for _axis in (0, 1, -1):
    for _kind, _split in {
        "ones": "",
        "parts": "k = Constant<value=int64{2}>()",
        "sizes": "k = Constant<value_ints=[1,3]>()",
    }.items():
        _args = "a, k" if _split else "a"
        add(
            f"SplitToSequence-{_kind}{_axis}",
            "double[4,4] a, double[4,4] b",
            f"{_split} s = SplitToSequence<axis={_axis}>({_args}) i = Constant<value=int64{{1}}>() e "
            "= SequenceAt(s, i) "
            f"t = ConcatFromSequence<axis={_axis}>(s) m = ReduceSum(e) n = Mul(t, m) y = Mul(n, b)",
        )
    add(
        f"SplitToSequence-squeezed{_axis}",
        "double[4,3] a",
        f"s = SplitToSequence<axis={_axis}, keepdims=0>(a) i = Constant<value=int64{{1}}>() e = "
        "SequenceAt(s, i) "
        f"t = ConcatFromSequence<axis=0>(s) m = ReduceSum(e) y = Mul(t, m)",
    )
    add(
        f"ConcatFromSequence-axis{_axis}",
        f"double[2,3] a, double{'[1,3]' if _axis == 0 else '[2,4]'} b",
        f"s = SequenceConstruct(a, b, a) z = ConcatFromSequence<axis={_axis}>(s) y = Exp(z)",
    )
    add(
        f"ConcatFromSequence-new-axis{_axis}",
        "double[2,3] a, double[2,3] b",
        f"s = SequenceConstruct(a, b, a) z = ConcatFromSequence<axis={_axis}, new_axis=1>(s) y = Exp(z)",
    )
add(
    "SplitToSequence-symbolic",
    "double[N,3] a",
    "s = SplitToSequence<axis=0>(a) t = ConcatFromSequence<axis=0>(s) y = Exp(t)",
    sizes={"N": 3},
)

_MAP = "r = SequenceMap<body = b (double[1,3] x) => (double[1,3] z) { v = Mul(x, w) z = Exp(v) }>(s)"
add(
    "SequenceMap-captures",
    "double[4,3] a, double[3] w",
    f"s = SplitToSequence<axis=0>(a) {_MAP} y = ConcatFromSequence<axis=0>(r)",
)
add(
    "SequenceMap-symbolic",
    "double[N,3] a, double[3] w",
    f"s = SplitToSequence<axis=0>(a) {_MAP} y = ConcatFromSequence<axis=0>(r)",
    sizes={"N": 4},
)
add(
    "SequenceMap-several",
    "double[4,3] a, double[4,3] b, double[3] w",
    "s = SplitToSequence<axis=0>(a) t = SplitToSequence<axis=0>(b) r, q = SequenceMap<body = b "
    "(double[1,3] x, double[1,3] v, double[3] ww) => (double[1,3] z, double[1,3] zz) "
    "{ z = Mul(x, v) zz = Mul(z, ww) }>(s, t, w) o = SequenceInsert(r, b) p = ConcatFromSequence<axis=0>(o) "
    "u = ConcatFromSequence<axis=0>(q) y = Concat<axis=0>(u, p)",
)

add("Optional-opened", "double[3] a", "o = Optional(a) e = OptionalGetElement(o) y = Exp(e)")
add("OptionalGetElement-of-optional", "double[3] a", "o = Optional(a) e = OptionalGetElement(o) y = Exp(e)")
add("OptionalGetElement-of-tensor", "double[3] a", "e = OptionalGetElement(a) y = Exp(e)")
add(
    "OptionalGetElement-of-sequence",
    "double[3] a, double[2] b",
    "s = SequenceConstruct(a, b) o = Optional(s) t = OptionalGetElement(o) z = "
    "ConcatFromSequence<axis=0>(t) y = Exp(z)",
)
add(
    "OptionalHasElement-asked",
    "double[3] a",
    "o = Optional(a) h = OptionalHasElement(o) f = Cast<to=DOUBLE>(h) e = OptionalGetElement(o) y = "
    "Mul(e, f)",
)
add(
    "Optional-from-branches",
    "double[3] a, bool k",
    "o = If<then_branch = t () => (optional(double[3]) u) { u = Optional(a) }, else_branch = e () => "
    "(optional(double[3]) v) { b = Exp(a) v = Optional(b) }>(k) e = OptionalGetElement(o) y = Exp(e)",
    feeds={"k": False},
)
add(
    "OptionalGetElement-in-a-branch",
    "double[3] a, double[3] b, bool k",
    "o = Optional(a) y = If<then_branch = t () => (double[3] u) { e = OptionalGetElement(o) u = Mul(e, b) }, "
    "else_branch = e () => (double[3] v) { v = Exp(b) }>(k)",
    feeds={"k": False},
)
