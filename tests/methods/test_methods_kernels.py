import numpy as np
import onnx
import pytest
from methods.nets import cam_net, cam_weights, net
from onnx import numpy_helper
from PIL import Image

from onnxviz import load, samples
from onnxviz.errors import SelectorError
from onnxviz.methods.kernels import blue_first, kernels
from onnxviz.methods.manifest import manifest
from onnxviz.methods.save import save_kernels


def test_kernels_of_the_sample_model_are_its_initializers():
    proto = onnx.load(samples.sample_model())
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    found = kernels(samples.sample_model())
    assert list(found) == [node.name for node in convolutions]
    for node in convolutions:
        np.testing.assert_array_equal(found[node.name], weights[node.input[1]])


@pytest.mark.parametrize(
    ("selector", "names"),
    [("first-conv", ["c1"]), ("last-conv", ["c2"]), ("all", ["c1", "c2"]), (["c2", "r1"], ["c2"])],
)
def test_selectors_name_the_layers_and_those_without_kernels_are_left_out(selector, names):
    found = kernels(cam_net(), selector)
    assert list(found) == names
    for name in names:
        np.testing.assert_array_equal(found[name], cam_weights()[f"w{name[1]}"])


KINDS = """
    (float[N,4,8,8] x) => (float[N,3,8,8] y) {
        grouped = Conv <group = 2, pads = [1,1,1,1]> (x, wg)
        constant = Constant <value = float[6,6,1,1] {CONSTANT}> ()
        pointwise = Conv (grouped, constant)
        flat = Identity (wt)
        y = ConvTranspose <pads = [1,1,1,1]> (pointwise, wt)
    }
"""


def test_grouped_transposed_and_constant_kernels():
    rng = np.random.default_rng(1)
    wg = rng.standard_normal((6, 2, 3, 3), np.float32)
    wt = rng.standard_normal((6, 3, 3, 3), np.float32)
    values = ", ".join(str(number) for number in range(36))
    found = kernels(net(KINDS.replace("{CONSTANT}", f"{{{values}}}"), {"wg": wg, "wt": wt}), "all")
    assert list(found) == ["grouped", "pointwise", "y"]
    np.testing.assert_array_equal(found["grouped"], wg)
    np.testing.assert_array_equal(found["pointwise"], np.arange(36, dtype=np.float32).reshape(6, 6, 1, 1))
    np.testing.assert_array_equal(found["y"], wt)


def test_float16_kernels_keep_their_type():
    w = np.random.default_rng(2).standard_normal((2, 3, 3, 3)).astype(np.float16)
    model = net("(float16[N,3,8,8] x) => (float16[N,2,6,6] y) { y = Conv (x, w) }", {"w": w})
    [found] = kernels(model).values()
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, w)


