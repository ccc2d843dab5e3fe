"""Operators that sample pictures at computed places."""

import numpy as np
from autodiff.cases.table import NEVER, add

# Places within the picture, on its rim, and far outside it; none on a kink.
_GRID = np.random.default_rng(5).uniform(-1.9, 1.9, (2, 3, 4, 2)) + 0.01
_GRID_3D = np.random.default_rng(6).uniform(-1.6, 1.6, (1, 2, 2, 3, 3)) + 0.01

for _padding in ("zeros", "border", "reflection"):
    for _aligned in (0, 1):
        for _mode, _old in (("linear", "bilinear"), ("nearest", "nearest"), ("cubic", "bicubic")):
            _attributes = f'padding_mode="{_padding}", align_corners={_aligned}'
            _grid = "float[2,3,4,2] g" if _mode == "nearest" else "double[2,3,4,2] g"
            _body = "h = Cast<to=DOUBLE>(g) " if _mode == "nearest" else "h = Identity(g) "
            for _name, _since, _until in ((_old, 18, 20), (_mode, 20, NEVER)):
                add(
                    f"GridSample-{_name}-{_padding}-{_aligned}" + ("-old" if _until == 20 else ""),
                    f"double[2,2,5,4] a, {_grid}",
                    f'{_body}y = GridSample<mode="{_name}", {_attributes}>(a, h)',
                    feeds={"g": _GRID},
                    since=_since,
                    until=_until,
                )
            _grid = "float[1,2,2,3,3] g" if _mode == "nearest" else "double[1,2,2,3,3] g"
            add(
                f"GridSample-3d-{_mode}-{_padding}-{_aligned}",
                f"double[1,2,3,4,3] a, {_grid}",
                f'{_body}y = GridSample<mode="{_mode}", {_attributes}>(a, h)',
                feeds={"g": _GRID_3D},
                since=20,
                forward=18 if _mode == "cubic" else NEVER,
            )
for _what, _a, _g, _attributes, _sizes in (
    ("defaults", "[2,2,5,4] a", "[2,3,4,2] g", "", {}),
    ("one-pixel", "[2,2,1,4] a", "[2,3,4,2] g", '<padding_mode="reflection", align_corners=1>', {}),
    (
        "symbolic",
        "[N,2,H,W] a",
        "[N,P,Q,2] g",
        '<padding_mode="reflection">',
        {"H": 5, "W": 4, "P": 3, "Q": 4},
    ),
    ("symbolic-channels", "[N,C,5,4] a", "[N,P,4,2] g", "<align_corners=1>", {"C": 2, "P": 3}),
):
    add(
        f"GridSample-{_what}",
        f"double{_a}, double{_g}",
        f"y = GridSample{_attributes}(a, g)",
        feeds={"g": _GRID},
        sizes={"N": 2, **_sizes},
    )

# What ONNX Runtime lacks forwards from opset 22 on, it still runs backwards.

for _what, _x, _w, _offset, _attributes, _more in (
    ("plain", "[2,2,4,5]", "[3,2,2,2]", "[2,8,3,4]", "kernel_shape=[2,2]", ""),
    (
        "geometry",
        "[2,2,6,5]",
        "[2,2,2,3]",
        "[2,12,4,4]",
        "pads=[1,1,2,2], strides=[2,1], dilations=[1,2]",
        "",
    ),
    ("groups", "[1,4,4,4]", "[4,2,2,2]", "[1,16,3,3]", "group=2, offset_group=2", ""),
    ("offset-groups", "[2,4,3,4]", "[2,4,1,2]", "[2,8,3,3]", "offset_group=2", ""),
    ("bias", "[2,2,3,4]", "[3,2,2,2]", "[2,8,2,3]", "group=1", "[3] b"),
    ("mask", "[2,2,3,4]", "[3,2,2,2]", "[2,8,2,3]", "group=1", "[3] b, [2,4,2,3] m"),
    ("mask-alone", "[2,4,3,4]", "[3,4,2,2]", "[2,16,2,3]", "offset_group=2", "[2,8,2,3] m"),
    ("symbolic", "[N,2,H,W]", "[3,2,2,2]", "[N,8,P,Q]", "pads=[0,1,0,1]", "[3] b, [N,4,P,Q] m"),
):
    _inputs = [f"{_x} a", f"{_w} w", f"{_offset} o", *(_more.split(", ") if _more else [])]
    _names = f"a, w, o, {'b' if ' b' in _more else ''}{', m' if ' m' in _more else ''}".rstrip(", ")
    add(
        f"DeformConv-{_what}",
        ", ".join(f"double{one}" for one in _inputs),
        f"y = DeformConv<{_attributes}>({_names})",
        sizes={"N": 2, "H": 3, "W": 4, "P": 2, "Q": 5} if "N" in _x else {},
        since=19,
    )

