"""Convolutions: data, weights and bias together."""

import re

from autodiff.cases.table import add, add_symbolic

# Convolutions: data, weights and bias together

for _what, _x, _w, _attributes in (
    ("1d", "[2,2,7]", "[3,2,3]", "strides=[2]"),
    ("1d-pads", "[2,2,7]", "[3,2,4]", "strides=[3], pads=[2,1], dilations=[2]"),
    ("3d", "[1,2,4,5,3]", "[3,2,2,3,2]", "strides=[1,2,1], pads=[0,1,0,1,0,1]"),
    ("3d-group", "[2,2,3,4,3]", "[4,1,2,2,2]", "group=2"),
    ("plain", "[2,2,5,6]", "[3,2,3,2]", ""),
    ("pads", "[2,2,5,6]", "[3,2,3,3]", "pads=[1,1,1,1], kernel_shape=[3,3]"),
    ("uneven-pads", "[1,2,5,6]", "[3,2,3,3]", "pads=[0,2,1,0]"),
    ("uneven-pads-stride", "[1,2,6,5]", "[3,2,3,3]", "pads=[0,2,1,0], strides=[2,2]"),
    ("wide-pads", "[1,2,4,5]", "[3,2,2,3]", "pads=[3,1,0,4]"),
    ("wide-pads-stride", "[1,2,4,5]", "[3,2,2,3]", "pads=[3,1,2,4], strides=[2,3]"),
    ("remainder", "[1,2,6,7]", "[3,2,3,2]", "strides=[2,3]"),
    ("remainder-end", "[1,2,8,9]", "[3,2,2,2]", "strides=[3,4], pads=[0,0,1,0]"),
    ("stride-one-axis", "[1,2,6,7]", "[3,2,3,2]", "strides=[1,2]"),
    ("stride-beyond-kernel", "[1,2,7,8]", "[3,2,1,2]", "strides=[3,3]"),
    ("dilated", "[1,2,9,8]", "[3,2,3,2]", "dilations=[2,3], pads=[1,0,2,1]"),
    ("dilated-stride", "[1,2,9,8]", "[3,2,3,2]", "dilations=[2,3], strides=[2,2]"),
    ("group", "[2,4,5,5]", "[6,2,3,3]", "group=2"),
    ("group-stride", "[2,4,5,6]", "[6,2,3,3]", "group=2, strides=[2,2], pads=[1,1,1,1]"),
    ("group-dilated", "[2,4,6,5]", "[2,2,2,2]", "group=2, dilations=[2,1]"),
    ("depthwise", "[2,3,5,5]", "[3,1,3,3]", "group=3"),
    ("depthwise-more", "[2,3,5,5]", "[6,1,3,2]", "group=3, strides=[2,1]"),
    ("row-kernel", "[2,3,4,5]", "[2,3,1,3]", ""),
    ("1x1", "[2,3,4,5]", "[2,3,1,1]", ""),
    ("1x1-group", "[2,4,3,2]", "[6,2,1,1]", "group=2"),
    ("1x1-stride", "[2,3,4,5]", "[2,3,1,1]", "strides=[2,3]"),
    ("1x1-pads", "[1,3,2,3]", "[2,3,1,1]", "pads=[1,0,0,2]"),
    ("same-upper", "[1,2,6,5]", "[3,2,4,3]", 'auto_pad="SAME_UPPER"'),
    ("same-lower", "[1,2,6,5]", "[3,2,4,3]", 'auto_pad="SAME_LOWER"'),
    ("same-upper-stride", "[1,2,7,6]", "[3,2,4,3]", 'auto_pad="SAME_UPPER", strides=[2,2]'),
    ("same-lower-stride", "[1,2,7,6]", "[3,2,4,3]", 'auto_pad="SAME_LOWER", strides=[2,2]'),
    ("same-lower-even", "[1,2,8,9]", "[3,2,3,2]", 'auto_pad="SAME_LOWER", strides=[2,3]'),
    ("same-upper-skip", "[1,2,7,8]", "[3,2,1,2]", 'auto_pad="SAME_UPPER", strides=[3,3]'),
    ("same-upper-mixed", "[1,2,7,6]", "[3,2,4,3]", 'auto_pad="SAME_UPPER", strides=[1,2]'),
    ("same-upper-dilated", "[1,2,7,8]", "[3,2,3,2]", 'auto_pad="SAME_UPPER", dilations=[2,3]'),
    ("same-lower-group", "[2,4,7,6]", "[2,2,3,4]", 'auto_pad="SAME_LOWER", strides=[2,2], group=2'),
    ("valid", "[1,2,6,5]", "[3,2,4,3]", 'auto_pad="VALID"'),
    ("valid-stride", "[1,2,7,6]", "[3,2,4,3]", 'auto_pad="VALID", strides=[2,2]'),
):
    _filters = re.match(r"\[(\d+)", _w).group(1)  # type: ignore[union-attr]
    _call = f"Conv<{_attributes}>" if _attributes else "Conv"
    add_symbolic(
        f"Conv-{_what}", f"double{_x} a, double{_w} w, double[{_filters}] b", f"y = {_call}(a, w, b)"
    )
