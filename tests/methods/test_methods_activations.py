import numpy as np
import onnx
import pytest
from methods.nets import cam_net, cam_weights, net, noise, run_plainly

from onnxviz import samples
from onnxviz.errors import PreprocessError, SelectorError, ShapeError
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.methods import activations as room
from onnxviz.methods.activations import activations, observe
from onnxviz.methods.channels import choose_channels
from onnxviz.methods.query import ask

X = noise(5, 3, 8, 10)


def test_activations_are_those_of_plain_onnxruntime():
    model = cam_net()
    tensors = ["c1", "r1", "c2", "features", "pooled", "flat", "logits"]
    expected = run_plainly(model, {"x": X}, tensors)
    found = activations(model, X, "all")
    assert list(found) == tensors
    for name in tensors:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


def test_every_convolution_of_the_sample_model_by_its_name():
    pixels = ask(samples.sample_model(), samples.sample_picture()).pictures.array
    nodes = [node for node in onnx.load(samples.sample_model()).graph.node if node.op_type == "Conv"]
    expected = run_plainly(samples.sample_model(), {"input": pixels}, [node.output[0] for node in nodes])
    found = activations(samples.sample_model(), samples.sample_picture())
    assert list(found) == [node.name for node in nodes]
    assert len(found) == 26
    for node in nodes:
        scale = np.abs(expected[node.output[0]]).max()
        np.testing.assert_allclose(found[node.name], expected[node.output[0]], atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("Conv", ["c1", "c2"]),
        ("first-conv", ["c1"]),
        ("last-conv", ["c2"]),
        (0, ["c1"]),
        ("3", ["features"]),
        (["logits", "c*", "c1"], ["c1", "c2", "logits"]),
    ],
)
def test_selectors_name_the_layers(selector, names):
    assert list(activations(cam_net(), X[:1], selector)) == names


@pytest.mark.parametrize("batch", [None, 1, 2, 16])
@pytest.mark.parametrize("shape", ["N,3,8,10", "1,3,8,10", "2,3,8,10", "N,3,H,W"])
def test_batches_join_in_the_order_of_the_pictures(batch, shape):
    model = cam_net(shape)
    if shape[0] != "N":
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = int(shape[0])
    found = activations(model, X, ["c1", "logits"], batch=batch)
    expected = run_plainly(cam_net(), {"x": X}, ["c1"])
    np.testing.assert_allclose(found["c1"], expected["c1"], atol=1e-6)
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-6)


def test_the_drift_of_the_outputs_is_measured_and_kept():
    seen = observe(cam_net(), X, "all")
    assert 0 <= seen.drift < 1e-5
    assert seen.manifest["output_drift"] == seen.drift
    assert not any("moved" in text for text in seen.warnings)


@pytest.mark.parametrize(("dtype", "drift"), [("float", 2e-3), ("float16", 5e-2)])
def test_outputs_that_move_by_being_watched_are_warned_of(dtype, drift, monkeypatch):
    text = f"({dtype}[N,3,4,4] x) => ({dtype}[N,3,4,4] y) {{ y = Relu (x) }}"
    monkeypatch.setattr(room, "_moved", lambda _before, _after: drift)
    seen = observe(net(text, {}), noise(1, 3, 4, 4), "all")
    assert seen.drift == drift
    assert any(f"moved the model's own outputs by {drift:.1e}" in text for text in seen.warnings)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0),
        ([1.0, -4.0], [1.1, -4.0], 0.025),
        ([0.0, 0.0], [0.5, 0.0], 0.5),
        ([np.nan, 2.0], [np.nan, 2.0], 0),
    ],
)
def test_how_far_outputs_moved(before, after, moved):
    found = room._moved({"y": np.array(before)}, {"y": np.array(after)})
    assert found == pytest.approx(moved)


def test_what_is_not_finite_is_counted():
    text = "(float[N,3,4,4] x) => (float[N,3,4,4] y) { y = Log (x) }"
    seen = observe(net(text, {}), np.array([-1.0, 0, 1] * 16, np.float32).reshape(1, 3, 4, 4), "all")
    assert "layer 'y': 32 of 48 values are NaN or infinite" in seen.warnings


def test_a_guessed_preprocessing_is_a_warning():
    assert any(text.startswith("preprocessing: guess") for text in observe(cam_net(), X).warnings)
    assert not any("guess" in text for text in observe(cam_net(), X, preprocess="unit").warnings)


