"""Receptive fields against the truth: change one pixel at a time, and see which units change."""

import numpy as np
import onnx
import pytest
from methods.nets import net

from onnxviz._reference.evaluator import run
from onnxviz.graph.expose import expose
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.model import load
from onnxviz.graph.selectors import select_one
from onnxviz.methods.projection import MID_GREY, Unit, project
from onnxviz.methods.query import ask


def positive(*shape, seed=0):
    """Weights that cannot cancel."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def truth(model, shape, layer, layout="NCHW"):
    """Which pixels change which unit: bool [C, rows, columns, H, W], found one pixel at a time, in float64.

    Each pixel is raised by a little, and far above the others, so that no maximum hides it.
    """
    exact = expose(load(as_double(model)), layer.tensor)
    base = positive(*shape[1:], seed=3).astype(np.float64)
    height, width = shape[1:3] if layout == "NHWC" else shape[2:]
    changed = np.repeat(base[None], 2 * height * width, axis=0)
    for row, picture in enumerate(changed):
        place, step = divmod(row, 2)
        places = picture if layout == "NHWC" else picture.transpose(1, 2, 0)
        places[divmod(place, width)] += (0.5, 100)[step]
    rows = np.concatenate([base[None], changed])
    found = as_maps(run(exact, {"x": rows})[layer.tensor], layer)
    change = np.abs(found[1:] - found[0]) > 1e-12 * np.abs(found[0]).max()
    return change.reshape(height, width, 2, *change.shape[1:]).any(axis=2).transpose(2, 3, 4, 0, 1)


def as_double(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for weight in copy.graph.initializer:
        array = onnx.numpy_helper.to_array(weight)
        if array.dtype == np.float32 and weight.name not in ("scales", "smaller"):
            weight.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float64), weight.name))
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return copy


def hull(pixels):
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows.size else (0, 0, 0, 0)


def check(text, weights, tensor="y", layout="NCHW"):
    """Compare the field of every unit of every third channel with the truth, inside and at each border."""
    model = net(text, weights)
    shape = [d if isinstance(d, int) else 1 for d in load(model).inputs[0].shape]
    query = ask(model, positive(*shape, seed=3))
    layer = select_one(query.model, tensor)
    changes = truth(model, shape, layer, layout)
    channels, rows, columns = changes.shape[:3]
    places = [(c, i, j) for c in range(0, channels, 3) for i in range(rows) for j in range(columns)]
    found = project(query, layer, [Unit(0, c, (i, j)) for c, i, j in places])
    for (c, i, j), seen, box in zip(places, found.seen, found.boxes, strict=True):
        assert tuple(seen) == hull(changes[c, i, j]), (c, i, j)
        inside = box.clip(0, np.tile(query.input_size[::-1], 2))
        assert not seen[2] or (inside[:2] <= seen[:2]).all(), (c, i, j)
        assert (inside[2:] >= seen[2:]).all(), (c, i, j)
    return found


K = {
    "k3": positive(4, 3, 3, 3, seed=1),
    "k32": positive(4, 3, 3, 2, seed=2),
    "k1": positive(4, 3, 1, 1, seed=3),
    "m3": positive(5, 4, 3, 3, seed=4),
    "m2": positive(5, 4, 2, 2, seed=5),
    "g3": positive(4, 2, 3, 3, seed=6),
    "t2": positive(4, 3, 2, 2, seed=7),
    "t3": positive(4, 3, 3, 3, seed=8),
    "c3": positive(3, 3, 3, 3, seed=9),
    "d1": positive(2, 1, 3, 2, seed=10),
    "s2": positive(2, 12, 2, 2, seed=11),
    "gt": positive(4, 2, 3, 3, seed=12),
    "four2": positive(4, 3, seed=14),
    "four": np.array([0.5, 1, 1.5, 2], np.float32),
    "columns": positive(7, 5, seed=15),
    "pads": np.array([0, 0, 2, 1, 0, 0, 1, 3]),
    "rows": np.array([2]),
    "smaller": np.array([1, 1, 0.5, 0.7], np.float32),
    "scales": np.array([1, 1, 2, 2], np.float32),
}
HEAD = "(float[N,3,11,9] x) => (float[N,c,h,v] y)"


def one(body, head=HEAD, **more):
    given = {**K, **more}
    return f"{head} {{ {body} }}", {name: given[name] for name in given if name in body}


BODIES = {
    "stride and asymmetric pads": """a = Conv<strides=[2,1], pads=[1,0,2,1]>(x, k32)
                                     y = Conv<pads=[1,2,0,1]>(a, m3)""",
    "dilations at a border": """a = Conv<pads=[2,1,0,3], dilations=[2,3]>(x, k32)
                                y = Conv<pads=[1,1,1,1]>(a, m2)""",
    "ceil_mode": """a = MaxPool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(x)
                    b = Conv<pads=[1,1,1,1]>(a, k3)
                    y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(b)""",
    "average pool": """a = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)
                       y = Conv<pads=[0,1,1,0]>(a, k32)""",
    "groups": "a = Conv(x, k1) y = Conv<group=2, strides=[2,2], pads=[1,1,1,1]>(a, g3)",
    "transposed": """a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, k3)
                     b = Relu(a) y = ConvTranspose<strides=[2,2], pads=[0,1,1,0]>(b, t3)""",
    "skip connection": """a = Conv<pads=[1,1,1,1]>(x, k3) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
                          b = Conv<pads=[1,1,1,1]>(p, m3) u = Resize<mode="nearest">(b, , scales)
                          s = Slice(a, start, end, axes) y = Concat<axis=1>(s, u)""",
    "branches": """a = Conv<pads=[1,1,1,1]>(x, k3) b = Conv(x, k1)
                   s = Sigmoid(b) m = Mul(a, s) y = Concat<axis=1>(b, m)""",
    "linear upsampling": """a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, k3)
                            u = Resize<mode="linear">(a, , scales) y = Conv<pads=[1,1,1,1]>(u, m3)""",
    "squeeze and excitation": "a = Conv(x, k3) g = GlobalAveragePool(a) y = Mul(a, g)",
    "mean over rows": "a = Conv(x, k3) g = AveragePool<kernel_shape=[9,1]>(a) y = Mul(a, g)",
    "softmax": "a = Conv(x, k3) y = Softmax<axis=3>(a)",
    "depth to space": """a = Conv(x, k1) d = DepthToSpace<blocksize=2>(a)
                         y = Conv<strides=[1,2], pads=[1,0,1,1]>(d, d1)""",
    "space to depth": """e = Slice(x, start, end, axes) a = SpaceToDepth<blocksize=2>(e)
                         y = Conv<pads=[1,0,0,1]>(a, s2)""",
    "reflected border": 'p = Pad<mode="reflect">(x, pads) y = Conv<dilations=[2,1]>(p, k3)',
    "edge": 'p = Pad<mode="edge">(x, pads) y = MaxPool<kernel_shape=[2,3]>(p)',
    "cubic": 'a = Conv(x, k1) u = Resize<mode="cubic">(a, , scales) y = Conv(u, m3)',
    "smaller": """a = Conv(x, k1) u = Resize<mode="linear">(a, , smaller) y = Conv(u, m2)""",
    "largest of each column": "a = Conv(x, k1) g = ReduceMax(a, rows) y = Mul(a, g)",
    "norm over the channels": """a = Conv(x, k3) t = Transpose<perm=[0,2,3,1]>(a)
                                 n = LayerNormalization<axis=-1>(t, four, four)
                                 l = MatMul(n, four2) y = Transpose<perm=[0,3,1,2]>(l)""",
    "neighbouring channels": "a = Conv(x, k3) b = LRN<size=3>(a) y = Conv<pads=[1,1,1,1]>(b, m2)",
    "mixed columns": "a = Conv(x, k3) y = MatMul(a, columns)",
    "a branch for each colour": """r, g, b = Split<axis=1, num_outputs=3>(x)
                                   p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(r)
                                   q = LpPool<kernel_shape=[1,3], pads=[0,2,0,0]>(g)
                                   y = Concat<axis=1>(p, b, q, q)""",
    "side by side": """a = Conv(x, k3) b = Conv(x, k1) s = Slice(b, start, short, axes)
                       y = Concat<axis=3>(a, s)""",
    "transposed, in groups": """a = Conv(x, k1) y = ConvTranspose
                                <group=2, dilations=[2,1], strides=[1,2], pads=[1,2,1,1]>(a, gt)""",
    "SAME": 'a = Conv<auto_pad="SAME_LOWER", strides=[2,3]>(x, k32) y = Conv<auto_pad="SAME_UPPER">(a, m2)',
}


@pytest.mark.parametrize("kind", BODIES)
def test_the_field_is_what_changing_pixels_one_by_one_finds(kind):
    ends = {"start": [0, 0], "end": [10, 8], "short": [9, 3], "axes": [2, 3]}
    check(*one(BODIES[kind], **{name: np.array(places) for name, places in ends.items()}))


def test_the_layout_of_tensorflow():
    text, weights = one(
        """t = Transpose<perm=[0,3,1,2]>(x)
           c = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(t, k32)
           b = Transpose<perm=[0,2,3,1]>(c) r = Relu(b)
           u = Transpose<perm=[0,3,1,2]>(r)
           p = MaxPool<kernel_shape=[2,2], auto_pad="SAME_LOWER">(u)
           y = Transpose<perm=[0,2,3,1]>(p)""",
        "(float[N,11,9,3] x) => (float[N,h,v,c] y)",
    )
    found = check(text, weights, layout="NHWC")
    assert found.pixels.shape[1:] == found.patches.shape[1:] == (5, 4, 3)


def test_a_unit_inside_is_cut_out_with_its_field_and_one_at_a_border_with_margins():
    text, weights = one("a = Conv<pads=[1,1,1,1]>(x, k3) y = Conv<pads=[1,1,1,1]>(a, m3)")
    query = ask(net(text, weights), positive(1, 3, 11, 9))
    found = project(query, select_one(query.model, "y"), [Unit(0, 0, (5, 4)), Unit(0, 0, (0, 8))])
    assert found.boxes.tolist() == [[2, 3, 7, 8], [6, -2, 11, 3]]
    assert found.seen.tolist() == [[2, 3, 7, 8], [6, 0, 9, 3]]
    assert found.pixels.shape == (2, 5, 5, 3)
    assert (found.patches[1, :2] == MID_GREY).all()
    assert (found.patches[1, :, 3:] == MID_GREY).all()
    assert not found.pixels[1, :2].any()
    shown = query.pictures.pixels[0]
    assert (found.patches[0] == shown[3:8, 2:7]).all()
    assert (found.patches[1, 2:, :3] == shown[:3, 6:]).all()


def test_of_a_box_only_what_the_unit_itself_sees_is_shown():
    """The first channels of a join see one pixel, the others nine: the layer's box is that of the nine."""
    text, weights = one("a = Conv<pads=[1,1,1,1]>(x, k3) b = Conv(x, k1) y = Concat<axis=1>(b, a)")
    query = ask(net(text, weights), positive(1, 3, 11, 9))
    found = project(query, select_one(query.model, "y"), [Unit(0, 0, (5, 4)), Unit(0, 4, (5, 4))])
    assert found.boxes.tolist() == [[3, 4, 6, 7]] * 2
    assert found.seen.tolist() == [[4, 5, 5, 6], [3, 4, 6, 7]]
    assert (found.patches[0] == MID_GREY).all(axis=2).sum() == 8
    assert (found.patches[1] == query.pictures.pixels[0][4:7, 3:6]).all()