add("Conv-no-bias", "double[1,2,5,6] a, double[3,2,3,3] w", "y = Conv(a, w)")
add("Conv-by-itself", "double[2,2,3,3] a", "y = Conv<pads=[1,1,1,1]>(a, a)")
add(
    "Conv-symbolic-batch",
    "double[N,2,6,7] a, double[3,2,3,2] w",
    "y = Conv<strides=[2,3]>(a, w)",
    sizes={"N": 2},
)
add(
    "Conv-symbolic-height",
    "double[2,2,H,7] a, double[3,2,3,2] w",
    'y = Conv<strides=[2,3], auto_pad="SAME_UPPER">(a, w)',
    sizes={"H": 6},
)
add(
    "Conv-symbolic-weight",
    "double[1,2,6,7] a, double[M,2,3,2] w",
    "y = Conv<strides=[2,1], kernel_shape=[3,2]>(a, w)",
    sizes={"M": 3},
)

for _what, _x, _w, _attributes, _symbolic in (
    ("1d", "[2,2,4]", "[2,3,3]", "strides=[2]", True),
    ("3d", "[1,2,2,3,2]", "[2,3,2,3,2]", "strides=[1,2,1], pads=[0,1,0,1,0,1]", True),
    ("plain", "[2,2,4,3]", "[2,3,3,2]", "", True),
    ("pads", "[2,2,4,3]", "[2,3,3,3]", "pads=[1,1,1,1], kernel_shape=[3,3]", True),
    ("uneven-pads", "[1,2,4,5]", "[2,3,3,3]", "pads=[0,2,1,0], strides=[2,2]", True),
    ("stride", "[1,2,3,4]", "[2,3,3,2]", "strides=[2,3]", True),
    ("output-padding", "[1,2,3,4]", "[2,3,3,2]", "strides=[2,3], output_padding=[1,2]", True),
    (
        "output-padding-pads",
        "[1,2,3,4]",
        "[2,3,3,4]",
        "strides=[3,2], output_padding=[2,1], pads=[1,0,0,2]",
        True,
    ),
    ("dilated", "[1,2,4,3]", "[2,3,3,2]", "dilations=[2,3]", True),
    ("dilated-stride", "[1,2,4,3]", "[2,3,3,2]", "dilations=[2,3], strides=[2,2], pads=[1,0,2,1]", True),
    ("group", "[2,4,3,4]", "[4,3,2,3]", "group=2, strides=[2,1]", True),
    ("depthwise", "[2,3,3,4]", "[3,1,2,3]", "group=3, strides=[2,2], pads=[1,1,0,0]", True),
    ("1x1", "[2,3,3,4]", "[3,2,1,1]", "", True),
    ("same-upper", "[1,2,3,4]", "[2,3,4,3]", 'auto_pad="SAME_UPPER", strides=[2,2]', True),
    ("same-lower", "[1,2,3,4]", "[2,3,4,3]", 'auto_pad="SAME_LOWER", strides=[2,2]', True),
    ("same-upper-one", "[1,2,3,4]", "[2,3,4,3]", 'auto_pad="SAME_UPPER"', True),
    ("same-lower-dilated", "[1,2,3,4]", "[2,3,3,2]", 'auto_pad="SAME_LOWER", dilations=[2,3]', True),
    (
        "same-skip",
        "[1,2,3,4]",
        "[2,3,1,2]",
        'auto_pad="SAME_UPPER", strides=[2,3], output_padding=[1,1]',
        True,
    ),
    ("valid", "[1,2,3,4]", "[2,3,4,3]", 'auto_pad="VALID", strides=[2,2]', True),
    ("output-shape-beyond", "[1,2,3,4]", "[2,3,1,2]", "output_shape=[6,13], strides=[2,3]", False),
    ("output-shape", "[1,2,3,4]", "[2,3,4,3]", "output_shape=[6,8], strides=[2,2]", False),
    (
        "output-shape-upper",
        "[1,2,3,4]",
        "[2,3,4,3]",
        'output_shape=[5,7], strides=[2,2], auto_pad="SAME_UPPER"',
        False,
    ),
    (
        "output-shape-extra",
        "[1,2,3,4]",
        "[2,3,4,3]",
        "output_shape=[6,9], strides=[2,2], output_padding=[1,1]",
        False,
    ),
):
    _filters, _group = re.match(r"\[\d+,(\d+)", _w).group(1), re.search(r"group=(\d)", _attributes)  # type: ignore[union-attr]
    _channels = int(_filters) * int(_group.group(1) if _group else 1)
    _call = f"ConvTranspose<{_attributes}>" if _attributes else "ConvTranspose"
    (add_symbolic if _symbolic else add)(
        f"ConvTranspose-{_what}",
        f"double{_x} a, double{_w} w, double[{_channels}] b",
        f"y = {_call}(a, w, b)",
    )
add("ConvTranspose-no-bias", "double[1,2,3,4] a, double[2,3,3,3] w", "y = ConvTranspose(a, w)")