def quantised(array, scale, zero, dtype=np.uint8):
    info = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero, info.min, info.max).astype(dtype)


QDQ = """
    (float[N,3,8,10] x) => (float[N,4] y) {
        q0 = QuantizeLinear (x, s0, z0)
        d0 = DequantizeLinear (q0, s0, z0)
        w = DequantizeLinear <axis = 0> (wq, ws, wz)
        c1 = Conv (d0, w)
        q1 = QuantizeLinear (c1, s1, z1)
        m1 = MaxPool <kernel_shape = [2,2]> (q1)
        d1 = DequantizeLinear (m1, s1, z1)
        g = GlobalAveragePool (d1)
        y = Flatten (g)
    }
"""


def quantised_weights():
    rng = np.random.default_rng(7)
    return {
        "wq": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "ws": np.array([0.004, 0.001, 0.003, 0.002], np.float32),
        "wz": np.zeros(4, np.int8),
        "s0": np.float32(0.02),
        "z0": np.uint8(120),
        "s1": np.float32(0.03),
        "z1": np.uint8(131),
    }


def test_tensors_of_a_qdq_model_are_given_in_floats():
    model, parts = net(QDQ, quantised_weights()), quantised_weights()
    expected = run_plainly(model, {"x": X}, ["q0", "d0", "c1", "q1", "m1"])
    found = activations(model, X, ["q0", "d0", "c1", "q1", "m1"])
    for name, scale, zero in (("q0", "s0", "z0"), ("q1", "s1", "z1"), ("m1", "s1", "z1")):
        exact = (expected[name].astype(np.float64) - float(parts[zero])) * float(parts[scale])
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], exact, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(found["q0"], found["d0"], atol=1e-6)
    # onnxruntime may fuse the convolution with its quantisers: within a step of them.
    np.testing.assert_allclose(found["c1"], expected["c1"], atol=0.03)


QLINEAR = """
    (float[N,3,8,10] x) => (float[N,4,6,8] y) {
        q0 = QuantizeLinear (x, s0, z0)
        c1 = QLinearConv (q0, s0, z0, wq, ws, wz, s1, z1)
        y = DequantizeLinear (c1, s1, z1)
    }
"""


def test_a_quantised_convolution_is_a_convolution_and_dequantised():
    model, parts = net(QLINEAR, quantised_weights()), quantised_weights()
    expected = run_plainly(model, {"x": X}, ["c1"])
    found = activations(model, X)
    assert list(found) == ["c1"]
    exact = (expected["c1"].astype(np.float64) - 131) * float(parts["s1"])
    assert expected["c1"].dtype == np.uint8
    np.testing.assert_allclose(found["c1"], exact, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["c1"], expected["y"], atol=1e-6)


SCALED = """
    (float[N,3,8,10] x, float[N,3,1,1] gain, float shift) => (float[N,3,8,10] y) {
        s = Mul (x, gain) y = Add (s, shift)
    }
"""


def test_other_inputs_are_given_by_name():
    gain, shift = noise(5, 3, 1, 1, seed=2), np.float32(0.5)
    found = activations(net(SCALED, {}), X, ["s", "y"], inputs={"gain": gain, "shift": shift})
    np.testing.assert_allclose(found["s"], X * gain, rtol=1e-6)
    np.testing.assert_allclose(found["y"], X * gain + 0.5, rtol=1e-5, atol=1e-6)


def test_an_input_for_one_picture_serves_every_picture():
    gain = noise(1, 3, 1, 1, seed=2)
    found = activations(net(SCALED, {}), X, "s", inputs={"gain": gain, "shift": np.float32(0)})
    np.testing.assert_allclose(found["s"], X * gain, rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"gain": np.ones((5, 3, 1, 1), np.float32)}, SelectorError, "also needs 'shift'.*--input"),
        ({}, SelectorError, "also needs 'gain', 'shift'"),
        ({"gian": np.ones(1)}, SelectorError, "no input 'gian' in this model; it takes x float32"),
        ({"gain": np.ones((5, 3), np.float32), "shift": np.float32(0)}, ShapeError, "'gain' is"),
        (
            {"gain": np.ones((3, 3, 1, 1), np.float32), "shift": np.float32(0)},
            ShapeError,
            "3 rows for 5 pictures",
        ),
        ({"gain": np.ones((5, 3, 1, 1), np.float32), "shift": np.int64(0)}, ShapeError, "takes float32"),
    ],
)
def test_other_inputs_that_do_not_fit_are_refused(inputs, error, message):
    with pytest.raises(error, match=message):
        activations(net(SCALED, {}), X, "s", inputs=inputs)


