import json

import numpy as np
import onnx
import pytest
from methods.nets import CAM_NET, cam_net, cam_weights, correlation, net, noise, run_plainly
from onnx import numpy_helper

from onnxviz import load, samples
from onnxviz.autodiff import ruleset
from onnxviz.errors import SelectorError, ShapeError, UnsupportedOperator
from onnxviz.methods.explain import explain, explain_each
from onnxviz.methods.heatmap import heatmap_of
from onnxviz.methods.query import ask

X = noise(5, 3, 8, 10)


@pytest.fixture(scope="module")
def squeezenet():
    return load(samples.sample_model())


@pytest.fixture(scope="module")
def conv10():
    """The last convolution's maps and the rectified ones, [1000, 14, 14], by plain onnxruntime."""
    pixels = ask(samples.sample_model(), samples.sample_picture()).pictures.array
    nodes = {node.name: node for node in onnx.load(samples.sample_model()).graph.node}
    names = [nodes[name].output[0] for name in ("conv10", "conv10_relu")]
    found = run_plainly(samples.sample_model(), {"input": pixels}, names)
    return [found[name][0] for name in names]


def closed_form(features):
    """The CAM of a network that ends in global average pooling: the class's own channel, rectified."""
    cam = np.maximum(features, 0)
    return cam / cam.max()


def by_hand(model, target, x=X):
    """sum_k W[c,k] / Z A_k of `cam_net`."""
    features = run_plainly(model, {"x": x}, ["features"])["features"].astype(np.float64)
    w3 = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w3")).astype(np.float64)
    return np.einsum("k,nkhw->nhw", w3[target], features) / features[0, 0].size


@pytest.mark.parametrize("layer", ["conv10", "conv10_relu"])
@pytest.mark.parametrize("target", [None, 281, 207])
def test_grad_cam_before_global_pooling_is_the_closed_form_cam(squeezenet, conv10, layer, target):
    found = explain(squeezenet, samples.sample_picture(), target=target, layer=layer)
    index = 285 if target is None else target
    assert found.target == (index,)
    expected = closed_form(conv10[0][index])
    np.testing.assert_allclose(closed_form(found.raw[0]), expected, atol=1e-5)
    assert found.heatmap.shape == (1, 227, 227)
    assert found.heatmap.max() == 1
    assert found.layer == layer


def test_raw_grad_cam_at_the_last_activation_is_the_class_channel_over_its_size(squeezenet, conv10):
    found = explain(squeezenet, samples.sample_picture(), layer="conv10_relu")
    np.testing.assert_allclose(found.raw[0], conv10[1][285] / conv10[1][285].size, rtol=1e-4, atol=1e-7)
    assert found.score[0] == pytest.approx(conv10[1][285].mean(), rel=1e-5)


@pytest.mark.parametrize("target", range(4))
def test_raw_map_of_a_pooled_linear_net_is_the_weighted_sum_of_its_features(target):
    model = cam_net()
    found = explain(model, X, target=target)
    assert found.layer == "features"
    np.testing.assert_allclose(found.raw, by_hand(model, target), rtol=1e-4, atol=1e-7)


