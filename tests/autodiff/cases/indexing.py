"""Gathers and scatters."""

import numpy as np
from autodiff.cases.table import FLATTENED, add, add_symbolic

for _axis in (0, 1, -1):
    for _what, _indices in (("scalar", 1), ("vector", [1, 0, 1, -1]), ("matrix", [[0, 1], [-2, 0]])):
        _dims = {0: "", 1: "[4]", 2: "[2,2]"}[np.ndim(_indices)]
        add(
            f"Gather-axis{_axis}-{_what}",
            f"double[3,2,4] a, int64{_dims} i",
            f"y = Gather<axis={_axis}>(a, i)",
            feeds={"i": _indices},
        )
add("Gather-default", "double[3,2] a, int64[2] i", "y = Gather(a, i)", feeds={"i": [2, 0]})
add("Gather-int32", "double[3,2] a, int32[2] i", "y = Gather(a, i)", feeds={"i": [2, 2]})
add("Gather-symbolic", "double[N,2] a, int64[2] i", "y = Gather(a, i)", feeds={"i": [-1, 0]}, sizes={"N": 3})

for _axis in (0, 1, -1):
    add_symbolic(
        f"GatherElements-axis{_axis}",
        "double[3,2,4] a, int64[2,2,2] i",
        f"y = GatherElements<axis={_axis}>(a, i)",
        feeds={"i": [[[0, 1], [-1, 0]], [[1, 1], [-2, 1]]]},
    )
add(
    "GatherElements-default",
    "double[3,2] a, int32[4,2] i",
    "y = GatherElements(a, i)",
    feeds={"i": [[0, 2], [-1, 1], [0, 0], [2, -3]]},
)

for _what, _batch, _dims, _indices in (
    ("elements", 0, "[3,3]", [[0, 1, 2], [-1, 0, 3], [0, 1, 2]]),
    ("slices", 0, "[2,1,2]", [[[0, 1]], [[-1, -2]]]),
    ("rows", 0, "[4,1]", [[0], [2], [-1], [1]]),
    ("one", 0, "[2]", [1, 1]),
    ("batch", 1, "[3,1]", [[1], [0], [-1]]),
    ("batch-elements", 1, "[3,2,2]", [[[0, 1], [1, -1]], [[0, 0], [0, 0]], [[1, 2], [0, 3]]]),
    ("batches", 2, "[3,2,1]", [[[1], [0]], [[-1], [3]], [[2], [2]]]),
):
    add_symbolic(
        f"GatherND-{_what}",
        f"double[3,2,4] a, int64{_dims} i",
        f"y = GatherND<batch_dims={_batch}>(a, i)",
        feeds={"i": _indices},
    )

for _reduction in ("none", "add", "mul", "max", "min"):
    _twice = _reduction != "none"
    for _axis, _indices in (
        (0, [[0, 1, -1], [2, 2, 0]]),
        (1, [[3, 0, 1], [-2, 0, -1]]),
        (-1, [[0, 0, 0], [1, -4, 1]] if _twice else [[2, 0, 1], [0, 1, 3]]),
    ):
        add_symbolic(
            f"ScatterElements-{_reduction}-axis{_axis}",
            "double[3,4] a, double[2,3] u, int64[2,3] i",
            f'y = ScatterElements<axis={_axis}, reduction="{_reduction}">(a, i, u)',
            feeds={"i": [[0, 1, -1], [0, 2, -1]] if _twice and _axis == 0 else _indices},
        )
    for _what, _dims, _updates, _indices in (
        ("rows", "[2,1]", "[2,4]", [[1], [1]] if _twice else [[-1], [0]]),
        ("elements", "[3,2]", "[3]", [[0, 1], [0, 1], [2, -1]] if _twice else [[0, 1], [1, 1], [2, -1]]),
        ("one", "[2]", "", [1, -2]),
    ):
        add_symbolic(
            f"ScatterND-{_reduction}-{_what}",
            f"double[3,4] a, double{_updates} u, int64{_dims} i",
            f'y = ScatterND<reduction="{_reduction}">(a, i, u)',
            feeds={"i": _indices},
        )
add(
    "ScatterElements-default",
    "double[3,2] a, double[1,2] u, int64[1,2] i",
    "y = ScatterElements(a, i, u)",
    feeds={"i": [[0, 2]]},
)
add(
    "ScatterND-default",
    "double[3,2] a, double[1,2] u, int64[1,1] i",
    "y = ScatterND(a, i, u)",
    feeds={"i": [[2]]},
)

