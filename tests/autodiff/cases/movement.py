"""Operators that only move data."""

from autodiff.cases.table import FLATTENED, NEVER, add, add_symbolic

add("Dropout", "double[2,3] a", "y = Dropout(a)")
add("Dropout-mask", "double[2,3] a", "y, mask = Dropout(a)")
add("Dropout-ratio", "double[2,3] a", "r = Constant<value=double{0.7}>() y = Dropout(a, r)")
add(
    "Dropout-flag-off",
    "double[2,3] a",
    'f = Constant<value=bool{0}>() y = Dropout(a, "", f)',
)
# The reference evaluator draws the same mask each time, ONNX Runtime another.
_training = "f = Constant<value=bool{1}>() r = Constant<value=double{0.7}>()"
add("Dropout-training", "double[4,6] a", f'{_training} y = Dropout<seed=3>(a, "", f)', runs=NEVER)
add("Dropout-training-ratio", "double[4,6] a", f"{_training} y = Dropout<seed=3>(a, r, f)", runs=NEVER)
add("Dropout-training-mask", "double[4,6] a", f'{_training} y, m = Dropout<seed=3>(a, "", f)', runs=NEVER)
add(
    "Dropout-training-computed",
    "double[4,6] a, double r, bool f",
    "y = Dropout<seed=3>(a, r, f)",
    feeds={"r": 0.3, "f": True},
    runs=NEVER,
)
add(
    "Dropout-inference-computed",
    "double[4,6] a, double r, bool f",
    "y = Dropout<seed=3>(a, r, f)",
    feeds={"r": 0.3, "f": False},
)


# Moving data

for _axis in (-3, -1, 0, 1, 2):
    _other = ["[5,3,4]", "[2,5,4]", "[2,3,5]"][_axis % 3]
    add(f"Concat-axis{_axis}", f"double[2,3,4] a, double{_other} b", f"y = Concat<axis={_axis}>(a, b)")
add("Concat-one", "double[2,3] a", "y = Concat<axis=0>(a)")
add("Concat-twice", "double[2,3] a, double[2,1] b", "y = Concat<axis=1>(a, b, a)")
add("Concat-symbolic", "double[N,3] a, double[M,3] b", "y = Concat<axis=0>(a, b)", sizes={"N": 2, "M": 4})
add(
    "Concat-symbolic-axis",
    "double[2,K] a, double[2,L] b",
    "y = Concat<axis=-1>(a, b)",
    sizes={"K": 2, "L": 5},
)

add("Split-attribute", "double[2,6] a", "b, c = Split<axis=1, num_outputs=2>(a) d = Mul(b, c) y = Exp(d)")
add(
    "Split-uneven-attribute",
    "double[2,5] a",
    "b, c = Split<axis=1, num_outputs=2>(a) d = Exp(b) e = Neg(c) y = Concat<axis=1>(d, e)",
)
add(
    "Split-sizes",
    "double[5,2] a",
    "s = Constant<value_ints=[1,3,1]>() b, c, d = Split(a, s) e = Mul(b, c) y = Mul(e, d)",
)
add(
    "Split-negative-axis",
    "double[3,5] a",
    "s = Constant<value_ints=[1,4]>() b, c = Split<axis=-1>(a, s) y = Mul(b, c)",
)
add("Split-unused", "double[6,2] a", "b, c, d = Split<num_outputs=3>(a) y = Mul(b, d)")
add(
    "Split-computed",
    "double[2,5] a, int64[2] s",
    f"b, c = Split<axis=1>(a, s) d = Exp(c) z = Concat<axis=-1>(d, b) {FLATTENED}",
    feeds={"s": [2, 3]},
)
add(
    "Split-computed-unused",
    "double[5,2] a, int64[2] s",
    f"b, c = Split(a, s) z = Exp(c) {FLATTENED}",
    feeds={"s": [2, 3]},
)
add("Split-symbolic", "double[N,4] a", "b, c = Split<axis=1, num_outputs=2>(a) y = Mul(b, c)", sizes={"N": 3})