def test_the_heatmap_is_the_positive_part_with_a_maximum_of_one():
    model = cam_net()
    found = explain(model, X[:1], target=2)
    raw = by_hand(model, 2)[0]
    assert raw.min() < 0 < raw.max()
    np.testing.assert_allclose(found.heatmap[0], np.maximum(raw, 0) / raw.max(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["fire2_squeeze1x1", "fire4_squeeze1x1_relu", "fire9_squeeze1x1"])
def test_finite_differences_agree_with_the_gradient_graph(squeezenet, layer):
    routes = {
        route: explain(squeezenet, samples.sample_picture(), layer=layer, gradient=route)
        for route in ("graph", "numeric")
    }
    assert correlation(routes["graph"].raw, routes["numeric"].raw) > 0.999
    for route, found in routes.items():
        assert found.manifest["gradient"] == [route]
    scale = np.abs(routes["graph"].raw).max()
    np.testing.assert_allclose(routes["numeric"].raw, routes["graph"].raw, atol=0.05 * scale)


@pytest.mark.parametrize("layer", ["c1", "r1", "c2", "features"])
def test_both_routes_agree_at_every_layer_of_a_small_net(layer):
    graph, numeric = (
        explain(cam_net(), X, target=1, layer=layer, gradient=route) for route in ("graph", "numeric")
    )
    assert correlation(graph.raw, numeric.raw) > 0.999
    np.testing.assert_allclose(graph.score, numeric.score)


SKIPS = {
    "an addition": (
        "c1 = Conv <pads = [1,1,1,1]> (x, w1, b1) r1 = Relu (c1) c2 = Conv <pads = [1,1,1,1]> (r1, w2)"
        "s = Add (c2, r1) e = Exp (s) logits = ReduceMean <keepdims = 0> (e, axes)",
        "c2",
    ),
    "a product": (
        "c1 = Conv <pads = [1,1,1,1]> (x, w1, b1) r1 = Sigmoid (c1) c2 = Conv <pads = [1,1,1,1]> (r1, w2)"
        "s = Mul (c2, r1) e = Tanh (s) logits = ReduceMean <keepdims = 0> (e, axes)",
        "c2",
    ),
    "a computed shape": (
        "c1 = Conv <pads = [1,1,1,1]> (x, w1, b1) r1 = Relu (c1) c2 = Conv <pads = [1,1,1,1]> (r1, w2)"
        "sh = Shape <end = 2> (x) one = Constant <value_ints = [-1]> () some = Slice (sh, zero, zero1)"
        "six = Constant <value_ints = [6]> () to = Concat <axis = 0> (some, six, one)"
        "t = Tanh (c2) f = Reshape (t, to) logits = ReduceMean <keepdims = 0> (f, two)",
        "c2",
    ),
    "the input itself": (
        "c1 = Conv <pads = [1,1,1,1]> (x, w1, b1) r1 = Relu (c1) c2 = Conv <pads = [1,1,1,1]> (r1, w2)"
        "xm = ReduceMean (x, channel) s = Add (c2, xm) e = Exp (s)"
        "logits = ReduceMean <keepdims = 0> (e, axes)",
        "c2",
    ),
}


@pytest.mark.parametrize("skip", SKIPS)
def test_both_routes_agree_where_a_skip_connection_crosses_the_cut(skip):
    body, layer = SKIPS[skip]
    rng = np.random.default_rng(3)
    weights = {
        "w1": rng.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32),
        "b1": rng.normal(0, 0.3, 6).astype(np.float32),
        "w2": rng.normal(0, 0.3, (6, 6, 3, 3)).astype(np.float32),
        "axes": np.array([2, 3]),
        "channel": np.array([1]),
        "two": np.array([2]),
        "zero": np.array([0]),
        "zero1": np.array([1]),
    }
    model = net(f"(float[N,3,8,10] x) => (float[N,6] logits) {{ {body} }}", weights)
    graph, numeric = (
        explain(model, X[:3], target=3, layer=layer, gradient=route) for route in ("graph", "numeric")
    )
    assert correlation(graph.raw, numeric.raw) > 0.999
    scale = np.abs(graph.raw).max()
    np.testing.assert_allclose(numeric.raw, graph.raw, atol=0.02 * scale)


def nhwc_net(tail):
    text = f"""
        (float[N,8,10,3] x) => (float[N,4] logits) {{
            nchw = Transpose <perm = [0,3,1,2]> (x)
            c1 = Conv <pads = [1,1,1,1]> (nchw, w1, b1)
            r1 = Relu (c1)
            c2 = Conv <pads = [1,1,1,1]> (r1, w2)
            {tail}
            logits = Gemm <transB = 1> (flat, w3, b3)
        }}
    """
    return net(text, {**cam_weights(), "axes": np.array([1, 2])})


def test_an_nhwc_picture_input_gives_the_map_of_its_nchw_twin():
    tail = "features = Relu (c2) pooled = GlobalAveragePool (features) flat = Flatten (pooled)"
    expected = explain(cam_net(), X, target=1)
    found = explain(nhwc_net(tail), X.transpose(0, 2, 3, 1), target=1)
    assert found.layer == "features"
    np.testing.assert_allclose(found.raw, expected.raw, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-5)


@pytest.mark.parametrize("route", ["graph", "numeric"])
def test_feature_maps_that_lie_in_nhwc_are_weighted_by_their_last_axis(route):
    tail = """
        back = Transpose <perm = [0,2,3,1]> (c2)
        features = Relu (back)
        flat = ReduceMean <keepdims = 0> (features, axes)
    """
    expected = explain(cam_net(), X, target=1)
    found = explain(nhwc_net(tail), X.transpose(0, 2, 3, 1), target=1, gradient=route)
    assert found.layer == "features"
    assert found.manifest["layer"][0]["shape"] == ["N", 8, 10, 5]
    atol = 1e-6 if route == "graph" else 1e-3
    np.testing.assert_allclose(found.raw, expected.raw, atol=atol)


