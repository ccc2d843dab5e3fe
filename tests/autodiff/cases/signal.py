"""Fourier transforms, windows and ranges."""

from autodiff.cases.table import add

# The length of a transform and, from opset 20 on, its axis are inputs.

for _what, _x, _axis, _length, _inverse, _onesided in (
    ("real", "[2,5,1]", 1, None, 0, 0),
    ("complex", "[2,5,2]", 1, None, 0, 0),
    ("longer", "[2,4,2]", 1, 7, 0, 0),
    ("shorter", "[2,5,2]", 1, 3, 0, 0),
    ("real-longer", "[2,4,1]", 1, 6, 0, 0),
    ("onesided", "[2,5,1]", 1, None, 0, 1),
    ("onesided-even", "[2,6,1]", 1, None, 0, 1),
    ("onesided-longer", "[2,4,1]", 1, 7, 0, 1),
    ("onesided-shorter", "[2,7,1]", 1, 4, 0, 1),
    ("inverse", "[2,5,2]", 1, None, 1, 0),
    ("inverse-real", "[2,5,1]", 1, None, 1, 0),
    ("inverse-longer", "[2,4,2]", 1, 6, 1, 0),
    ("inverse-shorter", "[2,6,2]", 1, 5, 1, 0),
    ("inverse-onesided", "[2,4,2]", 1, None, 1, 1),
    ("inverse-onesided-odd", "[2,4,2]", 1, 7, 1, 1),
    ("inverse-onesided-longer", "[2,3,2]", 1, 9, 1, 1),
    ("inverse-onesided-shorter", "[2,6,2]", 1, 4, 1, 1),
    ("axis", "[2,4,3,2]", 2, None, 0, 0),
    ("axis-negative", "[2,4,3,2]", -3, 5, 0, 0),
    ("axis-onesided", "[2,4,3,1]", -2, None, 0, 1),
    ("axis-inverse-onesided", "[2,4,3,2]", -3, None, 1, 1),
    ("symbolic", "[N,M,1]", 1, None, 0, 1),
    ("symbolic-longer", "[N,M,K]", 1, 6, 0, 0),
    ("symbolic-inverse", "[N,M,2]", 1, None, 1, 1),
):
    _sizes = {name: size for name, size in (("N", 2), ("M", 5), ("K", 1)) if name in _x}
    _n = "" if _length is None else f"n = Constant<value_int={_length}>() "
    _given = "" if _length is None else "n"
    _attributes = f"inverse={_inverse}, onesided={_onesided}"
    add(
        f"DFT-{_what}",
        f"double{_x} a",
        f"{_n}i = Constant<value_int={_axis}>() y = DFT<{_attributes}>(a, {_given}, i)",
        sizes=_sizes,
        since=20,
    )
for _what, _x, _attributes, _n in (
    ("default", "[2,5,2]", "inverse=0", ""),
    ("negative", "[2,4,3,2]", "axis=-2", ""),
    ("onesided", "[2,4,3,1]", "axis=2, onesided=1", ""),
    ("inverse", "[2,4,2]", "axis=1, inverse=1", ", n"),
):
    add(
        f"DFT-attribute-{_what}",
        f"double{_x} a",
        f"n = Constant<value_int=5>() y = DFT<{_attributes}>(a{_n})",
        until=20,
    )
add("DFT-default-axis", "double[2,4,3,2] a", "y = DFT(a)", since=20)

for _what, _a, _attributes, _rest, _shape in (
    ("default", "double[2,10,1] a", "", "step", "2,1,6,2"),
    ("symbolic-length", "double[N,M,1] a", "<onesided=0>", "step, , length", "N,F,4,2"),
    ("symbolic-window", "double[N,M,1] a, double[L] w", "", "step, w", "N,F,K,2"),
):
    add(
        f"STFT-{_what}",
        _a,
        f"step = Constant<value_int=2>() length = Constant<value_int=4>() y = STFT{_attributes}(a, {_rest})",
        sizes={"N": 2, "M": 10, "L": 4} if "N" in _a else {},
        shape=_shape,
    )
for _what, _x, _attributes, _rest in (
    ("plain", "[2,10,1]", "onesided=0", ", step, , length"),
    ("onesided", "[2,10,1]", "onesided=1", ", step, , length"),
    ("complex", "[2,10,2]", "onesided=0", ", step, , length"),
    ("symbolic", "[N,10,1]", "onesided=1", ", step, , length"),
    ("window", "[2,10,1]", "onesided=1", ", step, w"),
    ("window-length", "[2,10,1]", "onesided=1", ", step, w, length"),
    ("window-symbolic", "[N,10,1]", "onesided=0", ", step, w"),
):
    add(
        f"STFT-{_what}",
        f"double{_x} a" + (", double[4] w" if " w" in _rest else ""),
        f"step = Constant<value_int=2>() length = Constant<value_int=4>() y = STFT<{_attributes}>(a{_rest})",
        sizes={"N": 2} if "N" in _x else {},
    )
for _what, _start, _limit, _delta in (
    ("up", 0.5, 3.2, 0.7),
    ("down", 2.0, -1.3, -0.4),
    ("one", 1.0, 1.5, 2.0),
):
    add(
        f"Range-{_what}",
        "double a, double b",
        f"l = Constant<value_float={_limit}>() m = Cast<to=DOUBLE>(l) y = Range(a, m, b)",
        feeds={"a": _start, "b": _delta},
    )
