"""Receptive fields against the truth: change each row of pixels, and see which outputs change."""

import math

import numpy as np
import pytest
from graph.nets import net, run
from onnx import helper, numpy_helper

from onnxviz.graph.expose import expose
from onnxviz.graph.layers import ReceptiveField
from onnxviz.graph.model import load
from onnxviz.graph.receptive import Field


def positive(*shape, seed=0):
    """Weights that cannot cancel."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def truth(model, shape, axis, along):
    """For each tensor of `along` {name: its axis}: whether output o changes with the pixels p, as [o, p].

    The pictures differ from the first one in one row of pixels each, and are run as one batch.
    """
    size = shape[axis]
    batch = np.repeat(positive(1, *shape[1:], seed=3), 1 + size, axis=0)
    for pixel in range(size):
        np.moveaxis(batch[1 + pixel], axis - 1, 0)[pixel] += 1000
    found = run(expose(model, list(along)).serialize(), {"x": batch})
    answers = {}
    for tensor, values in found.items():
        rows = np.moveaxis(values, along[tensor], 1).reshape(1 + size, values.shape[along[tensor]], -1)
        change = np.abs(rows[1:] - rows[0].astype(np.float64)) > 1e-5 * np.abs(rows[0]).max()
        answers[tensor] = change.any(axis=2).T
    return answers


def claimed(field, place, output):
    """First and last pixel that the field claims for an output, rounded inwards; they may leave the image."""
    first = field.offset[place] + output * field.stride[place]
    return math.ceil(first - 1e-9), math.floor(first + field.size[place] - 1 + 1e-9)


def check(proto, how="exact", slack=0, axes=(2, 3)):
    """Compare every layer that has places with the truth, along each axis of places.

    exact: what is seen is the claimed interval, cut off at the border.
    inner: so it is where that leaves the image nowhere; at the border less may be seen, since each operator
    on the way cuts its own windows off.
    clamped: at a border the last pixel is repeated.
    within: it lies in the claimed interval, which claims at most `slack` pixels too many on either side.
    """
    model = load(proto)
    shape = [dim if isinstance(dim, int) else 1 for dim in model.inputs[0].shape]
    layers = [layer for layer in model.layers if layer.receptive_field is not None]
    checked = 0
    for place, axis in enumerate(axes):
        last_pixel = shape[axis] - 1
        seen = truth(model, shape, axis, {layer.tensor: layer.grid[place] for layer in layers})
        for layer in layers:
            field = layer.receptive_field
            for output, row in enumerate(seen[layer.tensor]):
                where, pixels = (layer.tensor, layer.op, axis, output), np.flatnonzero(row)
                checked += 1
                if field.size[place] is None:
                    assert row.all() or field.stride[place] is None, where
                    continue
                first, last = claimed(field, place, output)
                lower, upper = max(first, 0), min(last, last_pixel)
                if how == "clamped":
                    lower, upper = min(lower, last_pixel), max(upper, 0)
                if lower > upper:
                    assert pixels.size == 0, where  # it sees nothing but padding
                elif how in ("exact", "clamped") or (how == "inner" and (lower, upper) == (first, last)):
                    assert (pixels[0], pixels[-1]) == (lower, upper), where
                elif pixels.size:
                    assert lower <= pixels[0], where
                    assert pixels[-1] <= upper, where
                    assert how == "inner" or max(pixels[0] - lower, upper - pixels[-1]) <= slack, where
    assert checked
    return model


def field_of(model, tensor="y"):
    (found,) = [layer.receptive_field for layer in model.layers if layer.tensor == tensor]
    return found


KERNELS = {f"w{k}x{m}": positive(2, 3, k, m, seed=k * 10 + m) for k in (1, 2, 3, 5) for m in (1, 2, 3, 4)}
HEAD = "(float[N,3,13,11] x) => (float[N,c,h,v] y)"


def one(body, head=HEAD, **weights):
    given = {**KERNELS, **weights}
    return net(f"{head} {{ {body} }}", **{name: given[name] for name in given if name in body})


# --- one operator at a time ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "weight", "how"),
    [
        ("", "w3x3", "exact"),
        ("<pads = [1,1,1,1]>", "w3x3", "exact"),
        ("<pads = [2,0,1,3]>", "w3x4", "exact"),
        ("<strides = [2,3]>", "w3x2", "exact"),
        ("<strides = [3,2], pads = [0,1,2,0]>", "w2x3", "exact"),
        ("<dilations = [2,3], pads = [2,1,0,3]>", "w3x2", "inner"),
        ("<dilations = [3,2], strides = [2,2]>", "w3x3", "exact"),
        ("<strides = [3,4]>", "w1x1", "exact"),
        ('<auto_pad = "VALID", strides = [2,2]>', "w5x2", "exact"),
        ('<auto_pad = "SAME_UPPER">', "w2x4", "exact"),
        ('<auto_pad = "SAME_LOWER">', "w2x4", "exact"),
        ('<auto_pad = "SAME_UPPER", strides = [2,3]>', "w3x2", "exact"),
        ('<auto_pad = "SAME_LOWER", strides = [2,3]>', "w2x4", "exact"),
        ('<auto_pad = "SAME_LOWER", strides = [3,2]>', "w1x1", "exact"),
    ],
)
def test_convolutions(attributes, weight, how):
    check(one(f"y = Conv{attributes}(x, {weight})"), how)


def test_a_convolution_in_numbers():
    model = load(one("y = Conv<strides = [2,3], pads = [1,0,1,1], dilations = [1,2]>(x, w3x2)"))
    assert field_of(model) == ReceptiveField((3, 3), (2, 3), (-1, 0))


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape = [2,3]",
        "kernel_shape = [3,2], strides = [2,3]",
        "kernel_shape = [3,3], strides = [2,2], pads = [1,0,0,1]",
        "kernel_shape = [3,2], strides = [2,2], ceil_mode = 1",
        "kernel_shape = [2,3], strides = [3,2], ceil_mode = 1, pads = [1,1,0,1]",
        'kernel_shape = [3,2], strides = [2,3], auto_pad = "SAME_UPPER"',
        'kernel_shape = [2,4], strides = [2,3], auto_pad = "SAME_LOWER"',
        'kernel_shape = [13,3], auto_pad = "VALID"',
    ],
)
def test_pools(operator, attributes):
    check(one(f"y = {operator}<{attributes}>(x)"))


@pytest.mark.parametrize(
    ("attributes", "kernel", "how"),
    [
        ("group = 1", (3, 3), "exact"),
        ("strides = [2,3]", (2, 3), "exact"),
        ("strides = [2,3]", (5, 4), "exact"),
        ("strides = [3,3]", (1, 2), "exact"),
        ("strides = [2,2], pads = [1,0,1,2]", (4, 3), "exact"),
        ("strides = [3,2], pads = [1,1,0,0], output_padding = [1,1]", (5, 3), "exact"),
        ("dilations = [2,1], pads = [1,1,1,1]", (3, 3), "inner"),
        ('strides = [2,3], auto_pad = "SAME_UPPER"', (3, 4), "exact"),
        ('strides = [2,3], auto_pad = "SAME_LOWER"', (3, 4), "exact"),
        ('strides = [2,1], auto_pad = "SAME_LOWER"', (4, 2), "exact"),
        ("strides = [2,2], output_shape = [26,21]", (3, 4), "exact"),
        ('strides = [2,2], output_shape = [25,20], auto_pad = "SAME_UPPER"', (4, 5), "exact"),
    ],
)
def test_transposed_convolutions(attributes, kernel, how):
    check(one(f"y = ConvTranspose<{attributes}>(x, k)", k=positive(3, 2, *kernel)), how)


def test_a_transposed_convolution_of_an_unknown_size():
    """Its pads are known only when the model runs."""
    proto = one(
        "y = ConvTranspose<strides = [2,2], output_shape = [26,22]>(x, k)",
        "(float[N,3,H,W] x) => (float[N,c,h,v] y)",
        k=positive(3, 2, 3, 3),
    )
    assert field_of(load(proto)) == ReceptiveField((None, None), (None, None), (0, 0))


@pytest.mark.parametrize("factors", [(2, 3), (3, 2), (4, 5), (1, 2)])
@pytest.mark.parametrize("place", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("how", ["linear", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_enlarging(factors, place, how):
    mode = 'mode = "linear"' if how == "linear" else f'mode = "nearest", nearest_mode = "{how}"'
    proto = one(
        f"""h = Resize<{mode}, coordinate_transformation_mode = "{place}">(x, , scales)
            y = MaxPool<kernel_shape = [1,1]>(h)""",
        "(float[N,3,6,7] x) => (float[N,c,h,v] y)",
        scales=np.array([1, 1, *factors], np.float32),
    )
    field = field_of(check(proto, "clamped"))
    assert field.stride == tuple(1 / factor for factor in factors)


def test_enlarging_in_numbers():
    for mode, size, offset in (("nearest", 1.5, -0.5), ("linear", 2.5, -1)):
        body = f'h = Resize<mode = "{mode}">(x, , scales) y = MaxPool<kernel_shape = [1,1]>(h)'
        model = load(one(body, scales=np.array([1, 1, 2, 2], np.float32)))
        assert field_of(model) == ReceptiveField((size, size), (0.5, 0.5), (offset, offset))


@pytest.mark.parametrize(
    ("attributes", "scales"),
    [
        ('mode = "cubic"', [1, 1, 2, 2]),
        ('mode = "linear", coordinate_transformation_mode = "align_corners"', [1, 1, 2, 2]),
        ('mode = "linear"', [1, 1, 0.5, 0.5]),
        ('mode = "nearest"', [1, 1, 1.5, 1.5]),
    ],
)
def test_other_changes_of_size_keep_only_the_axes(attributes, scales):
    body = f"h = Resize<{attributes}>(x, , scales) y = MaxPool<kernel_shape = [1,1]>(h)"
    model = load(one(body, "(float[N,3,6,8] x) => (float[N,c,h,v] y)", scales=np.array(scales, np.float32)))
    assert field_of(model) == ReceptiveField((None, None), (None, None), (0, 0))
    assert model.layers[-1].grid == (2, 3)


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("h = SpaceToDepth<blocksize = 2>(x) y = Conv(h, k)", "exact"),
        ("h = DepthToSpace<blocksize = 2>(x) y = Conv(h, k1)", "exact"),
        ("h = DepthToSpace<blocksize = 2>(x) y = MaxPool<kernel_shape = [3,2], strides = [2,3]>(h)", "exact"),
        ('h = DepthToSpace<blocksize = 2, mode = "CRD">(x) y = Conv(h, k1)', "exact"),
    ],
)
def test_blocks(body, how):
    head = "(float[N,4,8,10] x) => (float[N,c,h,v] y)"
    check(one(body, head, k=positive(2, 16, 3, 2), k1=positive(2, 1, 3, 2)), how)


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("h = Pad(x, pads) y = Conv(h, w3x3)", "exact"),
        ("h = Pad(x, crops) y = Conv(h, w3x3)", "exact"),
        ("c = Conv(x, w3x3) y = Pad(c, pads)", "inner"),
        ("h = Slice(x, starts, ends, axes, steps) y = Conv(h, w2x3)", "exact"),
        ("h = Slice(x, starts, ends, axes) y = Conv(h, w2x3)", "exact"),
    ],
)
def test_cutting_and_padding(body, how):
    check(
        one(
            body,
            pads=np.array([0, 0, 2, 1, 0, 0, 0, 3]),
            crops=np.array([0, 0, -2, 1, 0, 0, 0, -3]),
            starts=np.array([1, -9]),
            ends=np.array([-1, 2**62]),
            axes=np.array([2, -1]),
            steps=np.array([2, 3]),
        ),
        how,
    )


def test_a_slice_that_runs_backwards_keeps_only_the_axis():
    body = "h = Slice(x, starts, ends, axes, steps) y = Conv(h, w2x3)"
    arrays = {"starts": [-1], "ends": [-(2**62)], "axes": [3], "steps": [-1]}
    model = load(one(body, **{name: np.array(array) for name, array in arrays.items()}))
    assert field_of(model) == ReceptiveField((2, None), (1, None), (0, 0))


# --- graphs --------------------------------------------------------------------------------------------


def test_branches_take_the_union():
    model = check(
        one(
            """a = Conv<pads = [1,1,1,1]>(x, w3x3)
               b = Conv<pads = [2,0,2,3]>(x, w5x4)
               y = Add(a, b)"""
        )
    )
    assert field_of(model) == ReceptiveField((5, 5), (1, 1), (-2, -1))


def test_a_shortcut_around_two_convolutions():
    check(
        one(
            """a = Conv<strides = [2,2], pads = [1,1,1,1]>(x, w3x3)
               b = Conv<pads = [1,1,1,1]>(a, k)
               r = Relu(b)
               s = Conv<strides = [2,2]>(x, w1x1)
               y = Add(r, s)""",
            k=positive(2, 2, 3, 3),
        )
    )


def test_joined_maps():
    check(
        one(
            """a = Conv<pads = [1,1,1,1]>(x, w3x3)
               b = MaxPool<kernel_shape = [3,2], pads = [2,1,0,0]>(x)
               j = Concat<axis = 1>(a, b, x)
               y = Conv<strides = [2,2]>(j, k)""",
            k=positive(2, 8, 2, 2),
        )
    )


def test_maps_joined_side_by_side_keep_only_the_axis():
    body = "a = Conv(x, w1x1) b = Conv(x, w1x1) y = Concat<axis = -1>(a, b)"
    assert field_of(check(one(body))) == ReceptiveField((1, None), (1, None), (0, 0))


def test_space_to_depth_by_slices():
    """The stem of YOLOv5 and YOLOX."""
    arrays = {"axis2": [2], "axis3": [3], "zero": [0], "first": [1], "end": [2**62], "two": [2]}
    check(
        one(
            """t = Slice(x, zero, end, axis2, two)
               u = Slice(x, first, end, axis2, two)
               a = Slice(t, zero, end, axis3, two)
               b = Slice(u, zero, end, axis3, two)
               c = Slice(t, first, end, axis3, two)
               d = Slice(u, first, end, axis3, two)
               j = Concat<axis = 1>(a, b, c, d)
               y = Conv<pads = [1,1,1,1]>(j, k)""",
            "(float[N,3,12,10] x) => (float[N,c,h,v] y)",
            k=positive(2, 12, 3, 3),
            **{name: np.array(array) for name, array in arrays.items()},
        )
    )


def test_the_layout_of_tensorflow():
    check(
        one(
            """n = Mul(x, m)
               t = Transpose<perm = [0,3,1,2]>(n)
               c = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(t, w3x2)
               b = Transpose<perm = [0,2,3,1]>(c)
               r = Relu(b)
               u = Transpose<perm = [0,3,1,2]>(r)
               p = MaxPool<kernel_shape = [2,2], auto_pad = "SAME_LOWER">(u)
               y = Transpose<perm = [0,2,3,1]>(p)""",
            "(float[N,13,11,3] x) => (float[N,h,v,c] y)",
            m=positive(3),
        ),
        axes=(1, 2),
    )


def test_axes_that_are_swapped():
    """The field names rows first, whatever the layout."""
    model = check(
        one(
            """c = Conv<strides = [2,1]>(x, w3x2)
               t = Transpose<perm = [0,1,3,2]>(c)
               d = Conv<strides = [1,3]>(t, k)
               r = Relu(d)
               y = Transpose<perm = [0,1,3,2]>(r)""",
            k=positive(2, 2, 2, 1),
        )
    )
    assert {layer.tensor: layer.grid for layer in model.layers} == {
        "c": (2, 3), "t": (3, 2), "d": (3, 2), "r": (3, 2), "y": (2, 3)
    }  # fmt: skip
    assert field_of(model, "d") == field_of(model) == ReceptiveField((3, 3), (6, 1), (0, 0))


def test_a_block_of_convnext():
    """A matrix product behind the channels is a convolution of one pixel."""
    model = check(
        one(
            """c = Conv<strides = [2,1]>(x, stem)
               d = Conv<group = 5, pads = [2,1,2,1]>(c, k)
               t = Transpose<perm = [0,2,3,1]>(d)
               n = LayerNormalization<axis = -1>(t, one, one)
               m = MatMul(n, up)
               b = Add(m, bias)
               g = Relu(b)
               l = MatMul(g, down)
               s = Mul(l, one)
               u = Transpose<perm = [0,3,1,2]>(s)
               y = Add(u, c)""",
            stem=positive(5, 3, 3, 2),
            k=positive(5, 1, 5, 3),
            one=positive(5),
            up=positive(5, 8),
            bias=positive(8) * 9,
            down=positive(8, 5),
        ),
        "inner",
    )
    assert field_of(model) == ReceptiveField((11, 4), (2, 1), (-4, -1))
    assert {layer.grid for layer in model.layers if layer.tensor in "tnmbgls"} == {(1, 2)}
    assert {layer.channel for layer in model.layers if layer.tensor in "tnmbgls"} == {3}


@pytest.mark.parametrize(
    "product",
    [
        "m = MatMul(c, columns)",
        "m = MatMul(c, c)",
        "t = Transpose<perm = [0,1,3,2]>(c) m = MatMul(c, t)",
        "m = com.microsoft.FusedMatMul<transA = 1>(c, nine)",
    ],
)
def test_products_that_mix_places_see_everything(product):
    proto = one(
        f"c = Conv(x, w3x3) {product} y = Add(m, c)",
        "(float[N,3,11,11] x) => (float[N,c,h,v] y)",
        columns=positive(9, 9),
        nine=positive(9, 9),
    )
    proto.graph.value_info.append(helper.make_tensor_value_info("m", 1, ["N", 2, 9, 9]))
    assert field_of(load(proto)) == ReceptiveField((None, None), (1, 1), (0, 0))


def test_axes_in_reverse():
    model = load(one("t = Transpose(x) r = Relu(t) u = Transpose(r) y = Conv<strides = [2,1]>(u, w3x2)"))
    assert [layer.grid for layer in model.layers] == [(1, 0), (1, 0), (2, 3), (2, 3)]
    assert field_of(model) == ReceptiveField((3, 2), (2, 1), (0, 0))


def test_axes_that_come_and_go():
    check(
        one(
            """u = Unsqueeze(x, axis)
               n = Mul(u, m)
               s = Squeeze(n, axis)
               c = Conv(s, w3x3)
               r = Reshape(c, shape)
               z = Relu(r)
               b = Reshape(z, back)
               y = Conv(b, k)""",
            axis=np.array([2]),
            m=positive(1),
            shape=np.array([-1, 2, 1, 11, 9]),
            back=np.array([-1, 2, 11, 9]),
            k=positive(1, 2, 2, 2),
        )
    )


def test_a_channel_shuffle():
    check(
        one(
            """a = Conv(x, k)
               r = Reshape(a, shape)
               t = Transpose<perm = [0,2,1,3,4]>(r)
               s = Reshape(t, back)
               y = Conv<group = 2>(s, g)""",
            k=positive(4, 3, 2, 2),
            shape=np.array([0, 2, 2, 12, 10]),
            back=np.array([0, -1, 12, 10]),
            g=positive(2, 2, 3, 3),
        )
    )


def test_split_channels():
    check(
        one(
            """r, g, b = Split<axis = 1, num_outputs = 3>(x)
               j = Concat<axis = 1>(b, g, r)
               y = Conv<strides = [2,1]>(j, w3x2)"""
        )
    )


def test_upsampled_features():
    """The field is the smallest even one: behind a stride of 2 it may claim a pixel too many."""
    for resize in ('Resize<mode = "nearest">', 'Resize<mode = "linear">'):
        check(
            one(
                f"""a = Conv<strides = [2,2], pads = [1,1,1,1]>(x, w3x3)
                    u = {resize}(a, , scales)
                    j = Add(u, s)
                    s = Conv(x, w1x1)
                    y = Conv<pads = [1,1,1,1]>(j, k)""",
                "(float[N,3,12,16] x) => (float[N,c,h,v] y)",
                scales=np.array([1, 1, 2, 2], np.float32),
                k=positive(2, 2, 3, 3),
            ),
            "within",
            slack=2,
        )


# --- what sees everything ------------------------------------------------------------------------------

ATTENTION = {
    "global pool": "g = GlobalAveragePool(c)",
    "mean": "g = ReduceMean(c, places)",
    "pool of the whole map": "g = AveragePool<kernel_shape = [11,9]>(c)",
    "pool, squeezed and back": """p = AveragePool<kernel_shape = [11,9]>(c)
                                  q = Squeeze(p, places) g = Unsqueeze(q, places)""",
    "pool, flattened and back": """p = MaxPool<kernel_shape = [11,9]>(c)
                                   q = Flatten(p) g = Unsqueeze(q, places)""",
    "pool, expanded": "p = AveragePool<kernel_shape = [11,9]>(c) g = Expand(p, full)",
    "branch": """g = If(yes) < then_branch = t () => (float[N,2,11,9] a) { a = custom_relu(c) },
                               else_branch = e () => (float[N,2,11,9] b) { b = Neg(c) } >""",
    "matrix product": "f = Flatten(c) m = MatMul(f, m2) g = Unsqueeze(m, places)",
}


@pytest.mark.parametrize("order", ["c, h", "h, c"])
@pytest.mark.parametrize("kind", ATTENTION)
def test_gates_see_everything(kind, order):
    """Squeeze-and-excitation in every spelling: behind it each position depends on the whole picture."""
    body = f"c = Conv(x, w3x3) {ATTENTION[kind].replace('custom_relu', 'Relu')} h = Relu(g) y = Mul({order})"
    proto = one(
        body,
        places=np.array([2, 3]),
        full=np.array([1, 2, 11, 9]),
        yes=np.array(True),
        m2=positive(198, 2),
    )
    model = load(proto) if kind == "branch" else check(proto)
    assert field_of(model) == ReceptiveField((None, None), (1, 1), (0, 0))
    assert field_of(model, "c") == ReceptiveField((3, 3), (1, 1), (0, 0))


@pytest.mark.parametrize("side", ["row", "column"])
def test_a_gate_along_one_axis_sees_that_axis(side):
    """Coordinate attention: the mean over one axis goes to every position of it."""
    pool = "[11,1]" if side == "row" else "[1,9]"
    model = check(one(f"c = Conv(x, w3x3) g = AveragePool<kernel_shape = {pool}>(c) y = Mul(c, g)"))
    assert field_of(model).size == ((None, 3) if side == "row" else (3, None))


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ("y = InstanceNormalization(c, one, one)", None),
        ("y = LayerNormalization<axis = 1>(c, map)", None),
        ("y = Softmax<axis = 1>(c)", 3),
        ("y = BatchNormalization(c, one, one, one, one)", 3),
        ("y = LRN<size = 3>(c)", 3),
        ("y = PRelu(c, slope)", 3),
        ("y = Clip(c, low)", 3),
        ("y = Dropout(c)", 3),
        ("q = QuantizeLinear(c, s) y = DequantizeLinear(q, s)", 3),
    ],
)
def test_normalisations(body, size):
    arrays = {"one": positive(2), "map": positive(2, 11, 9), "slope": positive(2, 1, 1)}
    low, s = np.array(0, np.float32), np.array(0.1, np.float32)
    weights = {name: array for name, array in {**arrays, "low": low, "s": s}.items() if name in body}
    model = load(net(f"{HEAD} {{ c = Conv(x, w3x3) {body} }}", w3x3=KERNELS["w3x3"], **weights))
    assert field_of(model) == ReceptiveField((size, size), (1, 1), (0, 0))


def test_a_softmax_over_places_sees_all_of_its_axis():
    assert field_of(load(one("c = Conv(x, w3x3) y = Softmax<axis = -1>(c)"))).size == (3, None)


def test_quantised_operators_see_what_the_plain_ones_see():
    scale, zero = np.array(0.1, np.float32), np.array(0, np.uint8)
    proto = one(
        """q = QuantizeLinear(x, s, z)
           a = QLinearConv<pads = [1,1,1,1]>(q, s, z, w, s, z, s, z)
           b = QLinearConv(q, s, z, v, s, z, s, z)
           c = com.microsoft.QLinearAdd(a, s, z, b, s, z, s, z)
           j = com.microsoft.QLinearConcat<axis = 1>(s, z, c, s, z, b, s, z)
           d = DequantizeLinear(j, s, z)
           y = MaxPool<kernel_shape = [2,3], strides = [2,1]>(d)""",
        s=scale,
        z=zero,
        w=np.ones((2, 3, 3, 3), np.uint8),
        v=np.ones((2, 3, 1, 1), np.uint8),
    )
    for name, channels in (("c", 2), ("j", 4)):  # onnx infers nothing of other domains
        proto.graph.value_info.append(helper.make_tensor_value_info(name, 2, ["N", channels, 13, 11]))
    model = load(proto)
    assert field_of(model, "j") == ReceptiveField((3, 3), (1, 1), (-1, -1))
    assert field_of(model) == ReceptiveField((4, 5), (2, 1), (-1, -1))


def test_an_operator_nobody_knows_may_see_everything():
    body = "c = Conv(x, w3x3) g = custom.Op(c) y = Add(c, g)"
    assert field_of(load(one(body))) == ReceptiveField((None, None), (1, 1), (0, 0))


@pytest.mark.parametrize(
    "step",
    [
        "f = Flatten(c) m = MatMul(f, m2) l = Reshape(m, shape)",
        "l = Slice(c, here, there, rows)",
        "u = Unsqueeze(c, last) l = Squeeze(u)",
        "l = Pad(c, one_each, , rows)",
        "l = custom.Op(c)",
    ],
)
def test_places_behind_what_nobody_can_follow(step):
    """A convolution has places wherever its data come from; what they see is not known."""
    proto = one(
        f"c = Conv(x, w3x3) {step} k = Conv<pads = [1,1,1,1], strides = [2,1]>(l, v) y = Relu(k)",
        "(float[N,3,13,11] x, int64[1] here, int64[1] there) => (float[N,c,h,v] y)",
        m2=positive(198, 198),
        shape=np.array([0, 2, 11, 9]),
        rows=np.array([2]),
        last=np.array([4]),
        one_each=np.array([1, 1]),
        v=positive(2, 2, 3, 3),
    )
    for name in "lky":
        proto.graph.value_info.append(helper.make_tensor_value_info(name, 1, ["N", 2, None, None]))
    model = load(proto)
    for tensor in "ky":
        assert field_of(model, tensor) == ReceptiveField((None, None), (None, None), (0, 0))
        (layer,) = [layer for layer in model.layers if layer.tensor == tensor]
        assert (layer.grid, layer.channel) == ((2, 3), 1)


def test_shapes_that_are_unknown_are_not_taken_for_equal():
    """Two unknown sizes need not be the same one."""
    proto = one(
        """c = Conv(x, w1x1) f = Reshape(c, odd) y = custom.Op(f)""",
        "(float[N,3,H,W] x, int64[4] odd) => (float[N,c,h,v] y)",
    )
    proto.graph.value_info.append(helper.make_tensor_value_info("c", 1, ["N", 2, None, None]))
    proto.graph.value_info.append(helper.make_tensor_value_info("f", 1, ["N", 3, None, None]))
    model = load(proto)
    (reshaped,) = [layer for layer in model.layers if layer.op == "Reshape"]
    assert reshaped.receptive_field is None


# --- random networks -----------------------------------------------------------------------------------


class Builder:
    """Appends random operators to a network, keeping track of the sizes of its maps."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights = [], []
        self.sizes = {"x": (2, int(self.rng.integers(18, 30)), int(self.rng.integers(18, 30)))}

    def add(self, op, inputs, sizes, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.sizes[name] = sizes
        return name

    def weight(self, array):
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def between(self, low, high, count=2):
        return [int(number) for number in self.rng.integers(low, high + 1, count)]

    def window(self, x, op, kernel, strides=(1, 1), pads=(0, 0, 0, 0), ceil=0):
        channels, *sizes = self.sizes[x]
        out = []
        for axis in range(2):
            room = sizes[axis] + pads[axis] + pads[2 + axis] - kernel[axis]
            count = (math.ceil if ceil else math.floor)(room / strides[axis]) + 1
            if ceil and (count - 1) * strides[axis] >= sizes[axis] + pads[axis]:
                return x  # a window in the padding alone, on which the standard's versions differ
            out.append(count)
        if min(out) < 2:
            return x
        places = {"strides": list(strides), "pads": list(pads)}
        if op == "Conv":
            w = self.weight(positive(2, channels, *kernel, seed=len(self.weights)))
            return self.add("Conv", [x, w], (2, *out), **places)
        return self.add(op, [x], (channels, *out), kernel_shape=list(kernel), ceil_mode=ceil, **places)

    def conv(self, x):
        kernel = self.between(1, 4)
        pads = [int(self.rng.integers(0, kernel[i % 2])) for i in range(4)]
        return self.window(x, "Conv", kernel, self.between(1, 2), pads)

    def pool(self, x):
        kernel = self.between(2, 3)
        pads = [int(self.rng.integers(0, kernel[i % 2])) for i in range(4)]
        op = ("MaxPool", "AveragePool")[int(self.rng.integers(2))]
        return self.window(x, op, kernel, self.between(1, 2), pads, int(self.rng.integers(2)))

    def residual(self, x):
        (first,) = self.between(0, 2, 1)
        a = self.window(x, "Conv", (3, 3), pads=(first, 1, 2 - first, 1))
        a = self.window(a, "Conv", (1, 3), pads=(0, 2, 0, 0))
        b = self.window(x, "Conv", (1, 1))
        return self.add("Add", [self.add("Relu", [a], self.sizes[a]), b], self.sizes[b])

    def joined(self, x):
        parts = [self.window(x, "Conv", (1, 1)), self.window(x, "MaxPool", (3, 3), pads=(1, 1, 1, 1)), x]
        channels = sum(self.sizes[part][0] for part in parts)
        return self.add("Concat", parts, (channels, *self.sizes[x][1:]), axis=1)

    def stem(self, x):
        channels, h, w = self.sizes[x]
        if h % 2 or w % 2:
            return x
        parts, out = [], (channels, h // 2, w // 2)
        for y0, x0 in ((0, 0), (1, 0), (0, 1), (1, 1)):
            arrays = [[y0, x0], [h, w], [2, 3], [2, 2]]
            names = [self.weight(np.array(array)) for array in arrays]
            parts.append(self.add("Slice", [x, *names], out))
        return self.add("Concat", parts, (4 * channels, *out[1:]), axis=1)

    def pad(self, x):
        channels, h, w = self.sizes[x]
        top, left, bottom, right = self.between(0, 2, 4)
        pads = self.weight(np.array([0, 0, top, left, 0, 0, bottom, right]))
        return self.add("Pad", [x, pads], (channels, h + top + bottom, w + left + right))

    def same(self, x):
        channels, h, w = self.sizes[x]
        kernel, strides = self.between(1, 4), self.between(1, 3)
        mode = ("SAME_UPPER", "SAME_LOWER")[int(self.rng.integers(2))]
        k = self.weight(positive(2, channels, *kernel, seed=len(self.weights)))
        out = (2, -(-h // strides[0]), -(-w // strides[1]))
        return self.add("Conv", [x, k], out, strides=strides, auto_pad=mode)

    def sandwich(self, x):
        channels, h, w = self.sizes[x]
        last = self.add("Transpose", [x], (h, w, channels), perm=[0, 2, 3, 1])
        scaled = self.add("Mul", [last, self.weight(positive(channels))], (h, w, channels))
        return self.add("Transpose", [scaled], (channels, h, w), perm=[0, 3, 1, 2])

    def blocks(self, x):
        channels, h, w = self.sizes[x]
        if h % 2 or w % 2 or min(h, w) < 6:
            return x
        return self.add("SpaceToDepth", [x], (4 * channels, h // 2, w // 2), blocksize=2)

    def model(self, y):
        channels, h, w = self.sizes["x"]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", 1, ["N", channels, h, w])],
            [helper.make_empty_tensor_value_info(y)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


STEPS = ("conv", "pool", "residual", "joined", "stem", "pad", "same", "sandwich", "blocks")


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_of_windows(seed):
    """Every layer of every network, exactly."""
    build = Builder(seed)
    y = build.conv("x")
    for _ in range(6):
        if min(build.sizes[y][1:]) > 5:
            y = getattr(build, STEPS[int(build.rng.integers(len(STEPS)))])(y)
    proto = build.model(y)
    model = check(proto, "inner")
    assert [layer.shape[1:] for layer in model.layers if layer.tensor == y] == [build.sizes[y]]


@pytest.mark.parametrize("seed", range(10))
def test_random_networks_that_enlarge_the_picture(seed):
    """An enlarged picture, then windows: rounded inwards the fields are exact, away from the border."""
    rng = np.random.default_rng(seed)
    factor = int(rng.integers(2, 4))
    scales = np.array([1, 1, factor, factor], np.float32)
    first = ['u = Resize<mode = "nearest">(x, , scales)', 'u = Resize<mode = "linear">(x, , scales)',
             f"u = ConvTranspose<strides = [{factor},{factor}]>(x, k)"][seed % 3]  # fmt: skip
    pads = ",".join(str(number) for number in rng.integers(0, 2, 4))
    body = f"""{first}
        c = Conv<strides = [{rng.integers(1, 3)},1], pads = [{pads}]>(u, w)
        p = MaxPool<kernel_shape = [2,3], strides = [1,2]>(c)
        s = Conv<pads = [1,1,1,1]>(p, v)
        y = Add(p, s)"""
    head = "(float[N,3,9,8] x) => (float[N,c,h,v] y)"
    weights = {
        "scales": scales,
        "k": positive(3, 3, factor + int(rng.integers(0, 2)), factor),
        "w": positive(2, 3, *rng.integers(1, 4, 2)),
        "v": positive(2, 2, 3, 3),
    }
    proto = net(f"{head} {{ {body} }}", **{name: weights[name] for name in weights if f" {name})" in body})
    check(proto, "inner")


# --- the arithmetic ------------------------------------------------------------------------------------


def test_windows_compose_as_in_the_paper():
    """AlexNet's pool5 sees 195 pixels in steps of 32, VGG-16's pool5 212 (Araujo, Norris & Sim, table 1)."""
    alexnet = [(11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 2, 0)]
    field = Field(2)
    for window in alexnet:
        field = field.through(*window)
    assert (field.size, field.stride) == (195, 32)
    field = Field(2)
    for convolutions in (2, 2, 3, 3, 3):
        for window in [*[(3, 1, 1)] * convolutions, (2, 2, 0)]:
            field = field.through(*window)
    assert (field.size, field.stride) == (212, 32)


def test_fields_that_do_not_fit_together_are_the_whole_axis():
    assert Field(2).union(Field(2).through(1, 2, 0)) == Field(2, None, None)
    assert Field(2).union(Field(3)) == Field(2, None, None)
    assert Field(2).union(Field(2).whole()) == Field(2, None)
    lost = Field(2, None, None)
    assert lost.through(3, 2, 1) == lost.spread(3, 2, 1) == lost
