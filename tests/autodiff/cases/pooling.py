"""Pools."""

from autodiff.cases.table import NEVER, add, add_symbolic

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
for _what, _attributes, _runs in (
    ("dilated", "kernel_shape=[3,2], dilations=[2,3]", 18),
    ("dilated-pads", "kernel_shape=[3,2], dilations=[2,3], strides=[2,2], pads=[1,1,2,0]", 18),
    ("dilated-ceil", "kernel_shape=[3,2], dilations=[1,2], strides=[3,2], ceil_mode=1", 18),
    ("dilated-same", 'kernel_shape=[3,2], dilations=[2,2], strides=[2,2], auto_pad="SAME_LOWER"', NEVER),
):
    add_symbolic(f"MaxPool-{_what}", "double[1,2,9,8] a", f"y = MaxPool<{_attributes}>(a)", runs=_runs)
    for _include in (0, 1):
        add_symbolic(
            f"AveragePool-{_what}-{'include' if _include else 'exclude'}",
            "double[1,2,9,8] a",
            f"y = AveragePool<{_attributes}, count_include_pad={_include}>(a)",
            since=19,
            runs=_runs,
        )
add("MaxPool-indices", "double[1,2,5,6] a", "y, where = MaxPool<kernel_shape=[3,2], strides=[2,2]>(a)")
add(
    "MaxPool-column-major",
    "double[2,2,5,6] a",
    "y, where = MaxPool<kernel_shape=[3,2], strides=[2,2], storage_order=1>(a)",
)
add("AveragePool-1x1", "double[1,2,3,4] a", "y = AveragePool<kernel_shape=[1,1]>(a)")
for _rank, _x in ((3, "[2,3,5]"), (4, "[2,3,4,5]"), (5, "[2,3,2,3,4]")):
    for _operator in ("GlobalAveragePool", "GlobalMaxPool"):
        add_symbolic(f"{_operator}-rank{_rank}", f"double{_x} a", f"y = {_operator}(a)")
