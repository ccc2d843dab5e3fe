"""If, Scan and Loop."""

from autodiff.cases.table import add, add_symbolic

_TRUE = "on = Constant<value=bool{1}>()"
_THREE = "n = Constant<value=int64{3}>()"


def _flat(*values: str) -> str:
    """All of some values in one vector, `y`."""
    rows = " ".join(f"flat_{value} = Reshape({value}, flat)" for value in values)
    joined = ", ".join(f"flat_{value}" for value in values)
    return f"flat = Constant<value_ints=[-1]>() {rows} y = Concat<axis=0>({joined})"


# If

_BRANCHES = "then_branch = t () => (double[2,3] u) {{ {} }}, else_branch = e () => (double[2,3] v) {{ {} }}"


def _if(what: str, inputs: str, then: str, other: str, k: bool) -> None:
    body = f"y = If<{_BRANCHES.format(then, other)}>(k)"
    add_symbolic(f"If-{what}-{k}", f"{inputs}, bool k", body, feeds={"k": k})


for _k in (True, False):
    # What one branch reads alone, what both read, and broadcasts undone inside.
    _if(
        "branches",
        "double[2,3] a, double[3] b, double[2,1] c",
        "u = Mul(a, b)",
        "w = Exp(a) v = Mul(w, c)",
        _k,
    )
    _if("stops-in-one", "double[2,3] a", "u = Round(a)", "w = Exp(a) v = Neg(w)", _k)
    _if(
        "nested",
        "double[2,3] a, double[3] b",
        "w = Mul(a, a) u = Mul(w, b)",
        "w = Exp(b) m = Not(k) v = If<then_branch = t2 () => (double[2,3] u2) { u2 = Mul(a, w) }, "
        "else_branch = e2 () => (double[2,3] v2) { v2 = Mul(w, a) }>(m)",
        _k,
    )
    add(
        f"If-outputs-{_k}",
        "double[3] a, double[3] b, bool k",
        "p, q = If<then_branch = t () => (double[3] u, double[3] u2) { u = Mul(a, b) u2 = Exp(u) }, "
        "else_branch = e () => (double[3] v, double[3] v2) { v = Neg(a) v2 = Tanh(b) }>(k) y = Mul(p, q)",
        feeds={"k": _k},
    )
    add(
        f"If-unused-output-{_k}",
        "double[3] a, bool k",
        "p, y = If<then_branch = t () => (double[3] u, double[3] u2) { u = Exp(a) u2 = Exp(u) }, "
        "else_branch = e () => (double[3] v, double[3] v2) { v = Neg(a) v2 = Tanh(a) }>(k)",
        feeds={"k": _k},
    )
add(
    "If-weights-inside",
    "double[3] a, bool k",
    "y = If<then_branch = t () => (double[3] u) <double[3] w = {1, 2, 3}> { u = Mul(a, w) }, "
    "else_branch = e () => (double[3] v) { w = Constant<value=double[3]{4, 5, 6}>() v = Mul(w, a) }>(k)",
    feeds={"k": True},
)
add(
    "If-unknown-rank",
    "double[3] a, double[3] b, bool k",
    "z = If<then_branch = t () => (double[] u) { u = Mul(a, b) }, "
    "else_branch = e () => (double[] v) { v = Add(a, b) }>(k) w = Mul(z, b) y = Add(w, a)",
    feeds={"k": False},
)

add(
    "If-holds-a-loop",
    "double[3] a, double[3] b, bool k",
    f"{_THREE} z = If<then_branch = t () => (double[] u) {{ "
    "u = Loop<body = l (int64 i, bool c, double[] s) => "
    '(bool d, double[] s2) { d = Identity(c) s2 = Mul(s, b) }>(n, "", a) }, '
    "else_branch = e () => (double[] v) { v = Add(a, b) }>(k) w = Mul(z, b) y = Add(w, a)",
    feeds={"k": True},
)

# Scan

_STEP = "v = Mul(s, w) q = Add(v, x) t = Tanh(q) o = Mul(t, x)"
_BODY = f"body = b (double[3] s, double[3] x) => (double[3] t, double[3] o) {{ {_STEP} }}"
_SCANNED = "double[3] h, double[5,3] xs, double[3] w"