for _what, _bounds in {
    "plain": {"starts": [1, 0], "ends": [3, 2]},
    "negative": {"starts": [-3, -2], "ends": [-1, 9]},
    "far": {"starts": [-100, 1], "ends": [100, 100]},
    "axes": {"starts": [1], "ends": [4], "axes": [1]},
    "negative-axes": {"starts": [1, 1], "ends": [4, 3], "axes": [-1, 0]},
    "step": {"starts": [0], "ends": [5], "axes": [1], "steps": [2]},
    "backwards": {"starts": [4, -1], "ends": [0, -100], "axes": [1, 0], "steps": [-2, -1]},
    "step-one": {"starts": [1], "ends": [3], "axes": [0], "steps": [1]},
    "empty": {"starts": [3], "ends": [1], "axes": [0]},
}.items():
    # The sum is there for the slice that takes nothing.
    _use = f"b = Slice(a, {', '.join(_bounds)}) s = ReduceSum<keepdims=0>(b) y = Sum(a, s)"
    if _what != "empty":
        _use = f"y = Slice(a, {', '.join(_bounds)})"
    _constants = " ".join(f"{name} = Constant<value_ints={numbers}>()" for name, numbers in _bounds.items())
    add_symbolic(f"Slice-{_what}", "double[4,5] a", f"{_constants} {_use}")
    _inputs = ", ".join(f"int64[{len(numbers)}] {name}" for name, numbers in _bounds.items())
    add(f"Slice-{_what}-computed", f"double[4,5] a, {_inputs}", _use, feeds=_bounds)
add(
    "Slice-steps-without-axes",
    "double[4,5] a",
    "s = Constant<value_ints=[0,4]>() e = Constant<value_ints=[4,0]>() t = Constant<value_ints=[2,-3]>() "
    'y = Slice(a, s, e, "", t)',
)
add(
    "Slice-computed-ends",
    "double[4,5] a, int64[1] e",
    "s = Constant<value_ints=[1]>() y = Slice(a, s, e)",
    feeds={"e": [3]},
)
add(
    "Slice-computed-steps",
    "double[4,5] a, int64[1] t",
    "s = Constant<value_ints=[0]>() e = Constant<value_ints=[4]>() x = Constant<value_ints=[0]>() "
    "y = Slice(a, s, e, x, t)",
    feeds={"t": [3]},
)
add(
    "Slice-symbolic-other-axis",
    "double[N,5] a",
    "s = Constant<value_ints=[1]>() e = Constant<value_ints=[3]>() x = Constant<value_ints=[1]>() "
    "y = Slice(a, s, e, x)",
    sizes={"N": 2},
)

for _mode in ("constant", "reflect", "edge", "wrap"):
    for _what, _pads, _axes in (
        ("plain", "1,0,2,2", ""),
        ("negative", "-1,2,1,-1", ""),
        ("axes", "2,1", "1"),
        ("negative-axes", "2,1,1,0", "-1,0"),
    ):
        _axes_text = f"x = Constant<value_ints=[{_axes}]>()" if _axes else ""
        _call = f'Pad<mode="{_mode}">(a, s{", , x" if _axes else ""})'
        add_symbolic(
            f"Pad-{_mode}-{_what}",
            "double[4,5] a",
            f"s = Constant<value_ints=[{_pads}]>() {_axes_text} y = {_call}",
            since=19 if _mode == "wrap" else 18,
        )
add("Pad-default", "double[2,3] a", "s = Constant<value_ints=[1,0,0,2]>() y = Pad(a, s)")
add("Pad-value", "double[2,3] a, double v", "s = Constant<value_ints=[1,0,0,2]>() y = Pad(a, s, v)")
add(
    "Pad-value-axes",
    "double[2,3] a, double v",
    "s = Constant<value_ints=[1,-1]>() x = Constant<value_ints=[1]>() y = Pad(a, s, v, x)",
)
add("Pad-computed", "double[2,3] a, double v, int64[4] s", "y = Pad(a, s, v)", feeds={"s": [0, 1, 2, 0]})
add(
    "Pad-computed-axes",
    "double[2,3] a, double v, int64[2] s, int64[1] x",
    f"z = Pad(a, s, v, x) {FLATTENED}",
    feeds={"s": [2, -1], "x": [-1]},
)
add(
    "Pad-computed-axes-reflect",
    "double[2,3] a, int64[2] s, int64[1] x",
    f'z = Pad<mode="reflect">(a, s, "", x) {FLATTENED}',
    feeds={"s": [2, 1], "x": [1]},
)
add(
    "Pad-computed-edge",
    "double[2,3] a, int64[4] s",
    'y = Pad<mode="edge">(a, s)',
    feeds={"s": [0, 1, 2, 0]},
)

