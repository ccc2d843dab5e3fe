"""The projections against a deconvnet of NumPy loops, on a net that holds every kind of window."""

import itertools
import json

import numpy as np
import pytest
from methods.nets import cam_net, net, noise
from PIL import Image

from onnxviz.errors import ImageError, SelectorError
from onnxviz.graph.selectors import select_one
from onnxviz.methods.deconv import deconv, default_layer
from onnxviz.methods.projection import Unit, crop, project
from onnxviz.methods.query import ask
from onnxviz.methods.units import strongest_places

RNG = np.random.default_rng(5)
WEIGHTS = {
    "w1": RNG.normal(0, 0.5, (6, 3, 3, 2)).astype(np.float32),
    "b1": RNG.normal(0, 0.3, 6).astype(np.float32),
    "w2": RNG.normal(0, 0.5, (4, 3, 2, 3)).astype(np.float32),
    "b2": RNG.normal(0.2, 0.3, 4).astype(np.float32),
}
NET = """
    (float[N,3,14,12] x) => (float[N,4,h,v] y) {
        a = Conv <strides = [2,1], pads = [1,0,2,1]> (x, w1, b1)
        r = Relu (a)
        p = MaxPool <kernel_shape = [3,2], strides = [2,2], pads = [1,1,0,0], ceil_mode = 1> (r)
        c = Conv <group = 2, dilations = [2,1], pads = [1,1,2,1]> (p, w2, b2)
        y = Relu (c)
    }
"""
X = noise(2, 3, 14, 12, seed=11)


