"""Explanations of quantised models, beside those of the floats that they were made from."""

import numpy as np
import pytest
from methods.nets import cam_net, cam_weights, correlation, net, noise, run_plainly

from onnxviz import explain
from onnxviz.errors import ShapeError

TAIL = """
    n1 = QLinearConv <pads = [1,1,1,1]> (q, s, z, q1, sq1, i, s1, u, k1)
    n2 = QLinearConv <pads = [1,1,1,1]> (n1, s1, u, q2, sq2, i, s2, u)
    pooled = com.microsoft.QLinearGlobalAveragePool (n2, s2, u, s2, u)
    flat = Flatten (pooled)
    f = DequantizeLinear (flat, s2, u)
    logits = Gemm <transB = 1> (f, w3, b3)
"""
PICTURE = f"(float[N,3,8,10] x) => (float[N,4] logits) {{ q = QuantizeLinear (x, s, z) {TAIL} }}"
BYTES = """(uint8[N,8,10,3] bytes) => (float[N,4] logits) {
    turned = Transpose <perm = [0,3,1,2]> (bytes)
    x = DequantizeLinear (turned, s, z)
    c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2)
    features = Relu (c2)
    pooled = GlobalAveragePool (features)
    flat = Flatten (pooled)
    logits = Gemm <transB = 1> (flat, w3, b3)
}"""


def quantised_net(x, text=PICTURE):
    """The CAM net with 8-bit weights and activations; a Relu is the lower end of a range."""
    weights = cam_weights()
    seen = run_plainly(cam_net(), {"x": x}, ["r1", "features"])
    scales = {"s": np.abs(x).max() / 127, "s1": seen["r1"].max() / 255, "s2": seen["features"].max() / 255}
    for number in (1, 2):
        scales[f"sq{number}"] = np.abs(weights[f"w{number}"]).max() / 127
        weights[f"q{number}"] = np.round(weights[f"w{number}"] / scales[f"sq{number}"]).astype(np.int8)
    weights["k1"] = np.round(weights["b1"] / (scales["s"] * scales["sq1"])).astype(np.int32)
    weights |= {name: np.array(scale, np.float32) for name, scale in scales.items()}
    weights |= {"z": np.array(128, np.uint8), "u": np.array(0, np.uint8), "i": np.array(0, np.int8)}
    return net(text, {name: array for name, array in weights.items() if name in _read(text)})


def _read(text):
    return set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())


@pytest.mark.parametrize(("layer", "twin"), [(None, "features"), ("n1", "r1")])
def test_integer_layers_are_explained_as_the_floats_that_they_stand_for(layer, twin):
    x = noise(1, 3, 8, 10)
    found = explain(quantised_net(x), x, target=2, layer=layer)
    expected = explain(cam_net(), x, target=2, layer=twin)
    assert correlation(found.raw, expected.raw) > 0.99
    np.testing.assert_allclose(found.raw, expected.raw, atol=0.1 * np.abs(expected.raw).max())
    assert found.manifest["gradient"] == ["graph"]
    assert found.manifest["rules"] == "straight-through"
    assert expected.manifest["rules"] == "gradient"


def test_integers_take_no_small_steps():
    x = noise(1, 3, 8, 10)
    with pytest.raises(ShapeError, match=r"layer 'n1' holds integers.*--gradient graph"):
        explain(quantised_net(x), x, target=2, layer="n1", gradient="numeric")


@pytest.mark.parametrize("method", ["gradient", "input-x-gradient"])
def test_a_picture_of_bytes_is_explained_in_its_own_layout(method):
    """The first floats lie behind a transpose."""
    picture = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    x = (picture.astype(np.float32) - 128) * np.float32(0.02)
    model = quantised_net(noise(1, 3, 8, 10), BYTES)
    for tensor in model.graph.initializer:
        if tensor.name == "s":
            tensor.raw_data = np.float32(0.02).tobytes()
    found = explain(model, picture[None], method, target=1)
    expected = explain(cam_net(), x.transpose(2, 0, 1)[None], method, target=1)
    assert found.raw.shape == (1, 8, 10, 3)
    np.testing.assert_allclose(found.raw[0].transpose(2, 0, 1), expected.raw[0], atol=1e-5)


@pytest.mark.parametrize("clips", [False, True])
def test_score_at_the_end_of_its_range_is_explained_as_any_other(clips):
    """Twice quantised, as QDQ files do it; the second time it is moved in between."""
    text = """(float[N,3,8,10] x) => (float[N,4] scores) {
        c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
        features = Relu (c1)
        pooled = GlobalAveragePool (features)
        qp = QuantizeLinear (pooled, sp, u) p = DequantizeLinear (qp, sp, u) scores4 = Flatten (p)
        qf = QuantizeLinear (scores4, sp, u) scores = DequantizeLinear (qf, sp, u)
    }"""
    x, weights = noise(1, 3, 8, 10), cam_weights()
    pooled = run_plainly(cam_net(), {"x": x}, ["r1"])["r1"].mean(axis=(2, 3))
    strongest = int(pooled.argmax())
    step = pooled.max() / (300 if clips else 200)
    own = {
        "w1": weights["w1"],
        "b1": weights["b1"],
        "sp": np.array(step, np.float32),
        "u": np.array(0, np.uint8),
    }
    found = explain(net(text.replace("float[N,4]", f"float[N,{pooled.shape[1]}]"), own), x, target=strongest)
    assert found.manifest["rules"] == "straight-through"
    assert found.raw.max() > 0
    assert found.heatmap.any()