FIXED = (
    "(float[1,3,8,10] x) => (float[1,6,8,10] y) { c1 = Conv <pads = [1,1,1,1]> (x, w1, b1) y = Relu (c1) }"
)


def test_a_fully_convolutional_model_takes_another_size():
    model = net(FIXED, {name: cam_weights()[name] for name in ("w1", "b1")})
    x = noise(2, 3, 20, 14)
    found = activations(model, x, "c1", size=(20, 14))
    expected = run_plainly(cam_net("N,3,H,W"), {"x": x}, ["c1"])
    assert found["c1"].shape == (2, 6, 20, 14)
    np.testing.assert_allclose(found["c1"], expected["c1"], atol=1e-6)


def test_the_sample_model_takes_its_picture_at_another_size():
    seen = observe(samples.sample_model(), samples.sample_picture(), "conv10", size=(120, 180))
    free = onnx.load(samples.sample_model())
    for axis in (2, 3):
        free.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size_{axis}"
    [conv10] = [node.output[0] for node in free.graph.node if node.name == "conv10"]
    assert seen.pictures.array.shape == (1, 3, 120, 180)
    expected = run_plainly(free, {"input": seen.pictures.array}, [conv10])[conv10]
    np.testing.assert_allclose(seen.arrays["conv10"], expected, atol=1e-4)
    assert seen.manifest["preprocess"]["size"] == [120, 180]


def test_a_model_with_a_linear_head_refuses_another_size_in_words():
    text = """
        (float[1,3,8,10] x) => (float[1,4] y) {
            c1 = Conv <pads = [1,1,1,1]> (x, w1, b1) f = Flatten (c1) y = Gemm <transB = 1> (f, head)
        }
    """
    weights = {name: cam_weights()[name] for name in ("w1", "b1")}
    model = net(text, {**weights, "head": np.ones((4, 480), np.float32)})
    assert activations(model, X[:1], "c1")["c1"].shape == (1, 6, 8, 10)
    with pytest.raises(ShapeError, match=r"cannot be run at size 16x12, as its graph may fix its own.*Gemm"):
        activations(model, noise(1, 3, 16, 12), "c1", size=(16, 12))


def test_a_model_that_reshapes_to_fixed_sizes_refuses_another_size_in_words():
    text = """
        (float[1,3,8,10] x) => (float[1,80,3] y) {
            t = Transpose <perm = [0,2,3,1]> (x) r = Reshape (t, to) y = Relu (r)
        }
    """
    model = net(text, {"to": np.array([1, 80, 3])})
    with pytest.raises(ShapeError, match="cannot be run at size 16x12"):
        activations(model, noise(1, 3, 16, 12), "t", size=(16, 12))


def test_a_preprocessing_of_another_size_than_the_graph_is_refused():
    model = net(FIXED, {name: cam_weights()[name] for name in ("w1", "b1")})
    with pytest.raises(PreprocessError, match=r"size is \[16, 16\]"):
        activations(model, np.zeros((9, 9, 3), np.uint8), preprocess={"size": [16, 16]})


def a_layer(shape, grid, channel):
    return Layer(0, "layer", "layer", "Conv", None, shape, 0, 0, None, grid, channel)


def test_maps_of_a_layer_with_two_axes_of_places():
    array = noise(2, 3, 4, 5)
    np.testing.assert_array_equal(as_maps(array, a_layer(array.shape, (2, 3), 1)), array)
    moved = array.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(as_maps(moved, a_layer(moved.shape, (1, 2), 3)), array)
    swapped = array.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(
        as_maps(swapped, a_layer(swapped.shape, (1, 3), 2)), array.transpose(0, 1, 3, 2)
    )


def test_maps_of_a_layer_with_one_axis_of_places_are_rows():
    array = noise(2, 3, 7)
    np.testing.assert_array_equal(as_maps(array, a_layer(array.shape, (2,), 1)), array[:, :, None, :])


def test_maps_of_a_layer_with_three_axes_of_places_are_slices_side_by_side():
    array = noise(2, 3, 4, 5, 6)
    maps = as_maps(array, a_layer(array.shape, (2, 3, 4), 1))
    assert maps.shape == (2, 3, 5, 24)
    for depth in range(4):
        np.testing.assert_array_equal(maps[..., 6 * depth : 6 * depth + 6], array[:, :, depth])


