"""Attention, the embedding of positions, and what stands in for attention along a sequence."""

import numpy as np
from autodiff.cases.table import NEVER, add

_INF = float("inf")
# What a query may see: a row that sees all, one that sees some, and one that sees nothing.
_SEEN = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
_BIAS = np.where(_SEEN, np.arange(12).reshape(3, 4) / 7 - 1, -_INF)

_Q, _K, _V = "double[2,4,3,2] q", "double[2,4,4,2] k", "double[2,4,4,3] v"
_SHARED = "double[2,2,4,2] k, double[2,2,4,3] v"
for _what, _inputs, _attributes, _feeds, _more in (
    ("plain", f"{_Q}, {_K}, {_V}", "", {}, {}),
    ("scaled", f"{_Q}, {_K}, {_V}", "scale=0.3", {}, {}),
    ("softcap", f"{_Q}, {_K}, {_V}", "softcap=1.5", {}, {}),
    ("precision", f"{_Q}, {_K}, {_V}", "softmax_precision=11", {}, {}),
    ("causal", f"{_Q}, {_K}, {_V}", "is_causal=1", {}, {}),
    ("causal-long", "double[1,2,5,2] q, double[1,2,3,2] k, double[1,2,3,2] v", "is_causal=1", {}, {}),
    ("grouped", f"{_Q}, {_SHARED}", "", {}, {}),
    ("grouped-causal-softcap", f"{_Q}, {_SHARED}", "is_causal=1, softcap=2.0", {}, {}),
    ("bias", f"{_Q}, {_K}, {_V}, double[3,4] m", "", {}, {}),
    ("bias-heads", f"{_Q}, {_K}, {_V}, double[4,3,4] m", "is_causal=1", {}, {}),
    ("bias-batch", f"{_Q}, {_SHARED}, double[2,1,3,4] m", "softcap=1.0", {}, {}),
    ("bias-hides", f"{_Q}, {_K}, {_V}, float[3,4] m", "", {"m": _BIAS}, {}),
    ("bias-hides-causal", f"{_Q}, {_K}, {_V}, float[3,4] m", "is_causal=1", {"m": _BIAS}, {}),
    ("mask", f"{_Q}, {_K}, {_V}, bool[3,4] m", "", {"m": _SEEN}, {}),
    ("mask-causal", f"{_Q}, {_SHARED}, bool[3,4] m", "is_causal=1", {"m": _SEEN}, {}),
    ("mask-short", f"{_Q}, {_K}, {_V}, bool[3,3] m", "", {"m": _SEEN[:, :3]}, {"since": 24}),
    ("bias-short", f"{_Q}, {_K}, {_V}, double[3,3] m", "", {}, {"since": 24}),
    ("packed", "double[2,3,4] q, double[2,5,4] k, double[2,5,6] v", "q_num_heads=2, kv_num_heads=2", {}, {}),
    (
        "packed-grouped",
        "double[2,3,8] q, double[2,5,4] k, double[2,5,6] v, double[3,5] m",
        "q_num_heads=4, kv_num_heads=2, is_causal=1",
        {},
        {},
    ),
    (
        "symbolic",
        "double[N,H,L,D] q, double[N,G,S,D] k, double[N,G,S,E] v, double[L,S] m",
        "is_causal=1",
        {},
        {"sizes": {"N": 2, "H": 4, "G": 2, "L": 3, "S": 4, "D": 2, "E": 3}},
    ),
    (
        "symbolic-packed",
        "double[N,L,8] q, double[N,S,4] k, double[N,S,6] v",
        "q_num_heads=4, kv_num_heads=2",
        {},
        {"sizes": {"N": 2, "L": 3, "S": 4}},
    ),
):
    _names = ", ".join(one.split()[-1] for one in _inputs.split(", "))
    _given = f"<{_attributes}>" if _attributes else ""
    _cast = "n = Cast<to=DOUBLE>(m) " if "float[" in _inputs else ""
    add(
        f"Attention-{_what}",
        _inputs,
        f"{_cast}y = Attention{_given}({_names.replace('m', 'n') if _cast else _names})",
        feeds=_feeds,
        **{"since": 23, **_more},
    )
for _mode, _name in enumerate(("raw", "capped", "biased", "weights")):
    _attributes = f"qk_matmul_output_mode={_mode}{', softcap=1.5' if _mode else ''}"
    add(
        f"Attention-shown-{_name}",
        f"{_Q}, {_SHARED}, double[3,4] m",
        f"a, b, c, d = Attention<{_attributes}>(q, k, v, m) y = Concat<axis=3>(a, d)",
        since=23,
    )
_PAST = "double[2,2,3,2] x, double[2,2,3,3] z"
_FLAT = "f = Constant<value_ints=[-1]>() g = Reshape(a, f) h = Reshape(b, f) i = Reshape(c, f)"
for _what, _more, _call, _since in (
    ("past", f", {_PAST}", "(q, k, v, , x, z)", 23),
    ("past-causal", f", {_PAST}", "<is_causal=1>(q, k, v, , x, z)", 23),
    ("past-bias", f", double[3,7] m, {_PAST}", "(q, k, v, m, x, z)", 23),
    ("past-short", f", double[3,4] m, {_PAST}", "(q, k, v, m, x, z)", 24),
    ("past-window", f", {_PAST}", "<left_window_size=2>(q, k, v, , x, z)", 25),
):
    add(
        f"Attention-{_what}",
        f"{_Q}, {_SHARED}{_more}",
        f"a, b, c = Attention{_call} {_FLAT} y = Concat<axis=0>(g, h, i)",
        since=_since,
    )
