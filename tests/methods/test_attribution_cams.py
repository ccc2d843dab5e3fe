import numpy as np
import pytest
from methods.nets import (
    cam_net,
    cam_weights,
    head,
    head_gradient,
    head_net,
    head_weights,
    net,
    noise,
    run_plainly,
)

from onnxviz import explain
from onnxviz.errors import SelectorError, ShapeError, TargetError
from onnxviz.views.heatmaps import resample

X = noise(5, 3, 8, 10)
TARGETS = (0, 3, 1, 2, 3)
WEIGHTS = head_weights()


@pytest.fixture(scope="module")
def features():
    return run_plainly(head_net(), {"x": X}, ["features"])["features"].astype(np.float64)


@pytest.fixture(scope="module")
def slopes(features):
    return head_gradient(features, WEIGHTS, TARGETS)


def grad_cam(a, g):
    return np.einsum("nk,nkij->nij", g.mean(axis=(2, 3)), a)


def grad_cam_plus_plus(a, g):
    below = 2 * g**2 + a.sum(axis=(2, 3), keepdims=True) * g**3
    alpha = np.divide(g**2, below, out=np.zeros_like(g), where=g != 0)
    return np.einsum("nk,nkij->nij", (alpha * np.maximum(g, 0)).sum(axis=(2, 3)), a)


def xgrad_cam(a, g):
    total = a.sum(axis=(2, 3))
    weights = np.divide((g * a).sum(axis=(2, 3)), total, out=np.zeros_like(total), where=total != 0)
    return np.einsum("nk,nkij->nij", weights, a)


def hires_cam(a, g):
    return (a * g).sum(axis=1)


def element_wise(a, g):
    return np.maximum(a * g, 0).sum(axis=1)


def layer_cam(a, g):
    return (np.maximum(g, 0) * a).sum(axis=1)


def eigen_grad_cam(a, g):
    return eigen_cam(a * g)


def eigen_cam(a, _g=None):
    maps = []
    for one in a:
        x = one.reshape(len(one), -1).T
        centred = x - x.mean(axis=0)
        projection = centred @ np.linalg.svd(centred)[2][0]
        sign = -1 if projection @ centred.sum(axis=1) < 0 else 1
        maps.append(sign * projection.reshape(one.shape[1:]))
    return np.stack(maps)


FORMULAS = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "xgrad-cam": xgrad_cam,
    "hires-cam": hires_cam,
    "element-wise": element_wise,
    "layer-cam": layer_cam,
    "eigen-cam": eigen_cam,
    "eigen-grad-cam": eigen_grad_cam,
}


def close(found, expected, rtol=1e-4):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("method", FORMULAS)
def test_each_cam_is_its_formula(method, features, slopes):
    found = explain(head_net(), X, method, list(TARGETS), layer="features")
    close(found.raw, FORMULAS[method](features, slopes))
    assert found.manifest["gradient"] == (["none"] if method == "eigen-cam" else ["graph"])


@pytest.mark.parametrize("method", FORMULAS)
def test_each_cam_takes_half_floats_and_channels_last(method):
    text = """
        (float16[1,6,7,3] x) => (float16[1,4] logits) {
            nchw = Transpose <perm = [0,3,1,2]> (x)
            c = Conv (nchw, w1, b1)
            t = Tanh (c)
            features = Transpose <perm = [0,2,3,1]> (t)
            shape = Constant <value_ints = [1, 120]> ()
            flat = Reshape (features, shape)
            logits = MatMul (flat, w)
        }"""
    weights = cam_weights(dtype=np.float16)
    given = {name: weights[name] for name in ("w1", "b1")}
    given["w"] = np.random.default_rng(3).normal(0, 0.2, (120, 4)).astype(np.float16)
    model, x = net(text, given), noise(1, 6, 7, 3).astype(np.float16)
    a = run_plainly(model, {"x": x}, ["features"])["features"].astype(np.float64).transpose(0, 3, 1, 2)
    g = given["w"][:, 2].astype(np.float64).reshape(1, 4, 5, 6).transpose(0, 3, 1, 2)
    found = explain(model, x, method, 2, layer="features")
    close(found.raw, FORMULAS[method](a, g), rtol=2e-3)


