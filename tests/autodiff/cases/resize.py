"""Resize."""

import numpy as np
from autodiff.cases.table import NEVER, add, add_symbolic

# Resize


def add_resize(what: str, target: str, attributes: str = "", x: str = "[2,2,4,5]", **more: object) -> None:
    """`target` is "scales=..." or "sizes=..."."""
    kind, numbers = target.split("=")
    call = f"Resize<{attributes}>" if attributes else "Resize"
    if kind == "scales":
        constant = f"s = Constant<value=float[{numbers.count(',') + 1}]{{{numbers}}}>()"
        body = f'{constant} y = {call}(a, "", s)'
    else:
        body = f's = Constant<value_ints=[{numbers}]>() y = {call}(a, "", "", s)'
    add_symbolic(f"Resize-{what}", f"double{x} a", body, **more)


for _nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
    for _coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        # Away from the jumps where float32 and float64 round differently.
        add_resize(
            f"nearest-{_nearest}-{_coordinates}",
            "sizes=2,2,11,3" if _coordinates == "align_corners" else "scales=1,1,2.5,0.7",
            f'mode="nearest", nearest_mode="{_nearest}", coordinate_transformation_mode="{_coordinates}"',
        )
for _mode in ("linear", "cubic"):
    for _coordinates in (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ):
        _attributes = f'mode="{_mode}", coordinate_transformation_mode="{_coordinates}"'
        # onnx and ONNX Runtime differ on what align_corners aligns where the scaled size is no integer.
        _scales = "scales=1,1,1.5,2" if _coordinates == "align_corners" else "scales=1,1,1.7,0.6"
        add_resize(f"{_mode}-{_coordinates}-scales", _scales, _attributes)
        add_resize(f"{_mode}-{_coordinates}-sizes", "sizes=2,2,7,3", _attributes)
add_resize(
    "nearest-half_pixel_symmetric",
    "scales=1,1,2.3,0.7",
    'mode="nearest", coordinate_transformation_mode="half_pixel_symmetric"',
)
add_resize("nearest-default", "scales=1,1,2,2")
add_resize("nearest-sizes", "sizes=2,2,7,3")
add_resize(
    "linear-to-one", "sizes=2,2,1,1", 'mode="linear", coordinate_transformation_mode="pytorch_half_pixel"'
)
add_resize("linear-one-axis", "scales=1,1,1,2", 'mode="linear"')
add_resize("linear-axes", "scales=2,0.5", 'mode="linear", axes=[2,3]')
add_resize("linear-axes-swapped", "scales=2,0.5", 'mode="linear", axes=[3,2]')
add_resize("linear-axes-negative", "sizes=7,3", 'mode="linear", axes=[-2,-1]')
add_resize("nearest-axes", "sizes=3", "axes=[3]")
add_resize("linear-3d", "scales=1,1,2,1.5,0.5", 'mode="linear"', x="[1,1,2,3,4]")
add_resize("nearest-3d", "sizes=1,2,4,5,2", "", x="[1,2,2,3,4]")
add_resize("linear-1d", "scales=1,1,1.5", 'mode="linear"', x="[2,2,4]")
add_resize("cubic-coefficient", "scales=1,1,1.7,0.6", 'mode="cubic", cubic_coeff_a=-0.5')
add_resize("cubic-exclude", "scales=1,1,1.7,1.6", 'mode="cubic", exclude_outside=1')
for _mode in ("linear", "cubic"):
    add_resize(f"{_mode}-antialias-down", "scales=1,1,0.6,0.5", f'mode="{_mode}", antialias=1')
    add_resize(f"{_mode}-antialias-up", "scales=1,1,1.5,2", f'mode="{_mode}", antialias=1')
    add_resize(f"{_mode}-antialias-sizes", "sizes=2,2,3,8", f'mode="{_mode}", antialias=1')
add(
    "Resize-computed-scales",
    "double[2,2,4,5] a, float[4] s",
    'y = Resize<mode="linear">(a, "", s)',
    feeds={"s": [1, 1, 2, 0.6]},
)
add(
    "Resize-computed-sizes",
    "double[2,2,4,5] a, int64[4] s",
    'y = Resize<mode="linear">(a, "", "", s)',
    feeds={"s": [2, 2, 6, 3]},
)
add(
    "Resize-computed-batch",
    "double[N,2,4,5] a, int64[4] s",
    'y = Resize<mode="linear">(a, "", "", s)',
    feeds={"s": [3, 2, 6, 3]},
    sizes={"N": 3},
)
add(
    "Resize-unnamed-sizes",
    "double[?,?,?,?] a, int64[4] s",
    'y = Resize<mode="linear">(a, "", "", s)',
    feeds={"a": np.random.default_rng(0).standard_normal((1, 4, 5, 2)), "s": [1, 6, 3, 2]},
)
add(
    "Resize-like-another",
    "double[N,2,H,W] a, double[N,2,K,L] b",
    "t = Shape(b) h = Shape<start=0, end=2>(a) g = Shape<start=2>(b) s = Concat<axis=0>(h, g) "
    'r = Resize<mode="linear">(a, "", "", s) y = Mul(r, b)',
    sizes={"N": 2, "H": 3, "W": 4, "K": 6, "L": 2},
)
add(
    "Resize-empty-scales",
    "double[1,2,4,5] a",
    "e = Constant<value=float[0]{}>() s = Constant<value_ints=[1,2,7,3]>() "
    'y = Resize<mode="linear">(a, "", e, s)',
)