@pytest.mark.parametrize("shape", ["N,3,8,10", "1,3,8,10", "2,3,8,10", "N,3,H,W", "?,3,?,?", "8,3,8,10"])
@pytest.mark.parametrize("route", ["graph", "numeric"])
def test_fixed_and_open_sizes_give_the_same_maps(shape, route):
    text = CAM_NET.format(shape=shape.replace("?,3,?,?", "A,3,B,C"))
    batch = shape.partition(",")[0]
    if batch.isdigit():
        text = text.replace("float[N,4]", f"float[{batch},4]")
    found = explain(net(text, cam_weights()), X, target=3, gradient=route)
    expected = by_hand(cam_net(), 3)
    atol = 1e-6 if route == "graph" else 2e-3 * np.abs(expected).max()
    np.testing.assert_allclose(found.raw, expected, atol=atol)
    assert found.heatmap.shape == (5, 8, 10)


def test_open_height_and_width_take_pictures_of_any_size():
    model = cam_net("N,3,H,W")
    for height, width in ((8, 10), (13, 7)):
        x = noise(2, 3, height, width)
        found = explain(model, x, target=0)
        np.testing.assert_allclose(found.raw, by_hand(model, 0, x), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("route", ["graph", "numeric"])
def test_the_batch_size_changes_nothing(batch, route):
    expected = explain(cam_net(), X, target=["top1", 0, "1 vs 2", 3, 2], gradient=route)
    found = explain(cam_net(), X, target=["top1", 0, "1 vs 2", 3, 2], gradient=route, batch=batch)
    assert found.target == expected.target
    np.testing.assert_allclose(found.raw, expected.raw, atol=1e-6 if route == "graph" else 1e-4)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)


def test_a_picture_may_be_asked_about_several_times_in_any_order():
    query = ask(cam_net(), X)
    found = explain_each(query, [(3, 1), (0, 2), (3, 0)])
    for row, (picture, target) in enumerate([(3, 1), (0, 2), (3, 0)]):
        np.testing.assert_allclose(found.raw[row], by_hand(cam_net(), target)[picture], rtol=1e-4, atol=1e-7)
        assert found.evidence[row].picture == picture


@pytest.mark.parametrize("route", ["graph", "numeric"])
def test_a_float16_model_gives_nearly_the_float32_map(route):
    text = CAM_NET.format(shape="N,3,8,10").replace("float[", "float16[")
    half = net(text, {name: array.astype(np.float16) for name, array in cam_weights().items()})
    expected = explain(cam_net(), X, target=1)
    found = explain(half, X, target=1, gradient=route)
    assert found.heatmap.dtype == np.float32
    for one, other in zip(found.raw, expected.raw, strict=True):
        # A step of 0.01 standard deviations is only a few times float16's own spacing.
        assert correlation(one, other) > (0.9999 if route == "graph" else 0.9)


INVERSE = """
    (float[N,3,8,8] x) => (float[N,4] logits)
    <float[N,5,8,8] inverse> {
        c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r1 = Relu (c1)
        features = Conv <pads = [1,1,1,1]> (r1, w2)
        square = Add (features, eye)
        inverse = com.microsoft.Inverse (square)
        pooled = ReduceMean <keepdims = 0> (inverse, axes)
        logits = Gemm <transB = 1> (pooled, w3, b3)
    }
"""


def inverse_net():
    """A net with an operator of another domain that onnxruntime runs and nothing here differentiates."""
    weights = {**cam_weights(), "eye": 60 * np.eye(8, dtype=np.float32), "axes": np.array([2, 3])}
    model = net(INVERSE, weights)
    [node] = [node for node in model.graph.node if node.op_type == "Inverse"]
    node.name = "the_inverse;of/it"
    return model


def inverse_by_hand(x, target):
    model = inverse_net()
    features = run_plainly(model, {"x": x}, ["features"])["features"].astype(np.float64)
    inverse = np.linalg.inv(features + 60 * np.eye(8)).transpose(0, 1, 3, 2)
    slopes = -inverse @ np.full((8, 8), 1 / 64) @ inverse
    weights = slopes.mean(axis=(2, 3)) * cam_weights()["w3"][target].astype(np.float64)
    return np.einsum("nk,nkhw->nhw", weights, features)