WHOLE = {
    "dense layer": ("f = Flatten(c) y = Gemm(f, dense)", (0, 0)),
    "global pool": ("y = GlobalMaxPool(c)", (0, 0)),
    "attention": (
        """r = Reshape(c, tokens) t = Transpose<perm=[0,2,1]>(r) m = MatMul(t, r) s = Softmax(m)
           n = MatMul(s, t) k = Transpose<perm=[0,2,1]>(n) b = Reshape(k, back) y = Add(b, c)""",
        (2, 3),
    ),
    "instance normalisation": ("y = InstanceNormalization(c, gain, gain)", (4, 4)),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_what_sees_the_whole_picture(kind):
    body, place = WHOLE[kind]
    text, weights = one(
        f"c = Conv(x, k3) {body}",
        "(float[N,3,11,9] x) => (float[N,...] y)".replace(
            "N,...", "N,c" if kind == "dense layer" else "N,c,h,v"
        ),
        dense=positive(4 * 9 * 7, 2),
        tokens=np.array([0, 4, 63]),
        back=np.array([0, 4, 9, 7]),
        gain=positive(4),
    )
    query = ask(net(text, weights), positive(1, 3, 11, 9))
    found = project(query, select_one(query.model, "y"), [Unit(0, 1, place)])
    assert found.seen.tolist() == found.boxes.tolist() == [[0, 0, 9, 11]]
    assert found.manifest["layer"][0]["field"] == "exact"


def test_what_nobody_knows_is_the_whole_picture_and_said():
    """CumSum has a derivative, but no rule of what it depends on."""
    text, weights = one("c = Conv(x, k3) s = CumSum(c, along) y = Conv(s, m3)", along=np.array(3))
    query = ask(net(text, weights), positive(1, 3, 11, 9))
    found = project(query, select_one(query.model, "y"), [Unit(0, 1, (2, 3))])
    assert found.seen.tolist() == found.boxes.tolist() == [[0, 0, 9, 11]]
    assert "CumSum" in found.manifest["layer"][0]["field"]
    assert any("whole picture" in text and "CumSum" in text for text in found.manifest["warnings"])


def test_a_field_without_an_even_grid_is_cut_out_as_large_as_the_largest():
    text, weights = one(
        'c = Conv(x, k3) y = Resize<mode="nearest">(c, , uneven)',
        uneven=np.array([1, 1, 1.5, 1.5], np.float32),
    )
    query = ask(net(text, weights), positive(1, 3, 11, 9))
    found = project(query, select_one(query.model, "y"), [Unit(0, 0, (5, 5)), Unit(0, 0, (0, 0))])
    assert found.seen.tolist() == found.boxes.tolist() == [[3, 3, 6, 6], [0, 0, 3, 3]]


QUANTISED = """
    (float[N,3,11,9] x) => (float[N,c,h,v] y) {
        q = QuantizeLinear (x, s, z)
        a = QLinearConv <pads = [1,1,1,1]> (q, s, z, w, ws, wz, s, z)
        p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (a)
        b = QLinearConv <dilations = [2,1], pads = [1,1,1,1]> (p, s, z, v, ws, wz, s, z)
        y = DequantizeLinear (b, s, z)
    }
"""


def test_quantised_layers_see_what_the_plain_ones_see():
    rng = np.random.default_rng(0)
    weights = {
        "s": np.float32(0.05),
        "z": np.uint8(0),
        "ws": np.float32(0.01),
        "wz": np.int8(0),
        "w": rng.integers(-90, 91, (4, 3, 3, 3)).astype(np.int8),
        "v": rng.integers(-90, 91, (5, 4, 3, 3)).astype(np.int8),
    }
    query = ask(net(QUANTISED, weights), positive(1, 3, 11, 9))
    plain = one(
        """a = Conv<pads=[1,1,1,1]>(x, k3) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
           y = Conv<dilations=[2,1], pads=[1,1,1,1]>(p, m3)"""
    )
    other = ask(net(*plain), positive(1, 3, 11, 9))
    units = [Unit(0, c, (i, j)) for c in (0, 4) for i in range(3) for j in range(4)]
    found = project(query, select_one(query.model, "b"), units)
    expected = project(other, select_one(other.model, "y"), units)
    assert found.seen.tolist() == expected.seen.tolist()
    assert found.boxes.tolist() == expected.boxes.tolist()