add("Scan-last", _SCANNED, f"y, os = Scan<num_scan_inputs=1, {_BODY}>(h, xs)")
add("Scan-outputs", _SCANNED, f"last, y = Scan<num_scan_inputs=1, {_BODY}>(h, xs)")
add("Scan-both", _SCANNED, f"last, os = Scan<num_scan_inputs=1, {_BODY}>(h, xs) {_flat('last', 'os')}")
add(
    "Scan-symbolic",
    "double[3] h, double[T,3] xs, double[3] w",
    f"last, os = Scan<num_scan_inputs=1, {_BODY}>(h, xs) {_flat('last', 'os')}",
    sizes={"T": 4},
)
for _in in (0, 1):
    for _out in (0, 1):
        add(
            f"Scan-directions-{_in}{_out}",
            _SCANNED,
            f"last, y = Scan<num_scan_inputs=1, scan_input_directions=[{_in}], "
            f"scan_output_directions=[{_out}], {_BODY}>(h, xs)",
        )
for _in, _out in ((1, 0), (0, 1), (-1, -1)):
    add(
        f"Scan-axes-{_in}{_out}",
        f"double[3] h, double{'[5,3]' if _in == 0 else '[3,5]'} xs, double[3] w",
        f"last, y = Scan<num_scan_inputs=1, scan_input_axes=[{_in}], scan_output_axes=[{_out}], "
        f"{_BODY}>(h, xs)",
    )
add(
    "Scan-several",
    "double[3] h, double[2] k, double[5,3] xs, double[2,5] zs",
    "f, g, os, ps = Scan<num_scan_inputs=2, scan_input_axes=[0,1], scan_input_directions=[0,1], "
    "scan_output_axes=[1,0], scan_output_directions=[1,0], body = b "
    "(double[3] s, double[2] r, double[3] x, double[2] z) => "
    "(double[3] t, double[2] r2, double[3] o, double[2] p) "
    "{ v = Mul(s, x) t = Tanh(v) r2 = Mul(r, z) o = Exp(t) p = Add(r2, z) }>(h, k, xs, zs) "
    + _flat("f", "g", "os", "ps"),
)
add(
    "Scan-states-mix",
    "double[3] h, double[3] k, double[4,3] xs",
    # The cotangent of h arrives at k, and goes on to k's next value a turn later.
    "y, last = Scan<num_scan_inputs=1, body = b (double[3] s, double[3] r, double[3] x) => "
    "(double[3] t, double[3] r2) { t = Mul(s, r) r2 = Add(r, x) }>(h, k, xs)",
)
add(
    "Scan-stateless",
    "double[5,3] xs, double[3] w",
    "y = Scan<num_scan_inputs=1, body = b (double[3] x) => (double[3] o) { o = Mul(x, w) }>(xs)",
)
add(
    "Scan-linear",
    "double[3] h, double[5,3] xs",
    "y = Scan<num_scan_inputs=1, body = b (double[3] s, double[3] x) => (double[3] t) { t = Add(s, "
    "x) }>(h, xs)",
)
add(
    "Scan-captured-alone",
    "double[3] h, double[3] w",
    "xs = Constant<value=double[2,1]{1, 2}>() y = Scan<num_scan_inputs=1, body = b "
    "(double[3] s, double[1] x) => (double[3] t) { t = Add(s, w) }>(h, xs)",
)
add(
    "Scan-same-value-everywhere",
    "double[3] h, double[5,3] xs",
    "last, y = Scan<num_scan_inputs=2, body = b (double[3] s, double[3] x, double[3] x2) => "
    "(double[3] t, double[3] o) { v = Mul(s, x2) q = Add(v, h) t = Tanh(q) o = Mul(t, x) }>(h, xs, xs)",
)
add(
    "Scan-one-value-returned-twice",
    "double[3] h, double[5,3] xs",
    "last, os = Scan<num_scan_inputs=1, body = b (double[3] s, double[3] x) => (double[3] t, double[3] o) "
    f"{{ v = Mul(s, x) t = Tanh(v) o = Identity(t) }}>(h, xs) {_flat('last', 'os')}",
)
add(
    "Scan-holds-loop-holds-if",
    "double[3] h, double[4,3] xs, double[3] w, bool k",
    f"last, y = Scan<num_scan_inputs=1, body = b (double[3] s, double[3] x) => (double[3] t, double[3] o) {{ "
    f"{_THREE} {_TRUE} v = Loop<body = lb (int64 i, bool c, double[3] m) => (bool c2, double[3] m2) {{ "
    "c2 = Identity(c) mw = Mul(m, w) m2 = If<then_branch = t3 () => (double[3] u) { u1 = Tanh(mw) u "
    "= Add(u1, s) },"
    " else_branch = e3 () => (double[3] v3) { v1 = Exp(mw) v3 = Mul(v1, x) }>(k) }>(n, on, s) "
    "q = Add(v, x) t = Tanh(q) o = Mul(t, x) }>(h, xs)",
    feeds={"k": True},
)

