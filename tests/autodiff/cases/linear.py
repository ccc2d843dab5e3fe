"""Matrix products."""

import numpy as np
from autodiff.cases.table import add

# Matrix products

for _ta in (0, 1):
    for _tb in (0, 1):
        _shapes = f"double{['[2,3]', '[3,2]'][_ta]} a, double{['[3,4]', '[4,3]'][_tb]} b"
        for _what, _c in (
            ("none", None),
            ("scalar", ""),
            ("one", "[1]"),
            ("row", "[4]"),
            ("row-matrix", "[1,4]"),
            ("column", "[2,1]"),
            ("full", "[2,4]"),
        ):
            _bias, _use = (f", double{_c} c", ", c") if _c is not None else ("", "")
            add(
                f"Gemm-{'T' if _ta else 'N'}{'T' if _tb else 'N'}-{_what}",
                _shapes + _bias,
                f"y = Gemm<transA={_ta}, transB={_tb}, alpha=0.5, beta=2.0>(a, b{_use})",
            )
add("Gemm-defaults", "double[2,3] a, double[3,4] b, double[4] c", "y = Gemm(a, b, c)")
add(
    "Gemm-symbolic",
    "double[N,3] a, double[3,4] b, double[4] c",
    "y = Gemm<beta=3.0>(a, b, c)",
    sizes={"N": 2},
)
add(
    "Gemm-symbolic-one",
    "double[N,3] a, double[4,3] b, double[M,4] c",
    "y = Gemm<transB=1>(a, b, c)",
    sizes={"N": 1, "M": 1},
)
add("Gemm-twice", "double[3,3] a", "y = Gemm<transB=1>(a, a, a)")

for _what, _a, _b, _sizes in (
    ("vectors", "[3]", "[3]", {}),
    ("vector-matrix", "[3]", "[3,4]", {}),
    ("vector-batch", "[3]", "[2,5,3,4]", {}),
    ("matrix-vector", "[2,3]", "[3]", {}),
    ("batch-vector", "[5,2,4,3]", "[3]", {}),
    ("matrices", "[2,3]", "[3,4]", {}),
    ("batches", "[5,2,3]", "[5,3,4]", {}),
    ("stretch-left", "[1,2,3]", "[5,3,4]", {}),
    ("stretch-right", "[5,2,3]", "[1,3,4]", {}),
    ("stretch-both", "[5,1,2,3]", "[1,6,3,4]", {}),
    ("rank-left", "[2,3]", "[5,3,4]", {}),
    ("rank-right", "[6,5,2,3]", "[5,3,4]", {}),
    ("rank-matrix", "[6,5,2,3]", "[3,4]", {}),
    ("symbolic-batch", "[N,2,3]", "[N,3,4]", {"N": 5}),
    ("symbolic-left", "[N,2,3]", "[3,4]", {"N": 5}),
    ("symbolic-right", "[2,3]", "[N,3,4]", {"N": 5}),
    ("symbolic-one-left", "[N,2,3]", "[M,3,4]", {"N": 1, "M": 5}),
    ("symbolic-one-right", "[N,2,3]", "[M,3,4]", {"N": 5, "M": 1}),
    ("symbolic-one-static", "[N,2,3]", "[1,3,4]", {"N": 5}),
    ("symbolic-number", "[N,2,3]", "[5,3,4]", {"N": 1}),
    ("symbolic-rank", "[N,6,2,3]", "[M,3,4]", {"N": 5, "M": 1}),
    ("symbolic-rows", "[N,L,3]", "[3,4]", {"N": 2, "L": 5}),
    ("symbolic-vector", "[N,L]", "[L]", {"N": 2, "L": 3}),
    ("rank-ones", "[1,1,2,3]", "[5,3,4]", {}),
    ("symbolic-all", "[N,L,K]", "[N,K,L]", {"N": 2, "L": 3, "K": 4}),
):
    add(f"MatMul-{_what}", f"double{_a} a, double{_b} b", "y = MatMul(a, b)", sizes=_sizes)
