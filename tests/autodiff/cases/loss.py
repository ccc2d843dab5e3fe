"""Losses: how they are reduced, crossed with weights and with a class that is ignored."""

from autodiff.cases.table import add, add_symbolic

for _operator in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
    for _reduction in ("mean", "sum", "none"):
        for _weights, _names in (("", "(a, t)"), (", double[3] p", "(a, t, p)")):
            for _what, _x, _t, _target, _ignored in (
                ("rank2", "[4,3]", "[4]", [1, 0, 2, 1], ""),
                ("rank3-ignore", "[2,3,2]", "[2,2]", [[1, 0], [2, 1]], ", ignore_index=1"),
                ("rank4-ignore-none", "[1,3,2,2]", "[1,2,2]", [[[0, 2], [2, 1]]], ", ignore_index=-100"),
                ("rank4-ignore-outside", "[1,3,2,2]", "[1,2,2]", [[[0, 7], [7, 1]]], ", ignore_index=7"),
            ):
                add_symbolic(
                    f"{_operator}-{_reduction}-{_what}{'-weights' if _weights else ''}",
                    f"double{_x} a, int64{_t} t{_weights}",
                    f'y = {_operator}<reduction="{_reduction}"{_ignored}>{_names}',
                    feeds={"t": _target},
                )
    add(
        f"{_operator}-defaults",
        "double[4,3] a, int32[4] t",
        f"y = {_operator}(a, t)",
        feeds={"t": [1, 0, 2, 1]},
    )
    add(
        f"{_operator}-unknown-classes",
        "double[4,C] a, int64[4] t",
        f"y = {_operator}(a, t)",
        feeds={"t": [1, 0, 2, 1]},
        sizes={"C": 3},
    )
for _what, _read in (("log-prob", "y = Mul(q, r)"), ("both", "s = Mul(q, r) y = Add(s, z)")):
    add(
        f"SoftmaxCrossEntropyLoss-{_what}",
        "double[2,3,2] a, int64[2,2] t, double[2,1,2] p",
        f"z, q = SoftmaxCrossEntropyLoss(a, t) r = Mul(q, p) {_read}",
        feeds={"t": [[1, 0], [2, 1]]},
    )