# Loop

_TURN = "r = Mul(s, w) t = Tanh(r)"
_LOOP = f"body = b (int64 i, bool c, double[3] s) => (bool d, double[3] t) {{ d = Identity(c) {_TURN} }}"
_UNTIL = "three = Constant<value=int64{3}>() d = Less(i, three)"

add("Loop-for", "double[3] h, double[3] w", f'{_THREE} y = Loop<{_LOOP}>(n, "", h)')
add("Loop-for-true", "double[3] h, double[3] w", f"{_THREE} {_TRUE} y = Loop<{_LOOP}>(n, on, h)")
add(
    "Loop-trips-fed", "double[3] h, double[3] w, int64[1] n", f'y = Loop<{_LOOP}>(n, "", h)', feeds={"n": [2]}
)
add("Loop-no-turn", "double[3] h, double[3] w, int64 n", f'y = Loop<{_LOOP}>(n, "", h)', feeds={"n": 0})
add(
    "Loop-false",
    "double[3] h, double[3] w, bool on",
    f"{_THREE} y = Loop<{_LOOP}>(n, on, h)",
    feeds={"on": False},
)
add(
    "Loop-no-turn-that-stops",
    "double[3] h, int64 n",
    "y = Loop<body = b (int64 i, bool c, double[3] s) => (bool d, double[3] t) { d = Identity(c) t = "
    'Round(s) }>(n, "", h)',
    feeds={"n": 0},
)
add(
    "Loop-while",
    "double[3] h, double[3] w",
    f"{_TRUE} last, os = Loop<body = b (int64 i, bool c, double[3] s) => (bool d, double[3] t, double[3] o) "
    f'{{ {_TURN} o = Mul(t, s) {_UNTIL} }}>("", on, h) {_flat("last", "os")}',
)
add(
    "Loop-while-at-most",
    "double[3] h, double[3] w",
    f"{_TRUE} {_THREE} last, y = Loop<body = b (int64 i, bool c, double[3] s) => (bool d, double[3] "
    "t, double[3] o) "
    f"{{ {_TURN} o = Mul(t, s) one = Constant<value=int64{{1}}>() d = Less(i, one) }}>(n, on, h)",
)
add(
    "Loop-linear-while",
    "double[3] h, double[3] w",
    f"{_TRUE} y = Loop<body = b (int64 i, bool c, double[3] s) => (bool d, double[3] t) "
    f'{{ t = Add(s, w) {_UNTIL} }}>("", on, h)',
)
add(
    "Loop-scan-alone",
    "double[3] a, double[4,3] b",
    "n = Constant<value=int64{4}>() y = Loop<body = b (int64 i, bool c) => (bool d, double[3] o) "
    '{ d = Identity(c) r = Gather<axis=0>(b, i) o = Mul(r, a) }>(n, "")',
)
add(
    "Loop-grows",
    "double[1,3] h, double[3] w",
    f"{_THREE} {_TRUE} z = Loop<body = b (int64 i, bool c, double[k,3] s) => (bool d, double[l,3] t) "
    "{ d = Identity(c) v = Mul(s, w) t = Concat<axis=0>(s, v) }>(n, on, h) y = Exp(z)",
)
add(
    "Loop-unknown-rank",
    "double[3] h, double[3] w",
    f"{_THREE} {_TRUE} z = Loop<body = b (int64 i, bool c, double[] s) => (bool d, double[] t) "
    "{ d = Identity(c) t = Mul(s, w) }>(n, on, h) v = Mul(z, w) y = Add(v, h)",
)
add(
    "Loop-unknown-rank-grows",
    "double[2,3] h, double[3] w",
    f"{_THREE} {_TRUE} z = Loop<body = b (int64 i, bool c, double[] s) => (bool d, double[] t) "
    "{ d = Identity(c) v = Mul(s, w) t = Concat<axis=0>(s, v) }>(n, on, h) y = Mul(z, w)",
)
add(
    "Loop-nested-unknown-rank",
    "double[3] h, double[3] w",
    f"{_THREE} {_TRUE} last, y = Loop<body = b (int64 i, bool c, double[] s) => (bool d, double[] t, "
    "double[] o) "
    "{ d = Identity(c) t, os = Loop<body = b2 (int64 i2, bool c2, double[] s2) => (bool d2, double[] "
    "t2, double[] o2)"
    " { d2 = Identity(c2) v = Mul(s2, w) t2 = Add(v, s) o2 = Exp(t2) }>(n, on, s) "
    "o = ReduceSum<keepdims=0>(os) }>(n, on, h)",
)
add(
    "Loop-carries-an-integer",
    "double[3] h, double[5,3] table",
    f"{_THREE} {_TRUE} first = Constant<value=int64{{4}}>() y, last = Loop<body = b "
    "(int64 i, bool c, double[3] s, int64 word) => (bool d, double[3] t, int64 next) "
    "{ d = Identity(c) e = Gather<axis=0>(table, word) v = Add(e, s) t = Tanh(v) next = Identity(i) "
    "}>(n, on, h, first)",
)
add(
    "Loop-same-value-everywhere",
    "double[3] h",
    f"{_THREE} {_TRUE} y, last = Loop<body = b (int64 i, bool c, double[3] s, double[3] x) => "
    "(bool d, double[3] t, double[3] x2) { d = Identity(c) r = Mul(x, h) t = Mul(s, r) x2 = Tanh(x) "
    "}>(n, on, h, h)",
)
add(
    "Loop-passes-on",
    "double[3] h, double[3] w",
    f"{_THREE} {_TRUE} last, same, os = Loop<body = b (int64 i, bool c, double[3] s, double[3] x) => "
    "(bool d, double[3] t, double[3] x, double[3] o) { d = Identity(c) t = Mul(s, x) o = Identity(t) "
    "}>(n, on, h, w) " + _flat("last", "same", "os"),
)
add(
    "Loop-if-by-turn",
    "double[3] h, double[3] w",
    f"{_THREE} {_TRUE} one = Constant<value=int64{{1}}>() y = Loop<body = b (int64 i, bool c, "
    "double[3] s) => "
    "(bool d, double[3] t) { d = Identity(c) r = Mul(s, w) k = Equal(i, one) t = If<then_branch = t2 () => "
    "(double[3] u) { u1 = Tanh(r) u = Add(u1, h) }, else_branch = e2 () => (double[3] v) { v1 = "
    "Exp(r) v = Mul(v1, w) }"
    ">(k) }>(n, on, h)",
)
add(
    "Loop-carries-a-sequence",
    "double[3] h, double[3] w",
    f"{_THREE} {_TRUE} first = SequenceConstruct(h) s = Loop<body = b (int64 i, bool c, seq(double[3]) q) => "
    "(bool d, seq(double[3]) r) { d = Identity(c) end = Constant<value=int64{-1}>() "
    "e = SequenceAt(q, end) u = Mul(e, w) v = Tanh(u) "
    "r = SequenceInsert(q, v) }>(n, on, first) z = ConcatFromSequence<axis=0>(s) y = Exp(z)",
)
add(
    "Loop-unwraps-an-optional",
    "double[3] h, double[3] w",
    f"{_THREE} {_TRUE} held = SequenceConstruct(h) first = Optional(held) s = Loop<body = b (int64 i, "
    "bool c, optional(seq(double[3])) q) => (bool d, seq(double[3]) r) { d = Identity(c) "
    "there = OptionalHasElement(q) p = If<then_branch = t () => (seq(double[3]) a) "
    "{ a = OptionalGetElement(q) }, else_branch = e () => "
    "(seq(double[3]) k) { k = SequenceConstruct(w) }>(there) "
    "end = Constant<value=int64{-1}>() "
    "l = SequenceAt(p, end) u = Mul(l, w) v = Tanh(u) r = SequenceInsert(p, v) }>(n, on, first) "
    "z = ConcatFromSequence<axis=0>(s) y = Exp(z)",
)