def test_the_sign_of_eigen_cam_does_not_hang_on_that_of_the_vector():
    """A map that a singular vector of the other sign would erase: one warm blob in every channel."""
    blob = np.zeros((1, 3, 8, 10), np.float32)
    blob[:, :, 2:4, 5:8] = 1
    text = """
        (float[1,3,8,10] x) => (float[1,4] logits) {
            features = Conv (x, eye)
            m = GlobalAveragePool (features)
            f = Flatten (m)
            logits = MatMul (f, w)
        }"""
    model = net(text, {"w": np.ones((3, 4), np.float32), "eye": np.eye(3, dtype=np.float32)[..., None, None]})
    found = explain(model, blob, "eigen-cam", 0, layer="features")
    assert (found.heatmap[0, 2:4, 5:8] == 1).all()
    assert found.raw[0, 3, 6] > 0 > found.raw[0, 0, 0]


def test_cam_is_the_weights_of_the_last_layer():
    found = explain(cam_net(), X, "cam", 2)
    a = run_plainly(cam_net(), {"x": X}, ["features"])["features"]
    close(found.raw, np.einsum("k,nkij->nij", cam_weights()["w3"][2], a))


@pytest.mark.parametrize(
    ("model", "layer", "what"), [(head_net(), "features", "Sigmoid"), (cam_net(), "r1", "Conv")]
)
def test_cam_is_refused_where_something_else_lies_behind(model, layer, what):
    with pytest.raises(ShapeError, match=f"cam needs global average pooling.*{what}.*use grad-cam"):
        explain(model, X, "cam", 0, layer=layer)


def test_layer_cam_of_several_layers_is_the_largest_of_their_squashed_maps():
    one, other = (explain(head_net(), X, "layer-cam", 1, layer=layer).raw for layer in ("r1", "features"))
    found = explain(head_net(), X, "layer-cam", 1, layer=["r1", "features"], gamma=3)
    expected = [
        np.max([np.tanh(3 * resample(np.maximum(m, 0) / m.max(), (8, 10))) for m in pair], axis=0)
        for pair in zip(one, other, strict=True)
    ]
    close(found.raw, np.stack(expected))
    assert found.layer == "r1, features"


def test_refine_cam_is_the_product_over_resolutions():
    each = [explain(head_net(), X, "grad-cam++", 1, layer=layer).raw for layer in ("r1", "features")]
    found = explain(head_net(), X, "refine-cam", 1)
    expected = [
        np.prod([resample(np.maximum(m, 0) / m.max(), (8, 10)) for m in pair], axis=0)
        for pair in zip(*each, strict=True)
    ]
    assert found.layer == "r1, features"
    close(found.raw, np.stack(expected))


def test_one_layer_methods_refuse_several():
    with pytest.raises(SelectorError, match="grad-cam takes one layer, not 2"):
        explain(head_net(), X, "grad-cam", 1, layer=["r1", "features"])


def test_finer_cam_takes_the_maps_of_similar_classes_away(features):
    scores = head(features, WEIGHTS)
    found = explain(head_net(), X, "finer-cam", list(TARGETS), layer="features", similar=2, gamma=0.5)
    for n, target in enumerate(TARGETS):
        others = sorted(
            (c for c in range(4) if c != target), key=lambda c: abs(scores[n, c] - scores[n, target])
        )
        maps = {
            c: grad_cam(features[n : n + 1], head_gradient(features[n : n + 1], WEIGHTS, [c]))[0]
            for c in (target, *others[:2])
        }
        close(found.raw[n], maps[target] - 0.25 * (maps[others[0]] + maps[others[1]]))


def test_finer_cam_needs_a_class():
    with pytest.raises(TargetError, match="contrasts one class"):
        explain(head_net(), X, "finer-cam", "0 vs 1")