WQ = np.random.default_rng(3).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
SCALES = np.array([0.5, 0.25, 2.0, 0.125], np.float32)
ZEROS = np.array([0, 3, -2, 1], np.int8)
OTHERS = {
    "s": np.float32(0.02),
    "z": np.uint8(128),
}


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("zero_point", [True, False])
def test_kernels_behind_a_dequantiser_are_floats(per_channel, zero_point):
    scale, zero = (SCALES, ZEROS) if per_channel else (SCALES[0], ZEROS[1])
    inputs = "wq, ws, wz" if zero_point else "wq, ws"
    text = f"""
        (float[N,3,8,8] x) => (float[N,4,6,6] y) {{
            w = DequantizeLinear <axis = 0> ({inputs}) y = Conv (x, w)
        }}
    """
    model = net(text, {"wq": WQ, "ws": scale, **({"wz": zero} if zero_point else {})})
    [found] = kernels(model).values()
    shape = (4, 1, 1, 1) if per_channel else ()
    offset = zero.astype(float).reshape(shape) if zero_point else 0.0
    np.testing.assert_allclose(found, (WQ.astype(float) - offset) * scale.reshape(shape), rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("per_channel", [True, False])
def test_kernels_of_a_quantised_convolution_are_floats(per_channel):
    scale, zero = (SCALES, ZEROS) if per_channel else (SCALES[0], ZEROS[1])
    text = """
        (uint8[N,3,8,8] x) => (uint8[N,4,6,6] y) {
            y = QLinearConv (x, s, z, wq, ws, wz, s, z)
        }
    """
    [found] = kernels(net(text, {"wq": WQ, "ws": scale, "wz": zero, **OTHERS})).values()
    shape = (4, 1, 1, 1) if per_channel else ()
    expected = (WQ.astype(float) - zero.astype(float).reshape(shape)) * scale.reshape(shape)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_transposed_convolution_is_quantised_along_its_second_axis():
    text = """
        (float[N,4,8,8] x) => (float[N,3,10,10] y) {
            w = DequantizeLinear <axis = 1> (wq, ws) y = ConvTranspose (x, w)
        }
    """
    scale = np.array([1.0, 2.0, 0.5], np.float32)
    [found] = kernels(net(text, {"wq": WQ, "ws": scale}), "y").values()
    np.testing.assert_allclose(found, WQ.astype(float) * scale.reshape(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("text", "selector", "message"),
    [
        ("(float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu (x) }", "all", r"no kernels in 'y' \(Relu\)"),
        ("(float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu (x) }", "Conv", "no layer 'Conv'"),
        (
            "(float[N,3,8,8] x, float[2,3,3,3] w) => (float[N,2,6,6] y) { y = Conv (x, w) }",
            "Conv",
            r"no kernels in 'y' \(Conv\)",
        ),
    ],
)
def test_without_constant_kernels_the_layers_are_named(text, selector, message):
    with pytest.raises(SelectorError, match=message):
        kernels(net(text, {}), selector)


FRONTS = {
    "directly": "c = Conv (x, w)",
    "behind a pad": "p = Pad (x, pads) c = Conv (p, w)",
    "behind quantisers": "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) c = Conv (d, w)",
}


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("color", ["BGR", "RGB", None])
def test_layers_that_read_blue_first_are_drawn_in_true_colours(front, color, tmp_path):
    w = np.zeros((1, 3, 2, 2), np.float32)
    w[0, 0] = 1  # of the first colour alone
    metadata = {} if color is None else {"onnxviz.preprocess": f'{{"color": "{color}"}}'}
    text = f"(float[N,3,8,8] x) => (float[N,1,A,B] y) {{ {FRONTS[front]} y = Conv (c, v) }}"
    weights = {"w": w, "v": w[:, :1], "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), **OTHERS}
    model = load(net(text, weights, metadata=metadata))
    found = kernels(model)
    layers = [layer for layer in model.layers if layer.name in found]
    blue = blue_first(model, layers)
    assert blue == (["c"] if color == "BGR" else [])
    save_kernels(found, layers, manifest(model), tmp_path / "out", bgr=blue)
    [file] = (tmp_path / "out").glob("*-c.png")
    pixels = np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3).astype(int)
    red, blue_only = ((pixels[:, i] - pixels[:, 2 - i] > 60).sum() for i in (0, 2))
    assert (blue_only > red) if color == "BGR" else (red > blue_only)
    with np.load(tmp_path / "out" / "kernels.npz") as arrays:
        np.testing.assert_array_equal(arrays["c"], w)


@pytest.mark.parametrize("text", ['{"color": "GRB"}', "not JSON"])
def test_kernels_do_not_need_a_sound_preprocessing(text):
    model = net(
        "(float[N,3,8,8] x) => (float[N,2,6,6] y) { y = Conv (x, w) }",
        {"w": np.ones((2, 3, 3, 3), np.float32)},
        metadata={"onnxviz.preprocess": text},
    )
    loaded = load(model)
    assert blue_first(loaded, loaded.layers) == []


def test_a_model_without_a_picture_input_has_kernels_too():
    text = "(float[N,3,8] x) => (float[N,2,6] y) { y = Conv (x, w) }"
    w = np.random.default_rng(4).standard_normal((2, 3, 3), np.float32)
    model = load(net(text, {"w": w}))
    np.testing.assert_array_equal(kernels(model)["y"], w)
    assert blue_first(model, model.layers) == []