class Windows:
    """A sliding window over maps: which input each output's taps read, in plain loops."""

    def __init__(self, kernel, strides=(1, 1), dilations=(1, 1), pads=(0, 0, 0, 0), ceil=False):
        self.kernel, self.strides, self.dilations, self.pads, self.ceil = (
            kernel,
            strides,
            dilations,
            pads,
            ceil,
        )

    def sizes(self, size):
        found = []
        for axis in range(2):
            span = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            room = size[axis] + self.pads[axis] + self.pads[2 + axis] - span
            found.append(-(-room // self.strides[axis]) + 1 if self.ceil else room // self.strides[axis] + 1)
        return found

    def taps(self, size):
        """Every (output place, tap, input place) that lies within the map."""
        for i, j in itertools.product(*map(range, self.sizes(size))):
            for k, m in itertools.product(*map(range, self.kernel)):
                h = i * self.strides[0] - self.pads[0] + k * self.dilations[0]
                v = j * self.strides[1] - self.pads[1] + m * self.dilations[1]
                if 0 <= h < size[0] and 0 <= v < size[1]:
                    yield (i, j), (k, m), (h, v)


FIRST = Windows((3, 2), strides=(2, 1), pads=(1, 0, 2, 1))
POOL = Windows((3, 2), strides=(2, 2), pads=(1, 1, 0, 0), ceil=True)
SECOND = Windows((2, 3), dilations=(2, 1), pads=(1, 1, 2, 1))


def convolve(x, w, b, windows, groups=1):
    out = np.repeat(b.astype(np.float64)[:, None, None], np.prod(windows.sizes(x.shape[1:])), 1)
    out = out.reshape(len(b), *windows.sizes(x.shape[1:]))
    inputs, outputs = w.shape[1], len(w) // groups
    for m in range(len(w)):
        group = x[m // outputs * inputs :][:inputs]
        for place, tap, at in windows.taps(x.shape[1:]):
            out[(m, *place)] += w[(m, slice(None), *tap)].astype(np.float64) @ group[(slice(None), *at)]
    return out


def transposed(g, w, windows, like, groups=1):
    back = np.zeros(like)
    inputs, outputs = w.shape[1], len(w) // groups
    for m in range(len(w)):
        first = m // outputs * inputs
        for place, tap, at in windows.taps(like[1:]):
            back[(slice(first, first + inputs), *at)] += w[(m, slice(None), *tap)] * g[(m, *place)]
    return back


def pool(x, windows):
    """The largest of each window, and its switch: the place it came from."""
    out = np.full((len(x), *windows.sizes(x.shape[1:])), -np.inf)
    switches = np.zeros((*out.shape, 2), int)
    for c in range(len(x)):
        for place, _, at in windows.taps(x.shape[1:]):
            if x[(c, *at)] > out[(c, *place)]:
                out[(c, *place)], switches[(c, *place)] = x[(c, *at)], at
    return out, switches


def unpool(g, switches, like):
    back = np.zeros(like)
    for place in itertools.product(*map(range, g.shape)):
        back[(place[0], *switches[place])] += g[place]
    return back


def dense(x, channel, rules):
    """The strongest unit of a channel of y: its place, its activation, and its projection [3, H, W]."""
    a = convolve(x.astype(np.float64), WEIGHTS["w1"], WEIGHTS["b1"], FIRST)
    r = np.maximum(a, 0)
    p, switches = pool(r, POOL)
    c = convolve(p, WEIGHTS["w2"], WEIGHTS["b2"], SECOND, groups=2)
    y = np.maximum(c, 0)
    place = np.unravel_index(y[channel].argmax(), y.shape[1:])
    g = np.zeros_like(y)
    g[(channel, *place)] = y[(channel, *place)]

    def relu_down(g, forward):
        mask = forward > 0
        return {
            "deconvnet": np.maximum(g, 0),
            "guided-backprop": np.maximum(g, 0) * mask,
            "gradient": g * mask,
        }[rules]

    g = transposed(relu_down(g, c), WEIGHTS["w2"], SECOND, p.shape, groups=2)
    g = relu_down(unpool(g, switches, r.shape), a)
    return place, y[(channel, *place)], transposed(g, WEIGHTS["w1"], FIRST, x.shape)


@pytest.mark.parametrize("rules", ["deconvnet", "guided-backprop", "gradient"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_the_projection_is_that_of_a_dense_deconvnet(rules, batch):
    for number, x in enumerate(X):
        found = deconv(net(NET, WEIGHTS), x, "y", "all", rules, batch=batch)
        assert found.channels.tolist() == [0, 1, 2, 3]
        alive = 0
        for row, channel in enumerate(found.channels):
            place, value, whole = dense(x, channel, rules)
            assert found.values[row] == pytest.approx(value, rel=1e-5, abs=1e-6), number
            if value == 0:
                assert str(found.empty[row]).startswith("dead")
                continue
            alive += 1
            assert found.units[row].position == tuple(place)
            want = crop(whole.transpose(1, 2, 0), found.boxes[row], 0)
            np.testing.assert_allclose(found.pixels[row], want, atol=1e-5 * np.abs(want).max())
            assert np.abs(want).max() > 0.01
            # Nothing of it lies outside the box.
            assert np.abs(want).sum() == pytest.approx(np.abs(whole).sum())
        assert alive >= 3


def test_one_session_serves_units_of_several_pictures():
    query = ask(net(NET, WEIGHTS), X)
    layer = select_one(query.model, "y")
    units = [Unit(1, 3, (2, 1)), Unit(0, 0, (0, 0)), Unit(1, 3, (2, 1)), Unit(0, 2, (4, 6))]
    together = project(query, layer, units)
    for row, unit in enumerate(units):
        alone = project(
            ask(net(NET, WEIGHTS), X[unit.picture]), layer, [Unit(0, unit.channel, unit.position)]
        )
        np.testing.assert_allclose(together.pixels[row], alone.pixels[0], atol=1e-6)
        np.testing.assert_allclose(together.maps[row], alone.maps[0], atol=1e-6)
        assert together.values[row] == pytest.approx(alone.values[0])
        assert together.boxes[row].tolist() == alone.boxes[0].tolist()


# Which units


def test_the_strongest_channels_are_those_with_the_largest_activation_not_magnitude():
    weights = {"w": np.array([1, -9, 3, 2], np.float32).reshape(4, 1, 1, 1)}
    model = net("(float[1,1,4,5] x) => (float[1,4,4,5] y) { y = Conv (x, w) }", weights)
    x = np.full((1, 4, 5), 0.1, np.float32)
    x[0, 2, 3] = 1
    found = deconv(model, x, "y", "strongest:3")
    assert found.channels.tolist() == [2, 3, 0]
    assert found.values == pytest.approx([3, 2, 1])
    assert [unit.position for unit in found.units] == [(2, 3)] * 3
    assert found.boxes.tolist() == [[3, 2, 4, 3]] * 3
    assert found.pixels.reshape(-1) == pytest.approx([9, 4, 1])  # the activation, times the weight
    assert found.maps == pytest.approx(weights["w"][[2, 3, 0], 0] * x)


def test_where_a_map_is_largest():
    maps = np.array([[[1, 3], [3, 0]], [[np.nan, -2], [np.inf, -1]], [[np.nan] * 2] * 2])
    values, places = strongest_places(maps)
    assert values.tolist() == [3, -1, -np.inf]
    assert places[:2].tolist() == [[0, 1], [1, 1]]


def test_a_dead_channel_is_said_to_be_dead():
    weights = {"w": np.array([1, -1], np.float32).reshape(2, 1, 1, 1)}
    model = net("(float[1,1,4,5] x) => (float[1,2,4,5] y) { c = Conv (x, w) y = Relu (c) }", weights)
    found = deconv(model, np.ones((1, 4, 5), np.float32), "y", "0,1")
    assert found.empty == (None, "dead: its activation of 0 is not above 0")
    assert not found.pixels[1].any()
    assert found.manifest["units"][1]["empty"] == found.empty[1]
    assert (
        "channel 1 in picture-0: no projection: dead: its activation of 0 is not above 0"
        in (found.manifest["warnings"])
    )


def test_numbers_that_are_not_finite_elsewhere_do_not_spoil_a_projection():
    weights = {
        "w": np.ones((1, 1, 1, 1), np.float32),
        "s": np.array([[[[1, 1, 1], [1, np.inf, 1]]]], np.float32),
    }
    model = net("(float[1,1,2,3] x) => (float[1,1,2,3] y) { c = Conv (x, w) y = Add (c, s) }", weights)
    found = deconv(model, np.array([[[0, 4, 2], [1, 0, 3]]], np.float32), "y", "0")
    assert found.units[0].position == (0, 1)
    assert found.pixels.ravel().tolist() == [5]
    assert found.empty == (None,)


def test_a_projection_that_is_not_finite_is_said_to_be_none(tmp_path):
    weights = {"w": np.ones((1, 1, 1, 1), np.float32)}
    model = net("(float[1,1,2,3] x) => (float[1,1,h,v] y) { c = Conv (x, w) y = Exp (c) }", weights)
    # The activation is e^88, which float32 holds, and its projection the square of that.
    found = deconv(model, np.array([[[88, 4, 2], [1, 0, 3]]], np.float32), "y", "0")
    assert found.empty == ("1 of 1 values of the projection are not finite",)
    assert any("are not finite" in text for text in found.manifest["warnings"])
    found.save(tmp_path / "out")


def test_a_projection_that_nothing_of_reaches_the_pixels_is_said_to_be_none():
    model = net(
        "(float[1,1,2,3] x) => (float[1,1,2,3] y) { c = Conv (x, w) r = Relu (c) y = Add (r, b) }",
        {"w": np.ones((1, 1, 1, 1), np.float32), "b": np.ones((1, 1, 1, 1), np.float32)},
    )
    found = deconv(model, np.full((1, 2, 3), -1, np.float32), "y", "0", "gradient")
    assert found.values.tolist() == [1]
    assert found.empty == ("nothing of it reaches the pixels",)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (Unit(0, 4, (0, 0)), "4 channels of 5x6 places, and there are 2 pictures"),
        (Unit(2, 0, (0, 0)), "there are 2 pictures"),
        (Unit(0, 0, (5, 0)), "5x6"),
        (Unit(0, -1, (0, 0)), "Unit"),
        (Unit(0, 0, (0,)), "Unit"),
    ],
)
def test_units_that_there_are_not_are_refused(unit, message):
    query = ask(net(NET, WEIGHTS), X)
    rows, columns = deconv(net(NET, WEIGHTS), X[0], "y", "0").maps.shape[1:]
    with pytest.raises(SelectorError, match=message.replace("5x6", f"{rows}x{columns}")):
        project(query, select_one(query.model, "y"), [unit])


def test_what_cannot_be_projected_is_refused():
    model = net(NET, WEIGHTS)
    query = ask(model, X)
    with pytest.raises(SelectorError, match="no unit of layer 'y'"):
        project(query, select_one(query.model, "y"), [])
    with pytest.raises(SelectorError, match="no rules 'deconv'; did you mean 'deconvnet'"):
        deconv(model, X[0], "y", rules="deconv")
    with pytest.raises(ImageError, match="one picture, not 2"):
        deconv(model, X, "y")
    with pytest.raises(SelectorError, match="no channel 9 in layer 'y'"):
        deconv(model, X[0], "y", "9")


RELU6 = "(float[1,1,2,3] x) => (float[1,1,2,3] y) {{ c = Conv (x, w) {} }}"
PLAIN = "y = Clip (c, low, high)"
QUANTISED = "l = Clip (c, low, high) q = QuantizeLinear (l, s, z) y = DequantizeLinear (q, s, z)"


@pytest.mark.parametrize("rules", ["deconvnet", "guided-backprop", "gradient"])
@pytest.mark.parametrize("quantised", [False, True])
def test_what_cuts_off_the_unit_does_not_cut_off_its_projection(rules, quantised):
    """The strongest units of a ReLU6 are those at its 6, where its derivative is 0."""
    weights = {"w": np.full((1, 1, 1, 1), 2, np.float32), "low": np.float32(0), "high": np.float32(6)}
    text = RELU6.format(QUANTISED if quantised else PLAIN)
    if quantised:
        weights |= {"s": np.float32(6 / 255), "z": np.uint8(0)}
    found = deconv(net(text, weights), np.array([[[1, 2, 9], [0, 1, 2]]], np.float32), "y", "0", rules)
    assert found.units[0].position == (0, 2)
    assert found.values == pytest.approx([6])
    assert found.pixels.ravel() == pytest.approx([12])
    assert found.manifest["rules"] == ("straight-through" if quantised and rules == "gradient" else rules)


def test_a_quantised_layer_is_projected_in_floats():
    """Also the unit at the end of its range."""
    weights = {
        "s": np.float32(0.02), "z": np.uint8(0), "t": np.float32(0.02), "u": np.uint8(10),
        "w": np.full((1, 1, 1, 1), 100, np.int8), "ws": np.float32(0.03), "wz": np.int8(0),
    }  # fmt: skip
    text = """(float[1,1,2,3] x) => (float[1,1,2,3] y) {
        q = QuantizeLinear (x, s, z)
        a = QLinearConv (q, s, z, w, ws, wz, t, u)
        y = DequantizeLinear (a, t, u)
    }"""
    x = np.array([[[0.1, 0.2, 3], [0.4, 0.5, 0.6]]], np.float32)
    found = deconv(net(text, weights), x, "a", "0", "gradient")
    assert found.values == pytest.approx([245 * 0.02])
    assert found.pixels.ravel() == pytest.approx([245 * 0.02 * 3], rel=1e-5)
    assert found.maps[0, 1] == pytest.approx([1.2, 1.5, 1.8])


# Where


def test_without_a_layer_it_is_the_last_convolution_that_sees_at_most_half_the_picture():
    text = """(float[N,3,24,20] x) => (float[N,c,h,v] y) {
        a = Conv (x, w) r = Relu (a) b = Conv (r, v) p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (b)
        c = Conv (p, v) d = Conv (c, v) y = Relu (d) }"""
    weights = {"w": noise(2, 3, 3, 3), "v": noise(2, 2, 3, 3)}
    found = deconv(net(text, weights), noise(1, 3, 24, 20))  # fields of 3, 5, 10 and 14 of 20 pixels
    assert found.layer.name == "c"
    assert found.manifest["layer"][0]["why"].startswith("the last convolution whose units see at most half")
    small = deconv(net(text, weights), noise(1, 3, 24, 20), "d")
    assert small.manifest["layer"][0]["why"] == "given"


def test_without_a_convolution_a_layer_must_be_named():
    model = net("(float[1,1,4,5] x) => (float[1,1,4,5] y) { y = Relu (x) }", {})
    with pytest.raises(SelectorError, match="name a layer"):
        deconv(model, noise(1, 4, 5))
    assert default_layer(ask(cam_net(), noise(1, 3, 8, 10))).name == "c1"


def test_the_layers_of_a_net_of_fully_open_sizes():
    text = NET.replace("float[N,3,14,12]", "float[N,3,H,W]")
    found = deconv(net(text, WEIGHTS), X[0], "y", "0-3")
    expected = deconv(net(NET, WEIGHTS), X[0], "y", "0-3")
    np.testing.assert_allclose(found.pixels, expected.pixels, atol=1e-6)
    assert found.boxes.tolist() == expected.boxes.tolist()


# Whole results


def test_the_manifest_says_where_a_projection_came_from():
    found = deconv(net(NET, WEIGHTS), X[0], "y", "strongest:2", "guided-backprop", preprocess="unit")
    said = found.manifest
    assert said["rules"] == "guided-backprop"
    assert said["method"] == "deconv"
    assert said["channels"] == "strongest:2"
    assert [unit["channel"] for unit in said["units"]] == found.channels.tolist()
    assert [unit["box"] for unit in said["units"]] == found.boxes.tolist()
    assert [unit["seen"] for unit in said["units"]] == found.seen.tolist()
    assert [unit["value"] for unit in said["units"]] == found.values.tolist()
    assert {"name": "y", "op": "Relu", "field": "exact", "why": "given"}.items() <= said["layer"][0].items()
    assert any("sanity check" in text for text in said["warnings"])
    assert not any(
        "sanity check" in t for t in deconv(net(NET, WEIGHTS), X[0], rules="gradient").manifest["warnings"]
    )


def test_rules_that_change_nothing_are_said_to():
    text = "(float[1,3,14,12] x) => (float[1,6,h,v] y) { y = Conv (x, w1, b1) }"
    found = deconv(net(text, {name: WEIGHTS[name] for name in ("w1", "b1")}), X[0], "y")
    assert any("no ReLU lies before layer 'y'" in text for text in found.manifest["warnings"])
    assert not any("no ReLU" in t for t in deconv(net(NET, WEIGHTS), X[0], "y").manifest["warnings"])


def test_a_saved_projection_holds_its_numbers_and_its_sheet(tmp_path):
    found = deconv(net(NET, WEIGHTS), X[0], "y", "all")
    folder = found.save(tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["004-y.png", "deconv.npz", "manifest.json"]
    with np.load(folder / "deconv.npz") as kept:
        assert (kept["pixels"] == found.pixels).all()
        assert (kept["patches"] == found.patches).all()
        assert kept["channels"].tolist() == [0, 1, 2, 3]
        assert kept["positions"].tolist() == [list(unit.position) for unit in found.units]
    said = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert set(said["files"]) == {"004-y.png", "deconv.npz"}
    with Image.open(folder / "004-y.png") as sheet:
        first = np.asarray(sheet)
    found.save(tmp_path / "again")
    with Image.open(tmp_path / "again" / "004-y.png") as sheet:
        assert (np.asarray(sheet) == first).all()
