"""Pools."""

from autodiff.cases.table import FLATTENED, NEVER, add, add_symbolic

# Pools. Before opset 19, ONNX infers a wrong size where ceil_mode drops a window, and ONNX Runtime trusts it.

for _what, _x, _attributes, _runs in (
    ("1d", "[2,2,7]", "kernel_shape=[3], strides=[2]", 18),
    ("3d", "[1,2,4,5,3]", "kernel_shape=[2,3,2], strides=[2,1,1]", 18),
    ("plain", "[2,2,6,6]", "kernel_shape=[2,2], strides=[2,2]", 18),
    ("default-stride", "[2,2,4,5]", "kernel_shape=[2,3]", 18),
    ("overlap", "[1,2,7,6]", "kernel_shape=[3,3], strides=[2,2]", 18),
    ("overlap-pads", "[1,2,7,6]", "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]", 18),
    ("uneven-pads", "[1,2,5,6]", "kernel_shape=[3,3], strides=[1,2], pads=[0,2,1,0]", 18),
    ("remainder", "[1,2,7,8]", "kernel_shape=[2,2], strides=[3,3]", 18),
    ("ceil", "[1,2,7,8]", "kernel_shape=[3,2], strides=[2,3], ceil_mode=1", 18),
    ("ceil-off", "[1,2,7,8]", "kernel_shape=[3,2], strides=[2,3], ceil_mode=0, pads=[1,0,1,0]", 18),
    ("ceil-extra", "[1,2,6,8]", "kernel_shape=[3,3], strides=[2,2], ceil_mode=1", 18),
    ("ceil-far", "[1,2,7,10]", "kernel_shape=[3,4], strides=[3,5], ceil_mode=1", 19),
    ("ceil-pads", "[1,2,6,7]", "kernel_shape=[3,3], strides=[2,3], ceil_mode=1, pads=[1,1,1,1]", 18),
    ("ceil-dropped", "[1,2,5,5]", "kernel_shape=[2,2], strides=[3,3], ceil_mode=1, pads=[1,1,1,1]", 19),
    ("same-upper", "[1,2,7,6]", 'kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER"', 18),
    ("same-lower", "[1,2,7,6]", 'kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_LOWER"', 18),
    ("same-upper-one", "[1,2,4,5]", 'kernel_shape=[2,4], auto_pad="SAME_UPPER"', 18),
    ("same-lower-one", "[1,2,4,5]", 'kernel_shape=[2,4], auto_pad="SAME_LOWER"', 18),
    ("valid", "[1,2,7,6]", 'kernel_shape=[3,3], strides=[2,2], auto_pad="VALID"', 18),
    ("shifted", "[1,2,6,6]", "kernel_shape=[2,2], strides=[2,2], pads=[1,0,0,1]", 18),
    ("end-pads", "[1,2,5,5]", "kernel_shape=[2,2], strides=[2,2], pads=[0,0,1,1]", 18),
    ("same-ceil", "[1,2,7,6]", 'kernel_shape=[3,3], strides=[2,2], ceil_mode=1, auto_pad="SAME_UPPER"', 18),
):
    add_symbolic(f"MaxPool-{_what}", f"double{_x} a", f"y = MaxPool<{_attributes}>(a)", runs=_runs)
    for _include in (0, 1):
        add_symbolic(
            f"AveragePool-{_what}-{'include' if _include else 'exclude'}",
            f"double{_x} a",
            f"y = AveragePool<{_attributes}, count_include_pad={_include}>(a)",
            runs=_runs,
        )
    for _p in (1, 2, 3):
        add_symbolic(
            f"LpPool-{_what}-p{_p}", f"double{_x} a", f"y = LpPool<{_attributes}, p={_p}>(a)", runs=_runs
        )