def test_an_operator_without_a_rule_is_answered_by_finite_differences():
    x = noise(3, 3, 8, 8)
    found = explain(inverse_net(), x, target=1, layer="features")
    expected = inverse_by_hand(x, 1)
    assert correlation(found.raw, expected) > 0.999
    np.testing.assert_allclose(found.raw, expected, atol=0.02 * np.abs(expected).max())
    assert found.manifest["gradient"] == ["numeric"]
    [warning] = [text for text in found.manifest["warnings"] if "finite differences" in text]
    assert "com.microsoft::Inverse" in warning
    assert warning.endswith("(node 'the_inverse;of/it')")
    assert {one.route for one in found.evidence} == {"numeric"}


def test_the_graph_route_alone_refuses_an_operator_without_a_rule():
    with pytest.raises(UnsupportedOperator) as caught:
        explain(inverse_net(), noise(1, 3, 8, 8), target=1, layer="features", gradient="graph")
    for part in ("com.microsoft::Inverse", "'the_inverse;of/it'", "--gradient numeric", "@vjp"):
        assert part in str(caught.value)


@pytest.mark.parametrize("gradient", ["auto", "graph"])
def test_a_pixel_method_refuses_an_operator_without_a_rule(gradient):
    with pytest.raises(UnsupportedOperator, match="the_inverse"):
        explain(inverse_net(), noise(1, 3, 8, 8), "gradient", target=1, gradient=gradient)


def test_a_standard_operator_without_a_rule_is_answered_by_finite_differences(monkeypatch):
    expected = explain(cam_net(), X, target=1, layer="r1")
    monkeypatch.delitem(ruleset._gradient, "GlobalAveragePool")
    found = explain(cam_net(), X, target=1, layer="r1")
    assert found.manifest["gradient"] == ["numeric"]
    assert correlation(found.raw, expected.raw) > 0.999


def test_the_numeric_route_is_for_maps_of_layers():
    with pytest.raises(SelectorError, match="leave out --gradient numeric"):
        explain(cam_net(), X, "gradient", gradient="numeric")


def pulled(weights, target=0, **keywords):
    """An explanation of `cam_net` with some of its weights replaced."""
    return explain(
        net(CAM_NET.format(shape="N,3,8,10"), {**cam_weights(), **weights}), X, target=target, **keywords
    )


@pytest.mark.parametrize("route", ["graph", "numeric"])
def test_a_map_without_anything_positive_is_reported_and_left_empty(route):
    found = pulled({"w3": -np.abs(cam_weights()["w3"])}, gradient=route)
    assert (found.raw <= 0).all()
    assert (found.raw.min(axis=(1, 2)) < 0).all()
    assert not found.heatmap.any()
    for one in found.evidence:
        assert one.empty.startswith("all weighted activations are negative")
    empties = [text for text in found.manifest["warnings"] if "empty map" in text]
    assert len(empties) == 5
    assert empties[0].startswith("picture-0, class 0: empty map: all weighted activations are negative")


def test_a_target_that_does_not_depend_on_the_layer_gives_an_empty_map_with_the_reason():
    w3 = cam_weights()["w3"]
    w3[0] = 0
    found = pulled({"w3": w3}, layer="features")
    assert not found.raw.any()
    assert not found.heatmap.any()
    assert all("zero everywhere" in one.empty for one in found.evidence)


@pytest.mark.parametrize("route", ["graph", "numeric"])
def test_nan_in_the_weights_is_reported_and_never_painted(route, tmp_path):
    w1 = cam_weights()["w1"]
    w1[0, 0, 0, 0] = np.nan
    found = pulled({"w1": w1}, gradient=route)
    assert not found.heatmap.any()
    assert all("NaN or infinite" in one.empty for one in found.evidence)
    warnings = [text for text in found.manifest["warnings"] if "NaN or infinite" in text]
    assert len(warnings) == 6
    assert warnings[0] == "output 'logits' holds values that are NaN or infinite"
    found.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        f"picture-{number}-class_0.png" for number in range(5)
    ]
    written = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert all("NaN" in one["empty"] for one in written["maps"])