@pytest.mark.parametrize(("grid", "channel"), [((), 1), ((), None), ((2, 3), None)])
def test_a_layer_without_maps_has_cells(grid, channel):
    array = noise(2, 3, 4, 5)
    maps = as_maps(array, a_layer(array.shape, grid, channel))
    np.testing.assert_array_equal(maps, array.reshape(2, 60, 1, 1))


def test_an_observation_gives_the_maps_of_its_layers():
    seen = observe(cam_net(), X, ["c1", "logits"])
    by_name = {layer.name: layer for layer in seen.layers}
    np.testing.assert_array_equal(seen.maps(by_name["c1"]), seen.arrays["c1"])
    np.testing.assert_array_equal(seen.maps(by_name["logits"]), seen.arrays["logits"].reshape(5, 4, 1, 1))
    assert seen.pictures.names == tuple(f"picture-{n}" for n in range(5))
    assert seen.manifest["layer"] == ["c1", "logits"]
    assert seen.manifest["device"] == "cpu" or seen.manifest["device"].startswith("cuda")


def some_maps():
    """Twelve channels whose largest magnitudes grow, apart from 3, the largest, which is negative."""
    maps = np.zeros((2, 12, 2, 2), np.float32)
    maps[0, :, 1, 0] = np.arange(12)
    maps[1, 3, 0, 0] = -50
    maps[1, 5, 0, 0] = np.nan
    return maps


@pytest.mark.parametrize(
    ("spec", "channels"),
    [
        ("all", list(range(12))),
        (" ALL ", list(range(12))),
        ("0,3,8-10", [0, 3, 8, 9, 10]),
        ("7, 2 ,7", [7, 2]),
        ("4-4", [4]),
        ("strongest:3", [3, 11, 10]),
        ("Strongest:1", [3]),
        ("strongest:99", [3, 11, 10, 9, 8, 7, 6, 5, 4, 2, 1, 0]),
        ("strongest", [3, 11, 10, 9, 8, 7, 6, 5, 4, 2, 1, 0]),
    ],
)
def test_channels_by_number_range_or_strength(spec, channels):
    assert choose_channels(spec, some_maps(), "conv1") == channels


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("12", "no channel 12 in layer 'conv1': it has channels 0 to 11"),
        ("3,8-99", "no channel 99"),
        ("8-3", "run backwards; write 3-8"),
        ("-1", "cannot read channels '-1'"),
        ("", "cannot read channels ''"),
        ("1,,2", "cannot read channels"),
        ("one", "cannot read channels 'one'"),
        ("1.5", "cannot read channels"),
        ("strongest:", "cannot read channels"),
        ("strongest:-1", "cannot read channels"),
        ("strongest:0", "cannot read channels 'strongest:0'"),
        ("²", "cannot read channels"),
        ("weakest:3", "cannot read channels"),
    ],
)
def test_channels_that_do_not_exist_are_refused(spec, message):
    with pytest.raises(SelectorError, match=message):
        choose_channels(spec, some_maps(), "conv1")


def test_a_layer_that_does_not_exist_is_refused_with_a_suggestion():
    with pytest.raises(SelectorError, match="did you mean 'features'"):
        activations(cam_net(), X, "feature")


def test_an_operator_that_lays_pictures_out_anew_keeps_them_apart():
    text = """
        (float[1,3,8,10] x) => (float[80,3] y) {
            t = Transpose <perm = [0,2,3,1]> (x) y = Reshape (t, rows)
        }
    """
    model = net(text, {"rows": np.array([80, 3])})
    for x in (X[:1], X[:2]):
        seen = observe(model, x, ["t", "y"])
        moved = x.transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(seen.arrays["t"], moved)
        np.testing.assert_array_equal(seen.arrays["y"], moved.reshape(-1, 80, 3))
        np.testing.assert_array_equal(seen.maps(seen.layers[1]), moved.reshape(-1, 240, 1, 1))


def test_one_number_for_the_whole_batch_is_told_for_each_picture():
    text = "(float[N,3,8,10] x) => (float y) { t = Relu (x) y = ReduceMax <keepdims = 0> (t) }"
    found = activations(net(text, {}), X, "y")
    np.testing.assert_array_equal(found["y"], X.max(axis=(1, 2, 3)))
