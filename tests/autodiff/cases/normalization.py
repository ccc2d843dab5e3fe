"""Normalisation layers."""

from autodiff.cases.table import NEVER, add, add_symbolic

# Batch normalisation

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
for _rank, _x in ((2, "[4,3]"), (4, "[2,3,4,2]")):
    add_symbolic(
        f"BatchNormalization-training-rank{_rank}",
        f"double{_x} a, double[3] s, double[3] b, double[3] m, double[3] p",
        "z, n, v = BatchNormalization<training_mode=1, epsilon=0.01, momentum=0.7>(a, s, b, m, p) "
        "w = Sum(n, v, v) q = ReduceSum<keepdims=0>(w) y = Add(z, q)",
    )
for _what, _read in (("normalised", "z"), ("mean", "n"), ("variance", "v")):
    _running = {
        "z": "y = Sum(z, r)",
        "n": "q = Exp(n) y = Sum(q, s, b, r)",
        "v": "q = Mul(v, v) y = Sum(q, s, b, r)",
    }
    add(
        f"BatchNormalization-training-{_what}",
        "double[4,3] a, double[3] s, double[3] b, double[3] m, double[3] p",
        f"z, n, v = BatchNormalization<training_mode=1>(a, s, b, m, p) r = Sub(m, p) {_running[_read]}",
    )

# Layer, group and instance normalisation

for _what, _scale, _attributes in (
    ("last", "[4]", ""),
    ("epsilon", "[4]", "<epsilon=0.3>"),
    ("axis-2", "[3,4]", "<axis=-2>"),
    ("axis1", "[3,4]", "<axis=1>"),
    ("axis0", "[2,3,4]", "<axis=0>"),
    ("broadcast", "[3,1]", "<axis=1>"),
    ("per-row", "[2,1,4]", "<axis=-1>"),
):
    for _operator, _rest, _args, _since in (
        ("LayerNormalization", f", double{_scale} b", "(a, s, b)", 18),
        ("RMSNormalization", "", "(a, s)", 23),
    ):
        add_symbolic(
            f"{_operator}-{_what}",
            f"double[2,3,4] a, double{_scale} s{_rest}",
            f"y = {_operator}{_attributes}{_args}",
            since=_since,
        )
add("LayerNormalization-no-shift", "double[2,3,4] a, double[4] s", "y = LayerNormalization(a, s)")
for _what, _read in (
    ("mean", "u = Cast<to=DOUBLE>(m) v = Exp(u) y = Mul(v, s)"),
    ("inverse", "u = Cast<to=DOUBLE>(i) v = Exp(u) y = Mul(v, s)"),
    ("all", "u = Cast<to=DOUBLE>(m) v = Cast<to=DOUBLE>(i) w = Mul(u, v) y = Add(w, z)"),
):
    add(
        f"LayerNormalization-{_what}",
        "double[2,3,4] a, double[3,4] s",
        f"z, m, i = LayerNormalization<axis=1, epsilon=0.1>(a, s) {_read}",
    )
for _what, _x in (("1d", "[2,4,5]"), ("2d", "[2,4,3,2]"), ("3d", "[1,4,2,3,2]")):
    _rest = "double[4] s, double[4] b"
    add_symbolic(
        f"InstanceNormalization-{_what}", f"double{_x} a, {_rest}", "y = InstanceNormalization(a, s, b)"
    )
    add_symbolic(
        f"GroupNormalization-{_what}",
        f"double{_x} a, {_rest}",
        "y = GroupNormalization<num_groups=2>(a, s, b)",
        since=21,
        shape=_x[1:-1],
    )
add(
    "InstanceNormalization-epsilon",
    "double[2,4,5] a, double[4] s, double[4] b",
    "y = InstanceNormalization<epsilon=0.3>(a, s, b)",
)
add("MeanVarianceNormalization", "double[2,3,4,2] a", "y = MeanVarianceNormalization(a)", shape="2,3,4,2")
for _axes in ("0,2", "1", "-1,0"):
    add_symbolic(
        f"MeanVarianceNormalization-axes{_axes}",
        "double[3,4,5] a",
        f"y = MeanVarianceNormalization<axes=[{_axes}]>(a)",
        shape="3,4,5",
    )

# Normalisation by a norm

for _norm in (1, 2):
    for _axis in (0, 1, -1):
        add_symbolic(
            f"LpNormalization-{_norm}-axis{_axis}",
            "double[3,2,4] a",
            f"y = LpNormalization<p={_norm}, axis={_axis}>(a)",
        )
add("LpNormalization-defaults", "double[2,3] a", "y = LpNormalization(a)")

# Local response normalisation

for _size in (1, 2, 3, 4, 5):
    add_symbolic(
        f"LRN-{_size}",
        "double[2,6,3,2] a",
        f"y = LRN<size={_size}, alpha=0.7, beta=0.6, bias=1.5>(a)",
        runs=18 if _size % 2 else NEVER,
    )
add("LRN-defaults", "double[2,4,2,3] a", "b = Mul(a, a) c = Exp(b) y = LRN<size=3>(c)")
