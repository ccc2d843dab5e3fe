"""Operators of ONNX Runtime's own; those that it runs on CUDA alone are marked."""

import numpy as np
from autodiff.cases.table import NEVER, add

M = "com.microsoft"


def add_contrib(operator: str, what: str, inputs: str, call: str, **more: object) -> None:
    """A case of an operator of com.microsoft; `call` is its attributes and arguments."""
    add(f"{M}::{operator}-{what}", inputs, f"y = {M}.{operator}{call}", **more)


# Convolutions and matrix products with what was fused to them

_CONV = "double[2,4,5,6] a, double[6,2,3,3] w, double[6] b"
for _what, _activation in (
    ("relu", 'activation="Relu"'),
    ("tanh", 'activation="Tanh"'),
    ("leaky", 'activation="LeakyRelu", activation_params=[0.3]'),
    ("clip", 'activation="Clip", activation_params=[-0.5, 0.7]'),
    ("hard-sigmoid", 'activation="HardSigmoid", activation_params=[0.3, 0.4]'),
):
    add_contrib("FusedConv", _what, _CONV, f"<{_activation}, group=2, strides=[2,1]>(a, w, b)")
add_contrib("FusedConv", "no-bias", "double[1,2,4,4] a, double[3,2,3,3] w", '<activation="Sigmoid">(a, w)')
add_contrib(
    "FusedConv",
    "sum",
    "double[1,2,4,4] a, double[3,2,3,3] w, double[3] b, double[1,3,4,4] z",
    '<activation="Relu", pads=[1,1,1,1]>(a, w, b, z)',
)
add_contrib(
    "NhwcFusedConv",
    "sum",
    "double[1,4,4,2] a, double[3,2,3,3] w, double[3] b, double[1,2,2,3] z",
    "(a, w, b, z)",
    runs=NEVER,
)
for _operator in ("NhwcConv", "NhwcFusedConv"):
    _fused = ', activation="Relu"' if "Fused" in _operator else ""
    add_contrib(
        _operator,
        "pads",
        "double[2,5,6,4] a, double[6,2,3,3] w, double[6] b",
        f"<group=2, pads=[1,0,0,1], kernel_shape=[3,3]{_fused}>(a, w, b)",
        runs=NEVER,
    )
add_contrib(
    "FusedGemm",
    "plain",
    "double[3,4] a, double[4,2] w, double[2] b",
    '<activation="Tanh", alpha=0.7, beta=1.5>(a, w, b)',
)
add_contrib(
    "FusedGemm",
    "leaky",
    "double[4,3] a, double[2,4] w, double[3,2] b",
    '<activation="LeakyRelu", activation_alpha=0.3, transA=1, transB=1>(a, w, b)',
)
for _operator, _what, _a, _w, _attributes in (
    ("FusedMatMul", "plain", "[2,3,4]", "[4,5]", "alpha=0.5"),
    ("FusedMatMul", "trans", "[2,4,3]", "[2,5,4]", "transA=1, transB=1, alpha=2.0"),
    ("FusedMatMul", "trans-b", "[3,4]", "[2,5,4]", "transB=1"),
    ("FusedMatMul", "trans-batch", "[3,2,4]", "[2,4,5]", "transBatchA=1"),
    ("FusedMatMul", "trans-both", "[4,2,3]", "[5,2,4]", "transA=1, transBatchA=1, transB=1, transBatchB=1"),
    ("FusedMatMul", "vector", "[4]", "[4,5]", "alpha=3.0"),
    ("TransposeMatMul", "plain", "[2,4,3]", "[2,4,5]", "transA=1, alpha=0.5"),
):
    add_contrib(_operator, _what, f"double{_a} a, double{_w} w", f"<{_attributes}>(a, w)")

# Activations

add_contrib("Gelu", "plain", "double[2,5] a", "(a)")
add_contrib("BiasGelu", "plain", "double[2,3,5] a, double[5] b", "(a, b)")
add_contrib("FastGelu", "plain", "double[2,5] a", "(a)")
add_contrib("FastGelu", "bias", "double[2,3,5] a, double[5] b", "(a, b)")
add_contrib("QuickGelu", "plain", "double[2,5] a", "(a)")
add_contrib("QuickGelu", "alpha", "double[2,5] a", "<alpha=0.7>(a)")
add_contrib("BiasSplitGelu", "plain", "double[2,3,8] a, double[8] b", "(a, b)", runs=NEVER)
add_contrib("BiasAdd", "plain", "double[2,3,5] a, double[5] b, double[2,3,5] c", "(a, b, c)", runs=NEVER)
add_contrib(
    "BiasSoftmax",
    "last",
    "double[2,3,4,5] a, double[2,1,1,5] b",
    "<axis=3, is_inner_broadcast=1>(a, b)",
    runs=NEVER,
)
add_contrib(
    "BiasSoftmax",
    "several",
    "double[2,3,4,5] a, double[1,3,4,5] b",
    "<axis=2, is_inner_broadcast=0>(a, b)",
    runs=NEVER,
)
add_contrib("BiasDropout", "plain", "double[2,3,5] a, double[5] b", "(a, b)", runs=NEVER)
add(
    f"{M}::BiasDropout-residual",
    "double[2,3,5] a, double[5] b, double[2,3,5] c",
    "r = Constant<value=float {0.5}>() t = Constant<value=bool {0}>() "
    f"y = {M}.BiasDropout(a, b, c, r, t)",
    runs=NEVER,
)