# ONNX Runtime leaves negative axes out of the policy.
for _policy in ("not_larger", "not_smaller"):
    for _mode, _coordinates in (
        ("nearest", "asymmetric"),
        ("linear", "half_pixel"),
        ("linear", "pytorch_half_pixel"),
        ("cubic", "half_pixel"),
    ):
        for _sizes in ("7,7", "3,8"):
            add_resize(
                f"{_mode}-{_coordinates}-{_policy}-{_sizes}",
                f"sizes={_sizes}",
                f'mode="{_mode}", coordinate_transformation_mode="{_coordinates}", axes=[2,3], '
                f'keep_aspect_ratio_policy="{_policy}"',
            )
add_resize(
    "linear-policy-antialias",
    "sizes=3,8",
    'mode="linear", antialias=1, axes=[3,2], keep_aspect_ratio_policy="not_larger"',
)
# 4 * 0.9 is again 4, and yet moved.
add_resize(
    "linear-policy-same-size",
    "sizes=9,9",
    'mode="linear", axes=[2,3], keep_aspect_ratio_policy="not_larger"',
    x="[1,2,4,10]",
)
add_resize("nearest-policy-all-axes", "sizes=2,4,4,9", 'keep_aspect_ratio_policy="not_smaller"')
add(
    "Resize-policy-computed",
    "double[1,2,4,5] a, int64[2] s",
    'y = Resize<mode="linear", axes=[3,2], keep_aspect_ratio_policy="not_larger">(a, "", "", s)',
    feeds={"s": [9, 6]},
)

_crop = 'coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0'
for _mode in ("nearest", "linear", "cubic"):
    for _what, _roi, _target in (
        ("sizes", "0,0,0.1,0.2,1,1,0.8,1.3", "s = Constant<value_ints=[2,2,6,3]>()"),
        ("scales", "0,0,0.9,0.2,1,1,0.3,1.3", "t = Constant<value=float[4]{1,1,1.5,2}>()"),
        ("whole", "0,0,0,0,1,1,1,1", "s = Constant<value_ints=[2,2,6,3]>()"),
    ):
        add_symbolic(
            f"Resize-{_mode}-crop-{_what}",
            "double[2,2,4,5] a",
            f"r = Constant<value=float[8]{{{_roi}}}>() {_target} "
            f'y = Resize<mode="{_mode}", {_crop}>(a, r{", t" if "t =" in _target else ", , s"})',
        )
    add(
        f"Resize-{_mode}-crop-axes-computed",
        "double[2,2,4,5] a, float[4] r, int64[2] s",
        f'y = Resize<mode="{_mode}", axes=[3,2], {_crop}>(a, r, "", s)',
        feeds={"r": [0.1, 0.2, 0.8, 1.3], "s": [6, 3]},
    )
# ONNX Runtime does not crop an axis whose size stays.
for _what, _sizes, _runs in (("one", "2,2,1,8", 18), ("same", "2,2,4,8", NEVER)):
    add(
        f"Resize-linear-crop-{_what}",
        "double[2,2,4,5] a",
        "r = Constant<value=float[8]{0,0,0.1,0.2,1,1,0.8,1.3}>() "
        f's = Constant<value_ints=[{_sizes}]>() y = Resize<mode="linear", {_crop}>(a, r, "", s)',
        runs=_runs,
    )
add(
    "Resize-linear-crop-policy",
    "double[2,2,4,5] a",
    "r = Constant<value=float[4]{-0.1,0.2,0.8,1.3}>() s = Constant<value_ints=[8,7]>() "
    f'y = Resize<mode="linear", axes=[2,3], keep_aspect_ratio_policy="not_smaller", {_crop}>(a, r, "", s)',
)
add(
    "Resize-unused-roi",
    "double[1,2,4,5] a, double[8] r",
    's = Constant<value_ints=[1,2,7,3]>() z = Resize<mode="linear">(a, r, "", s) '
    "t = ReduceSum<keepdims=0>(r) y = Add(z, t)",
)