for _what, _attributes, _since in (
    ("valid", "is_causal=0", 24),
    ("valid-causal", "is_causal=1", 24),
    ("valid-window", "left_window_size=1", 25),
):
    add(
        f"Attention-{_what}",
        f"{_Q}, {_SHARED}, int64[2] n",
        f"y = Attention<{_attributes}>(q, k, v, , , , n)",
        feeds={"n": [4, 2]},
        since=_since,
    )
add(
    "Attention-window",
    f"{_Q}, {_SHARED}",
    "y = Attention<left_window_size=1, right_window_size=0>(q, k, v)",
    since=25,
)
add("Attention-window-right", f"{_Q}, {_K}, {_V}", "y = Attention<right_window_size=1>(q, k, v)", since=25)

_PLACES = np.array([[0, 2, 4], [3, 3, 1]])
for _what, _inputs, _call in (
    ("plain", "double[2,2,3,4] a, double[2,3,2] c, double[2,3,2] s", "RotaryEmbedding(a, c, s)"),
    (
        "interleaved",
        "double[2,2,3,4] a, double[2,3,2] c, double[2,3,2] s",
        "RotaryEmbedding<interleaved=1>(a, c, s)",
    ),
    (
        "places",
        "double[2,2,3,4] a, double[5,2] c, double[5,2] s, int64[2,3] p",
        "RotaryEmbedding(a, c, s, p)",
    ),
    (
        "part",
        "double[2,2,3,6] a, double[5,2] c, double[5,2] s, int64[2,3] p",
        "RotaryEmbedding<rotary_embedding_dim=4>(a, c, s, p)",
    ),
    (
        "part-interleaved",
        "double[2,2,3,6] a, double[2,3,2] c, double[2,3,2] s",
        "RotaryEmbedding<rotary_embedding_dim=4, interleaved=1>(a, c, s)",
    ),
    ("packed", "double[2,3,8] a, double[2,3,2] c, double[2,3,2] s", "RotaryEmbedding<num_heads=2>(a, c, s)"),
    (
        "packed-part",
        "double[2,3,8] a, double[5,1] c, double[5,1] s, int64[2,3] p",
        "RotaryEmbedding<num_heads=2, rotary_embedding_dim=2, interleaved=1>(a, c, s, p)",
    ),
    ("symbolic", "double[N,H,L,4] a, double[N,L,2] c, double[N,L,2] s", "RotaryEmbedding(a, c, s)"),
    (
        "symbolic-packed",
        "double[N,L,8] a, double[N,L,2] c, double[N,L,2] s",
        "RotaryEmbedding<num_heads=2>(a, c, s)",
    ),
):
    add(
        f"RotaryEmbedding-{_what}",
        _inputs,
        f"y = {_call}",
        feeds={"p": _PLACES},
        sizes={"N": 2, "H": 2, "L": 3} if "N" in _inputs else {},
        since=23,
    )

add(
    "LinearAttention-symbolic",
    "double[N,L,W] q, double[N,L,4] k, double[N,L,V] v, double[N,L,4] d, double[N,L,2] r",
    "y = LinearAttention<q_num_heads=4, kv_num_heads=2>(q, k, v, , d, r)",
    sizes={"N": 2, "L": 3, "W": 8, "V": 6},
    shape="N,L,Y",
    since=27,
    runs=NEVER,
)
_HEADS = "q_num_heads=4, kv_num_heads=2"
for _what, _more, _call in (
    ("linear", "", f'<{_HEADS}, update_rule="linear">(q, k, v)'),
    ("gated", ", double[2,3,4] d", f'<{_HEADS}, update_rule="gated">(q, k, v, , d)'),
    ("gated-heads", ", double[2,3,2] d", f'<{_HEADS}, update_rule="gated">(q, k, v, , d)'),
    ("delta", ", double[2,3,2] r", f'<{_HEADS}, update_rule="delta">(q, k, v, , , r)'),
    ("both", ", double[2,3,4] d, double[2,3,1] r", f"<{_HEADS}, scale=0.7>(q, k, v, , d, r)"),
    ("past", ", double[2,2,2,3] s, double[2,3,4] d, double[2,3,2] r", f"<{_HEADS}>(q, k, v, s, d, r)"),
):
    add(
        f"LinearAttention-{_what}",
        f"double[2,3,8] q, double[2,3,4] k, double[2,3,6] v{_more}",
        f"a, b = LinearAttention{_call} f = Constant<value_ints=[-1]>() "
        "g = Reshape(a, f) h = Reshape(b, f) y = Concat<axis=0>(g, h)",
        since=27,
        runs=NEVER,
    )
for _what, _inputs, _call in (
    ("plain", "double[2,2,5] a, double[2,1,3] w", "(a, w)"),
    ("bias", "double[2,2,5] a, double[2,1,3] w, double[2] b", "(a, w, b)"),
    ("past", "double[2,2,5] a, double[2,1,3] w, double[2,2,2] s", "(a, w, , s)"),
    (
        "silu",
        "double[2,2,5] a, double[2,1,3] w, double[2] b, double[2,2,2] s",
        '<activation="silu">(a, w, b, s)',
    ),
    ("swish", "double[2,2,5] a, double[2,1,3] w", '<activation="swish">(a, w)'),
    ("short", "double[2,2,1] a, double[2,1,3] w", "(a, w)"),
    ("symbolic", "double[N,2,L] a, double[2,1,3] w, double[N,2,2] s", "(a, w, , s)"),
):
    add(
        f"CausalConvWithState-{_what}",
        _inputs,
        f"o, p = CausalConvWithState{_call} y = Concat<axis=2>(o, p)",
        sizes={"N": 2, "L": 4} if "N" in _inputs else {},
        since=27,
        runs=NEVER,
    )