# Norms

add(
    "SimplifiedLayerNormalization-plain",
    "double[2,3,6] a, double[6] s",
    "y = SimplifiedLayerNormalization(a, s)",
)
add(
    "SimplifiedLayerNormalization-axis",
    "double[2,3,6] a, double[3,6] s",
    "y = SimplifiedLayerNormalization<axis=1, epsilon=0.1>(a, s)",
)
for _what, _b in (("plain", ""), ("bias", ", b")):
    _shift = ", double[6] b" if _b else ""
    _inputs = f"double[2,3,6] a, double[2,3,6] c, double[6] s, double[6] t{_shift}"
    add_contrib("SkipLayerNormalization", _what, _inputs, f"<epsilon=0.01>(a, c, s, t{_b})")
    _inputs = f"double[2,3,6] a, double[2,3,6] c, double[6] s{_shift}"
    add_contrib("SkipSimplifiedLayerNormalization", _what, _inputs, f"<epsilon=0.01>(a, c, s{_b})")
add_contrib(
    "SkipLayerNormalization", "no-shift", "double[2,3,6] a, double[2,3,6] c, double[6] s", "(a, c, s)"
)
for _operator, _more in (("SkipLayerNormalization", ", t"), ("SkipSimplifiedLayerNormalization", "")):
    add(
        f"{M}::{_operator}-sum",
        "double[2,3,6] a, double[1,3,6] c, double[6] s" + (", double[6] t" if _more else ""),
        f'n, "", "", u = {M}.{_operator}(a, c, s{_more}) e = Exp(u) y = Mul(n, e)',
    )
_IDS = {"i": [[1, 4, 2], [0, 3, 3]], "g": [[0, 1, 1], [1, 1, 0]], "p": [[2, 0, 1]]}
add(
    f"{M}::EmbedLayerNormalization-segments",
    "int32[2,3] i, int32[2,3] g, double[5,4] w, double[6,4] r, double[2,4] u, double[4] s, double[4] t",
    f"y, m = {M}.EmbedLayerNormalization<epsilon=0.01>(i, g, w, r, u, s, t)",
    feeds=_IDS,
)
add(
    f"{M}::EmbedLayerNormalization-places",
    "int32[2,3] i, double[5,4] w, double[6,4] r, double[4] s, double[4] t, int32[1,3] p",
    f'y, m = {M}.EmbedLayerNormalization(i, "", w, r, "", s, t, "", p)',
    feeds=_IDS,
)
for _what, _x, _attributes in (
    ("last", "[2,3,2,6]", "groups=3"),
    ("first", "[2,6,3,2]", "groups=2, channels_last=0, epsilon=0.01"),
    ("silu", "[2,3,2,6]", "groups=3, activation=1"),
):
    add_contrib(
        "GroupNorm", _what, f"double{_x} a, double[6] s, double[6] t", f"<{_attributes}>(a, s, t)", runs=NEVER
    )

# Attention: two heads of size 4

_QKV = "double[2,3,6] a, double[6,24] w, double[24] b"
add_contrib("Attention", "plain", _QKV, "<num_heads=2>(a, w, b)")
add_contrib("Attention", "causal", _QKV, "<num_heads=2, unidirectional=1, scale=0.3>(a, w, b)")
# ONNX Runtime's CPU kernel reads the bias though it is not there.
add_contrib("Attention", "no-bias", "double[2,3,6] a, double[6,24] w", "<num_heads=2>(a, w)", runs=NEVER)
add_contrib(
    "Attention",
    "sizes",
    "double[2,3,6] a, double[6,20] w, double[20] b",
    "<num_heads=2, qkv_hidden_sizes=[8,8,4]>(a, w, b)",
)
for _rank, _mask in ((1, [3, 2]), (2, [[1, 1, 1], [1, 1, 0]]), (3, [[[1, 1, 0]] * 3, [[1, 0, 1]] * 3])):
    _shape = ",".join(map(str, np.shape(_mask)))
    add_contrib(
        "Attention",
        f"mask-{_rank}",
        f"{_QKV}, int32[{_shape}] m",
        "<num_heads=2>(a, w, b, m)",
        feeds={"m": _mask},
    )