for _operator, _call in (
    ("ScatterElements", 'ScatterElements<reduction="mul">(a, i, u)'),
    ("ScatterND", 'ScatterND<reduction="mul">(a, j, u)'),
):
    for _what, _a, _u in (
        ("update", [2, 3, 4], [0, 5, 6, 7]),
        ("updates", [2, 3, 4], [0, 0, 6, 7]),
        ("data", [0, 3, 0], [5, 6, 7, 8]),
        ("both", [0, 3, 0], [0, 6, 0, 8]),
    ):
        add(
            f"{_operator}-mul-zero-{_what}",
            "double[3] a, double[4] u, int64[4] i",
            f"l = Constant<value_ints=[-1,1]>() j = Reshape(i, l) y = {_call}",
            feeds={"a": _a, "u": _u, "i": [0, 0, 2, -1]},
        )

for _mode, _starts in (("linear", [0, 3]), ("circular", [1, 4])):
    add_symbolic(
        f"TensorScatter-{_mode}",
        "double[2,3,5,2] a, double[2,3,2,2] u, int64[2] i",
        f'y = TensorScatter<mode="{_mode}">(a, u, i)',
        feeds={"i": _starts},
        since=24,
    )
add(
    "TensorScatter-axis",
    "double[2,5,3] a, double[2,L,3] u, int64[2] i",
    "y = TensorScatter<axis=1>(a, u, i)",
    feeds={"i": [2, 1]},
    sizes={"L": 2},
    since=24,
)
add("TensorScatter-no-indices", "double[2,5,3] a, double[2,2,3] u", "y = TensorScatter(a, u)", since=24)

for _axis in (0, 1, -1):
    for _largest in (0, 1):
        add_symbolic(
            f"TopK-axis{_axis}-{'largest' if _largest else 'smallest'}",
            "double[3,2,4] a",
            f"k = Constant<value_ints=[2]>() y, i = TopK<axis={_axis}, largest={_largest}>(a, k)",
        )
add(
    "TopK-unsorted",
    "double[3,4] a",
    "k = Constant<value_ints=[2]>() v, i = TopK<axis=0, sorted=0>(a, k) e = Exp(v) y = ReduceSum(e)",
)
add("TopK-computed", "double[3,4] a, int64[1] k", f'z, "" = TopK(a, k) {FLATTENED}', feeds={"k": [3]})

for _what, _axis, _condition in (
    ("axis0", "<axis=0>", [1, 0, 1]),
    ("axis1", "<axis=1>", [0, 1]),
    ("negative", "<axis=-1>", [1, 1, 0, 1]),
    ("short", "<axis=2>", [0, 1]),
    ("flat", "", [1, 0, 1, 1, 0, 0, 0, 0, 0, 1]),
):
    add_symbolic(
        f"Compress-{_what}",
        f"double[3,2,4] a, bool[{len(_condition)}] c",
        f"z = Compress{_axis}(a, c) {FLATTENED}",
        feeds={"c": _condition},
    )

for _axis in ("", "axis=0", "axis=1", "axis=-1"):
    for _sorted in (0, 1):
        for _outputs in ("y", "y, i", 'y, "", v'):
            add(
                f"Unique-{_axis or 'flat'}-{_sorted}-{_outputs.count(',')}",
                "double[4,3] a",
                f"{_outputs.replace('y', 'z')} = Unique<{_axis}{', ' if _axis else ''}sorted={_sorted}>(a) "
                f"{FLATTENED}",
                feeds={"a": np.random.default_rng(2).permutation(12).reshape(4, 3)},
            )

add(
    "Unique-inverse",
    "double[4,3] a",
    f'u, "", v = Unique(a) z = Gather(u, v) {FLATTENED}',
    feeds={"a": np.random.default_rng(2).permutation(12).reshape(4, 3)},
)

for _axis in ("", "<axis=0>", "<axis=-2>"):
    add_symbolic(
        f"OneHot{_axis and '-' + _axis[1:-1]}-plain",
        "int64[2,3] i, double[2] v",
        f"d = Constant<value=int64{{4}}>() y = OneHot{_axis}(i, d, v)",
        feeds={"i": [[0, 3, -1], [-4, 4, 2]]},
    )
add(
    "OneHot-computed",
    "int64[3] i, int64 d, double[2] v",
    "y = OneHot(i, d, v)",
    feeds={"i": [0, 2, 7], "d": 3},
)