def test_nan_in_the_scores_is_reported():
    b3 = cam_weights()["b3"]
    b3[2] = np.nan
    found = pulled({"b3": b3}, target="top1")
    assert 2 not in found.target
    assert np.isfinite(found.raw).all()
    assert "output 'logits' holds values that are NaN or infinite" in found.manifest["warnings"]
    assert {entry["index"]: entry["probability"] for entry in found.manifest["top5"][0]}[2] == 0


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([[0.0, 0.0]], "zero everywhere"),
        ([[-1.0, -2.5]], "strongest -2.5"),
        ([[np.nan, 1.0]], "1 of its 2 values are NaN or infinite"),
        ([[np.inf, -np.inf]], "2 of its 2 values are NaN or infinite"),
    ],
)
def test_a_heatmap_that_means_nothing_is_zeros_and_a_reason(raw, reason):
    heatmap, empty = heatmap_of(np.array(raw), (4, 4))
    assert reason in empty
    assert heatmap.dtype == np.float32
    np.testing.assert_array_equal(heatmap, np.zeros((4, 4)))


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300])
def test_a_heatmap_does_not_depend_on_the_scale_of_the_scores(scale):
    heatmap, empty = heatmap_of(np.array([[-1.0, 0.5], [1.0, 0.25]]) * scale, (2, 2))
    assert empty is None
    np.testing.assert_allclose(heatmap, [[0, 0.5], [1, 0.25]], rtol=1e-6)


def test_a_layer_without_feature_maps_is_refused_with_a_way_out():
    with pytest.raises(ShapeError, match="pixel method such as --method gradient"):
        explain(cam_net(), X, layer="logits")


def test_a_layer_that_does_not_exist_is_refused_with_a_suggestion():
    with pytest.raises(SelectorError, match="did you mean 'features'"):
        explain(cam_net(), X, layer="featurs")


def test_a_method_or_a_route_that_does_not_exist_is_refused():
    with pytest.raises(SelectorError, match="did you mean 'grad-cam'"):
        explain(cam_net(), X, "gradcam")
    with pytest.raises(SelectorError, match="graph, numeric or auto"):
        explain(cam_net(), X, gradient="exact")


PIXELS = "(float[N,3,8,10] x) => (float[N,4] y) { f = Flatten (x) y = Gemm <transB = 1> (f, w, b) }"


def test_pixel_methods_of_a_linear_net_are_its_weights():
    rng = np.random.default_rng(5)
    w, b = rng.standard_normal((4, 240), np.float32), rng.standard_normal(4, np.float32)
    model = net(PIXELS, {"w": w, "b": b})
    slopes = np.broadcast_to(w[2].reshape(1, 3, 8, 10), X.shape)
    np.testing.assert_allclose(explain(model, X, "gradient", 2).raw, slopes, rtol=1e-6)
    found = explain(model, X, "input-x-gradient", 2)
    np.testing.assert_allclose(found.raw, X * slopes, rtol=1e-6)
    np.testing.assert_allclose(found.raw.sum(axis=(1, 2, 3)) + b[2], found.score, rtol=1e-4)
    assert found.layer is None
    with pytest.raises(ShapeError, match="--method gradient"):
        explain(model, X, target=2)


@pytest.mark.parametrize("method", ["guided-backprop", "deconvnet"])
def test_guided_methods_change_the_relus_and_say_what_they_are_worth(method):
    model = cam_net()
    found = explain(model, X[:1], method, target=1)
    w = cam_weights()
    answers = run_plainly(model, {"x": X[:1]}, ["c1", "c2"])
    down = np.broadcast_to(w["w3"][1].reshape(1, 5, 1, 1) / 80, answers["c2"].shape)
    for tensor, kernel in (("c2", "w2"), ("c1", "w1")):
        open_gate = answers[tensor] > 0 if method == "guided-backprop" else True
        rectified = np.maximum(down, 0) * open_gate
        down = _convolved_back(rectified, w[kernel])
    np.testing.assert_allclose(found.raw, down, rtol=1e-4, atol=1e-6)
    assert found.manifest["rules"] == method
    assert any("sanity check" in text for text in found.manifest["warnings"])


def _convolved_back(slopes, kernel):
    """The transposed convolution of a 3x3 kernel with padding 1."""
    n, _, height, width = slopes.shape
    spread = np.zeros((n, kernel.shape[1], height + 2, width + 2))
    for i in range(3):
        for j in range(3):
            spread[:, :, i : i + height, j : j + width] += np.einsum(
                "nkhw,kc->nchw", slopes, kernel[:, :, i, j]
            )
    return spread[:, :, 1:-1, 1:-1]