add("Transpose-default", "double[2,3,4] a", "y = Transpose(a)")
for _perm in ("1,0,2", "1,2,0", "2,0,1", "0,1,2"):
    add(f"Transpose-{_perm}", "double[2,3,4] a", f"y = Transpose<perm=[{_perm}]>(a)")
add("Transpose-cycle", "double[2,3,4,5] a", "y = Transpose<perm=[2,3,1,0]>(a)")
add("Transpose-symbolic", "double[N,3,L] a", "y = Transpose<perm=[1,2,0]>(a)", sizes={"N": 2, "L": 4})

for _what, _shape in (("plain", "3,4"), ("zero", "0,3,2"), ("rest", "-1,2"), ("zero-rest", "0,-1")):
    add_symbolic(
        f"Reshape-{_what}",
        "double[2,6] a",
        f"s = Constant<value_ints=[{_shape}]>() y = Reshape(a, s)",
    )
add("Reshape-allowzero", "double[2,6] a", "s = Constant<value_ints=[12]>() y = Reshape<allowzero=1>(a, s)")
add("Reshape-computed", "double[2,6] a, int64[2] s", "y = Reshape(a, s)", feeds={"s": [4, 3]})
add("Reshape-own-shape", "double[2,6] a", "s = Shape(a) y = Reshape(a, s)")
for _axis in (0, 1, 2, -1):
    add_symbolic(f"Flatten-axis{_axis}", "double[2,3,4] a", f"y = Flatten<axis={_axis}>(a)")
add("Flatten-default", "double[2,3,4] a", "y = Flatten(a)")
add("Squeeze-all", "double[2,1,3,1] a", "y = Squeeze(a)")
add("Squeeze-axes", "double[2,1,3,1] a", "s = Constant<value_ints=[1]>() y = Squeeze(a, s)")
add("Squeeze-negative", "double[2,1,3,1] a", "s = Constant<value_ints=[-1]>() y = Squeeze(a, s)")
add("Squeeze-symbolic", "double[N,1,3] a", "s = Constant<value_ints=[1]>() y = Squeeze(a, s)", sizes={"N": 2})
add("Unsqueeze-axes", "double[2,3] a", "s = Constant<value_ints=[0,2]>() y = Unsqueeze(a, s)")
add("Unsqueeze-negative", "double[2,3] a", "s = Constant<value_ints=[-1]>() y = Unsqueeze(a, s)")
add("Unsqueeze-computed", "double[2,3] a, int64[1] s", f"z = Unsqueeze(a, s) {FLATTENED}", feeds={"s": [1]})

for _what, _a, _shape in (
    ("rank", "[3]", "2,3"),
    ("ones", "[2,1,3]", "2,4,3"),
    ("both", "[3,1]", "2,1,4"),
    ("same", "[2,3]", "2,3"),
    ("lesser", "[2,3]", "1,3"),
    ("scalar", "", "2,3"),
):
    add(f"Expand-{_what}", f"double{_a} a", f"s = Constant<value_ints=[{_shape}]>() y = Expand(a, s)")
    add(
        f"Expand-{_what}-computed",
        f"double{_a} a, int64[{_shape.count(',') + 1}] s",
        "y = Expand(a, s)",
        feeds={"s": [int(n) for n in _shape.split(",")]},
    )
add("Expand-symbolic", "double[N,3] a, int64[2] s", "y = Expand(a, s)", feeds={"s": [4, 3]}, sizes={"N": 1})