for _what, _attributes, _runs in (
    ("dilated", "kernel_shape=[3,2], dilations=[2,3]", 18),
    ("dilated-pads", "kernel_shape=[3,2], dilations=[2,3], strides=[2,2], pads=[1,1,2,0]", 18),
    ("dilated-ceil", "kernel_shape=[3,2], dilations=[1,2], strides=[3,2], ceil_mode=1", 18),
    ("dilated-same", 'kernel_shape=[3,2], dilations=[2,2], strides=[2,2], auto_pad="SAME_LOWER"', NEVER),
):
    for _operator in ("MaxPool", "LpPool"):
        add_symbolic(
            f"{_operator}-{_what}", "double[1,2,9,8] a", f"y = {_operator}<{_attributes}>(a)", runs=_runs
        )
    for _include in (0, 1):
        add_symbolic(
            f"AveragePool-{_what}-{'include' if _include else 'exclude'}",
            "double[1,2,9,8] a",
            f"y = AveragePool<{_attributes}, count_include_pad={_include}>(a)",
            since=19,
            runs=_runs,
        )
add(
    "MaxPool-dilated-end-pads",
    "double[1,2,6,8] a",
    "y = MaxPool<kernel_shape=[2,2], strides=[2,2], dilations=[2,2], pads=[0,0,1,1]>(a)",
)
add("MaxPool-indices", "double[1,2,5,6] a", "y, where = MaxPool<kernel_shape=[3,2], strides=[2,2]>(a)")
add(
    "MaxPool-column-major",
    "double[2,2,5,6] a",
    "y, where = MaxPool<kernel_shape=[3,2], strides=[2,2], storage_order=1>(a)",
)
add(
    "MaxPool-column-major-dilated",
    "double[2,2,7,6] a",
    "y, where = MaxPool<kernel_shape=[3,2], dilations=[2,1], strides=[2,2], storage_order=1>(a)",
)
add("AveragePool-1x1", "double[1,2,3,4] a", "y = AveragePool<kernel_shape=[1,1]>(a)")
for _rank, _x in ((3, "[2,3,5]"), (4, "[2,3,4,5]"), (5, "[2,3,2,3,4]")):
    for _operator in ("GlobalAveragePool", "GlobalMaxPool"):
        add_symbolic(f"{_operator}-rank{_rank}", f"double{_x} a", f"y = {_operator}(a)")
    for _p in (1, 2, 3):
        # ONNX Runtime's kernel ends at opset 21.
        _call = f"GlobalLpPool<p={_p}>(a)"
        add_symbolic(f"GlobalLpPool-rank{_rank}-p{_p}", f"double{_x} a", f"y = {_call}", runs=NEVER)
add("GlobalLpPool-default", "double[2,3,4] a", "y = GlobalLpPool(a)", runs=NEVER)

for _what, _a, _indices, _attributes in (
    (
        "plain",
        "[2,1,2,2]",
        [[[[5, 7], [13, 10]]], [[[16, 19], [28, 31]]]],
        "kernel_shape=[2,2], strides=[2,2]",
    ),
    ("1d", "[1,2,3]", [[[1, 2, 5], [6, 9, 10]]], "kernel_shape=[2], strides=[2]"),
    ("default-stride", "[1,1,2,2]", [[[[0, 5], [7, 8]]]], "kernel_shape=[2,2]"),
    ("pads", "[1,1,2,2]", [[[[0, 4], [5, 3]]]], "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]"),
):
    add_symbolic(
        f"MaxUnpool-{_what}",
        f"double{_a} a, int64{_a} i",
        f"y = MaxUnpool<{_attributes}>(a, i)",
        feeds={"i": _indices},
    )
for _what, _size, _runs in (("same", "1,2,4,4", 18), ("larger", "1,2,5,6", NEVER)):
    add_symbolic(
        f"MaxUnpool-output-{_what}",
        "double[1,2,2,2] a, int64[1,2,2,2] i",
        f"s = Constant<value_ints=[{_size}]>() z = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(a, i, s) "
        f"{FLATTENED}",
        feeds={"i": [[[[5, 7], [13, 15]], [[16, 18], [25, 31]]]]},
        runs=_runs,
    )
add(
    "MaxUnpool-output-left-out",
    "double[1,1,2] a, int64[1,1,2] i",
    f'z = MaxUnpool<kernel_shape=[2], strides=[2]>(a, i, "") {FLATTENED}',
    feeds={"i": [[[1, 2]]]},
)
add(
    "MaxUnpool-output-computed",
    "double[1,2,2,2] a, int64[1,2,2,2] i, int64[4] s",
    f"z = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(a, i, s) {FLATTENED}",
    feeds={"i": [[[[5, 7], [13, 15]], [[16, 18], [25, 31]]]], "s": [1, 2, 4, 4]},
)