add(
    "MatMul-unnamed-batch",
    "double[?,2,3] a, double[?,3,4] b",
    "y = MatMul(a, b)",
    feeds={"a": np.arange(6).reshape(1, 2, 3) - 2.5, "b": np.arange(60).reshape(5, 3, 4) % 7 - 3.0},
)
add("MatMul-twice", "double[3,3] a", "y = MatMul(a, a)")

# Determinants

for _what, _a, _sizes in (
    ("matrix", "[3,3]", {}),
    ("one", "[2,1,1]", {}),
    ("batch", "[2,3,4,4]", {}),
    ("symbolic", "[N,M,M]", {"N": 2, "M": 3}),
):
    add(f"Det-{_what}", f"double{_a} a", "y = Det(a)", sizes=_sizes)
add("Det-singular", "double[3,3] a", "y = Det(a)", feeds={"a": np.arange(9).reshape(3, 3)})
add("Det-zero", "double[2,2] a", "y = Det(a)", feeds={"a": np.zeros((2, 2))})

# Sums of products

for _what, _inputs, _equation in (
    ("matmul", "[2,3] a, [3,4] b", "ij,jk->ik"),
    ("implicit", "[3,2] a, [2,4] b", "ba,ac"),
    ("implicit-order", "[2,3,4] a", "bac"),
    ("transpose", "[2,3] a", "ij->ji"),
    ("spaces", "[2,3] a, [3] b", " i j , j -> i "),
    ("trace", "[3,3] a", "ii"),
    ("trace-explicit", "[3,3] a, [2] b", "ii,j->j"),
    ("diagonal", "[2,3,3] a", "bii->ib"),
    ("diagonal-three", "[3,2,3,3] a, [3] b", "ibii,i->ib"),
    ("diagonal-two", "[3,2,3,2] a", "ijij->i"),
    ("sum", "[2,3,4] a", "ijk->j"),
    ("sum-all", "[2,3] a", "ij->"),
    ("sum-alone", "[2,3] a, [4,3] b", "ij,kj->k"),
    ("sum-other", "[2,3] a, [4] b", "ij,k->i"),
    ("scalars", " a, [3] b", ",i->i"),
    ("scalar-only", " a,  b", ","),
    ("outer", "[2] a, [3] b", "i,j->ji"),
    ("three", "[2,3] a, [3,4] b, [4,2] c", "ij,jk,kl->il"),
    ("three-shared", "[2,3] a, [2,3] b, [2] c", "ij,ij,i->j"),
    ("ellipsis", "[5,2,3] a, [5,3,4] b", "...ij,...jk->...ik"),
    ("ellipsis-stretch", "[1,5,2,3] a, [6,1,3,4] b", "...ij,...jk->...ik"),
    ("ellipsis-implicit", "[5,3,2] a, [3] b", "...ji,j"),
    ("ellipsis-middle", "[2,5,6,3] a", "i...j->j...i"),
    ("ellipsis-none", "[2,3] a, [3] b", "...ij,j...->i..."),
    ("ellipsis-diagonal", "[2,4,3,3] a", "...ii->...i"),
):
    add(
        f"Einsum-{_what}",
        ", ".join(f"double{operand}" for operand in _inputs.split(", ")),
        f'y = Einsum<equation="{_equation}">({", ".join(o.split()[-1] for o in _inputs.split(", "))})',
    )
for _what, _inputs, _equation, _sizes in (
    ("symbolic", "double[N,L,3] a, double[N,3,M] b", "bij,bjk->bik", {"N": 2, "L": 4, "M": 5}),
    ("symbolic-stretch", "double[N,2,3] a, double[M,3,4] b", "...ij,...jk->...ik", {"N": 1, "M": 5}),
    ("symbolic-diagonal", "double[N,M,M] a", "bii->b", {"N": 2, "M": 3}),
    ("symbolic-sum", "double[N,M] a, double[N] b", "ij,i->i", {"N": 2, "M": 3}),
):
    add(
        f"Einsum-{_what}",
        _inputs,
        f'y = Einsum<equation="{_equation}">({", ".join(o.split()[-1] for o in _inputs.split(", "))})',
        sizes=_sizes,
    )
add(
    "Einsum-ellipsis-ranks",
    "double[6,5,2,3] a, double[5,3,4] b",
    'y = Einsum<equation="...ij,...jk->...ik">(a, b)',
    shape="6,5,2,4",
)