add(
    f"{M}::Attention-bias",
    f"{_QKV}, double[2,2,3,3] c",
    f'y = {M}.Attention<num_heads=2>(a, w, b, "", "", c)',
)
add(
    f"{M}::Attention-present",
    _QKV,
    f"n, r = {M}.Attention<num_heads=2>(a, w, b) f = Constant<value_ints=[-1]>() "
    "u = Reshape(n, f) v = Reshape(r, f) y = Concat<axis=0>(u, v)",
)

_MHA = "double[2,3,8] q, double[2,5,8] k, double[2,5,6] v"
add_contrib("MultiHeadAttention", "plain", _MHA, "<num_heads=2>(q, k, v)")
add_contrib("MultiHeadAttention", "bias", f"{_MHA}, double[22] b", "<num_heads=2, scale=0.4>(q, k, v, b)")
add(
    f"{M}::MultiHeadAttention-mask",
    f"{_MHA}, int32[2,5] m, double[1,2,3,5] c",
    f'y = {M}.MultiHeadAttention<num_heads=2>(q, k, v, "", m, c)',
    feeds={"m": [[1, 1, 1, 0, 1], [1, 1, 0, 0, 1]]},
)
for _what, _inputs, _args in (
    ("packed", "double[2,3,2,3,4] q", "q"),
    ("packed-keys", "double[2,3,8] q, double[2,5,2,2,4] k", "q, k"),
):
    add_contrib("MultiHeadAttention", _what, _inputs, f"<num_heads=2>({_args})", runs=NEVER)
add_contrib(
    "MultiHeadAttention",
    "causal",
    "double[2,3,8] q, double[2,3,8] k, double[2,3,8] v",
    "<num_heads=2, unidirectional=1>(q, k, v)",
)

_GQA = "int32[2] n, int32 t"
_TURNS = ", double[4,8] c, double[4,8] s"
_LENGTHS = {"n": [3, 3], "t": 4}
for _what, _attributes, _more, _args in (
    ("plain", "", "", ""),
    ("scale", ", scale=0.3, causal=0", "", ""),
    ("rotary", ", do_rotary=1", _TURNS, ", c, s"),
    ("rotary-interleaved", ", do_rotary=1, rotary_interleaved=1", _TURNS, ", c, s"),
):
    add(
        f"{M}::GroupQueryAttention-{_what}",
        f"double[2,4,64] q, double[2,4,32] k, double[2,4,32] v, {_GQA}{_more}",
        f"y = {M}.GroupQueryAttention<num_heads=4, kv_num_heads=2{_attributes}>"
        f'(q, k, v, "", "", n, t{_args})',
        feeds=_LENGTHS,
    )
add(
    f"{M}::GroupQueryAttention-packed",
    f"double[2,4,64] q, {_GQA}",
    f'y = {M}.GroupQueryAttention<num_heads=4, kv_num_heads=2>(q, "", "", "", "", n, t)',
    feeds=_LENGTHS,
)

for _what, _x, _places, _attributes in (
    ("plain", "[2,3,8]", [[0, 1, 2], [2, 0, 1]], ""),
    ("offset", "[2,3,8]", [1], ""),
    ("heads", "[2,2,3,4]", [[0, 1, 2], [2, 0, 1]], ""),
    ("interleaved", "[2,3,8]", [[0, 1, 2], [2, 0, 1]], "<interleaved=1>"),
    ("partial", "[2,3,16]", [[0, 1, 2], [2, 0, 1]], "<num_heads=2, rotary_embedding_dim=4>"),
):
    _shape = ",".join(map(str, np.shape(_places)))
    add_contrib(
        "RotaryEmbedding",
        _what,
        f"double{_x} a, int64[{_shape}] p, double[5,2] c, double[5,2] s",
        f"{_attributes}(a, p, c, s)",
        feeds={"p": _places},
    )

# Pools and quantised weights

add_contrib(
    "NhwcMaxPool",
    "plain",
    "double[1,5,4,2] a",
    "<kernel_shape=[3,2], strides=[2,1], pads=[1,0,0,1]>(a)",
    runs=NEVER,
)
_BYTES = np.random.default_rng(0).integers(0, 256, (3, 2, 16))
for _what, _bits, _bytes in (("4", 4, _BYTES[..., :8]), ("8", 8, _BYTES), ("2", 2, _BYTES[..., :4])):
    add_contrib(
        "MatMulNBits",
        f"bits-{_what}",
        f"double[2,2,20] a, uint8[3,2,{16 * _bits // 8}] w, double[3,2] s",
        f"<K=20, N=3, bits={_bits}, block_size=16>(a, w, s)",
        feeds={"w": _bytes},
    )
add(
    f"{M}::MatMulNBits-bias",
    "double[2,20] a, uint8[3,2,8] w, double[3,2] s, uint8[3,1] z, double[3] b",
    f'y = {M}.MatMulNBits<K=20, N=3, bits=4, block_size=16>(a, w, s, z, "", b)',
    feeds={"w": _BYTES[..., :8], "z": [[0x73], [0x18], [0xF0]]},
)