def test_shapley_cam_bends_the_gradient_by_half_its_change_along_the_activation(features):
    """g - H A / 2 of ReST by central differences of a gradient that is written down."""

    def slope(a, target):
        y = head(a, WEIGHTS)
        p = np.exp(y - y.max())
        p /= p.sum()
        weights = -p[0]
        weights[target] += 2
        each = np.stack([head_gradient(a, WEIGHTS, [c])[0] for c in range(4)])
        return np.einsum("c,ckij->kij", weights, each)

    found = explain(head_net(), X, "shapley-cam", list(TARGETS), layer="features")
    for n, target in enumerate(TARGETS):
        a, h = features[n : n + 1], 1e-4
        curved = (slope(a * (1 + h), target) - slope(a * (1 - h), target)) / (2 * h)
        bent = slope(a, target) - curved / 2
        assert np.abs(curved).max() > 0.1 * np.abs(bent).max()
        close(found.raw[n], np.einsum("k,kij->ij", bent.mean(axis=(1, 2)), a[0]), rtol=1e-3)


def test_full_grad_is_the_input_and_the_bias_of_every_layer():
    text = """
        (float[N,2,6,6] x) => (float[N,3] logits) {
            z = Conv <pads = [1,1,1,1]> (x, w, b)
            n = BatchNormalization (z, scale, shift, mean, var)
            r = Relu (n)
            m = GlobalAveragePool (r)
            f = Flatten (m)
            logits = Gemm (f, v, c)
        }"""
    rng = np.random.default_rng(5)
    shapes = {
        "w": (4, 2, 3, 3),
        "b": (4,),
        "scale": (4,),
        "shift": (4,),
        "mean": (4,),
        "v": (4, 3),
        "c": (3,),
    }
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["var"] = rng.uniform(0.5, 2, 4).astype(np.float32)
    model, x = net(text, weights), noise(2, 2, 6, 6)
    found = explain(model, x, "full-grad", 1)
    inner = run_plainly(model, {"x": x}, ["r"])["r"]
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    by_relu = np.where(inner > 0, w["v"][None, :, 1, None, None] / 36, 0)
    gain = (w["scale"] / np.sqrt(w["var"] + 1e-5))[:, None, None]
    by_conv = by_relu * gain
    padded = np.pad(by_conv, ((0, 0), (0, 0), (1, 1), (1, 1)))
    by_x = np.zeros(x.shape)
    for i in range(6):
        for j in range(6):
            window = padded[:, :, i : i + 3, j : j + 3][:, :, ::-1, ::-1]
            by_x[:, :, i, j] = np.einsum("nkab,kcab->nc", window, w["w"])
    shift = (w["shift"] - w["mean"] * gain[:, 0, 0])[:, None, None]

    def psi(share):
        size = np.abs(share)
        low, high = size.min(axis=(1, 2, 3), keepdims=True), size.max(axis=(1, 2, 3), keepdims=True)
        return ((size - low) / (high - low)).sum(axis=1)

    shares = [x * by_x, w["b"][:, None, None] * by_conv, shift * by_relu]
    close(found.raw, sum(psi(share) for share in shares))
    for number, one in enumerate(found.evidence):
        total = sum(share[number].sum() for share in shares) + w["c"][1]
        assert one.checks["sum"] == pytest.approx(total, rel=1e-4)
        assert one.checks["delta"] < 1e-5


def test_smooth_grad_cam_plus_plus_averages_the_powers_of_the_gradient(features):
    found = explain(head_net(), X, "smooth-grad-cam++", 1, "features", samples=7, level=0.2, seed=3)
    model = head_net()
    for n, x in enumerate(X):
        spread = 0.2 * (x.max() - x.min())
        noisy = x + np.random.default_rng(3).standard_normal((7, *x.shape)) * spread
        a = run_plainly(model, {"x": noisy.astype(np.float32)}, ["features"])["features"]
        g = head_gradient(a, WEIGHTS, [1] * 7)
        d1, d2, d3 = g.mean(0), (g**2).mean(0), (g**3).mean(0)
        below = 2 * d2 + features[n].sum(axis=(1, 2), keepdims=True) * d3
        weights = (d2 / below * np.maximum(d1, 0)).sum(axis=(1, 2))
        close(found.raw[n], np.einsum("k,kij->ij", weights, features[n]))