for _repeats in ("1,3", "2,1", "2,3"):
    add_symbolic(
        f"Tile-{_repeats}", "double[2,4] a", f"r = Constant<value_ints=[{_repeats}]>() y = Tile(a, r)"
    )
add("Tile-computed", "double[N,2,3] a, int64[3] r", "y = Tile(a, r)", feeds={"r": [2, 1, 3]}, sizes={"N": 2})
add(
    "Tile-nothing",
    "double[2,3] a, int64[2] r",
    "t = Tile(a, r) s = ReduceSum<keepdims=0>(t) y = Sum(a, s)",
    feeds={"r": [2, 0]},
)

for _k in ("", "-1", "2"):
    for _upper in (0, 1):
        _constant = f"k = Constant<value=int64{{{_k}}}>()" if _k else ""
        add_symbolic(
            f"Trilu-{'upper' if _upper else 'lower'}{_k}",
            "double[2,4,3] a",
            f"{_constant} y = Trilu<upper={_upper}>(a{', k' if _k else ''})",
        )
add("Trilu-computed", "double[3,4] a, int64 k", "y = Trilu(a, k)", feeds={"k": 1})

for _mode in ("DCR", "CRD"):
    add_symbolic(
        f"DepthToSpace-{_mode}", "double[2,12,2,3] a", f'y = DepthToSpace<blocksize=2, mode="{_mode}">(a)'
    )
add("DepthToSpace-default", "double[1,18,1,2] a", "y = DepthToSpace<blocksize=3>(a)")
add_symbolic("SpaceToDepth-2", "double[2,3,4,6] a", "y = SpaceToDepth<blocksize=2>(a)")
add("SpaceToDepth-3", "double[1,2,3,6] a", "y = SpaceToDepth<blocksize=3>(a)")

for _what, _axes, _shape in (
    ("crop", "", "2,4"),
    ("pad", "", "6,8"),
    ("both", "", "8,2"),
    ("odd", "", "4,6"),
    ("axes", "1", "8"),
    ("negative-axes", "-1,-2", "4,6"),
):
    add_symbolic(
        f"CenterCropPad-{_what}",
        "double[5,7] a",
        f"s = Constant<value_ints=[{_shape}]>() y = CenterCropPad{_axes and f'<axes=[{_axes}]>'}(a, s)",
    )
add(
    "CenterCropPad-computed",
    "double[5,7] a, int64[2] s",
    f"z = CenterCropPad(a, s) {FLATTENED}",
    feeds={"s": [6, 4]},
)

for _what, _attributes, _lengths in (
    ("default", "", [2, 1, 4]),
    ("batch-first", "<batch_axis=0, time_axis=1>", [1, 3, 0, 2]),
):
    add_symbolic(
        f"ReverseSequence-{_what}",
        f"double[4,3,2] a, int64[{len(_lengths)}] n",
        f"y = ReverseSequence{_attributes}(a, n)",
        feeds={"n": _lengths},
    )

for _what, _x, _image, _block, _attributes in (
    ("plain", "[2,12,6]", "3,4", "2,2", ""),
    ("strides", "[2,8,4]", "5,5", "2,2", "<strides=[3,2]>"),
    ("pads", "[1,12,12]", "5,4", "2,3", "<pads=[0,1,0,0]>"),
    ("dilations", "[1,4,8]", "4,4", "2,2", "<dilations=[2,2], pads=[0,1,0,1]>"),
    ("1d", "[2,6,4]", "6", "3", ""),
    ("3d", "[1,16,2]", "2,3,2", "2,2,2", ""),
):
    add_symbolic(
        f"Col2Im-{_what}",
        f"double{_x} a",
        f"i = Constant<value_ints=[{_image}]>() b = Constant<value_ints=[{_block}]>() "
        f"y = Col2Im{_attributes}(a, i, b)",
    )
add(
    "Col2Im-computed",
    "double[N,4,6] a, int64[2] i, int64[2] b",
    "y = Col2Im(a, i, b)",
    feeds={"i": [3, 4], "b": [2, 2]},
    sizes={"N": 2},
)