for _aligned in (0, 1):
    for _what, _theta, _size in (("2d", "[2,2,3]", "2,3,4,5"), ("3d", "[2,3,4]", "2,1,3,2,4")):
        add(
            f"AffineGrid-{_what}-{_aligned}",
            f"double{_theta} a",
            f"s = Constant<value_ints=[{_size}]>() y = AffineGrid<align_corners={_aligned}>(a, s)",
            since=20,
        )
add(
    "AffineGrid-symbolic",
    "double[N,2,3] a, float[K,C,H,W] x",
    "s = Shape(x) y = AffineGrid(a, s)",
    sizes={"N": 2},
    feeds={"x": np.zeros((2, 1, 3, 4))},
    since=20,
)

_ROIS = [[0.3, 0.7, 3.2, 4.6], [-1.1, 1.3, 5.2, 7.4], [1.1, 1.2, 1.4, 1.35], [2.2, 2.3, 8.6, 9.1]]
for _mode in ("avg", "max"):
    for _pixel in ("half_pixel", "output_half_pixel"):
        for _ratio in (0, 2):
            add(
                f"RoiAlign-{_mode}-{_pixel}-{_ratio}",
                "double[2,2,6,5] a, double[4,4] r, int64[4] b",
                f'y = RoiAlign<mode="{_mode}", coordinate_transformation_mode="{_pixel}", '
                f"sampling_ratio={_ratio}, output_height=2, output_width=3, spatial_scale=0.8>(a, r, b)",
                feeds={"r": _ROIS, "b": [0, 1, 1, 0]},
            )
    add(
        f"RoiAlign-{_mode}-symbolic",
        "double[N,C,H,W] a, double[R,4] r, int64[R] b",
        f'y = RoiAlign<mode="{_mode}", output_height=3>(a, r, b)',
        sizes={"N": 2, "C": 2, "H": 6, "W": 5},
        feeds={"r": _ROIS, "b": [0, 1, 1, 0]},
    )
    add(
        f"RoiAlign-{_mode}-empty",
        "double[1,2,6,5] a, float[2,4] r, int64[2] b",
        f'q = Cast<to=DOUBLE>(r) y = RoiAlign<mode="{_mode}", output_width=2>(a, q, b)',
        feeds={"r": [[1, 1, 1, 4], [0, 0, 3, 3]], "b": [0, 0]},
    )
for _what, _x, _rois in (
    ("plain", "[2,2,6,5]", [[1, 1, 1, 8, 9], [0, 3, 0, 4, 20]]),
    ("outside", "[2,2,6,5]", [[0, 30, 0, 31, 4], [1, -3, -3, 4, 4], [0, 4, 4, 1, 1]]),
    ("symbolic", "[N,C,H,W]", [[1, 1, 1, 8, 9], [0, 3, 0, 4, 20]]),
):
    add(
        f"MaxRoiPool-{_what}",
        f"double{_x} a, float[{len(_rois)},5] r",
        "q = Cast<to=DOUBLE>(r) y = MaxRoiPool<pooled_shape=[2,3], spatial_scale=0.5>(a, q)",
        sizes={"N": 2, "C": 2, "H": 6, "W": 5} if "N" in _x else {},
        feeds={"r": _rois},
        forward=22,
    )
add(
    "MaxRoiPool-full-scale",
    "double[1,2,6,5] a, float[1,5] r",
    "q = Cast<to=DOUBLE>(r) y = MaxRoiPool<pooled_shape=[2,2]>(a, q)",
    feeds={"r": [[0, 0, 1, 2, 4]]},
    forward=22,
)
