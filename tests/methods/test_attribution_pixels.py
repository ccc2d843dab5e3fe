import numpy as np
import pytest
from methods.nets import cam_net, head_net, net, noise

import onnxviz
from onnxviz import Session, explain, samples
from onnxviz.errors import SelectorError
from onnxviz.views.heatmaps import resample

SQUARE = """
    (float[N,3,6,8] x) => (float[N,2] logits) {
        s = Mul (x, x)
        f = Flatten (s)
        logits = MatMul (f, w)
    }"""
W = np.random.default_rng(2).normal(0, 1, (144, 2)).astype(np.float32)
X = noise(3, 3, 6, 8)
PREPROCESS = {"scale": 0.01, "mean": [0.2, 0.4, 0.5], "std": [0.5, 0.25, 0.2]}


def square_net():
    return net(SQUARE, {"w": W})


def weights(target):
    return W[:, target].astype(np.float64).reshape(3, 6, 8)


def close(found, expected, rtol=1e-4):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def noisy(x, samples, level, seed):
    spread = level * (x.max() - x.min())
    return (x + np.random.default_rng(seed).standard_normal((samples, *x.shape)) * spread).astype(np.float32)


def test_gradients_of_a_quadratic_form():
    close(explain(square_net(), X, "gradient", 1).raw, 2 * weights(1) * X)
    close(explain(square_net(), X, "input-x-gradient", 1).raw, 2 * weights(1) * X * X)


@pytest.mark.parametrize(
    ("method", "statistic"),
    [
        ("smoothgrad", lambda g: g.mean(axis=0)),
        ("squaregrad", lambda g: (g**2).mean(axis=0)),
        ("vargrad", lambda g: g.var(axis=0)),
    ],
)
def test_sampled_gradients_are_statistics_over_noisy_pictures(method, statistic):
    found = explain(square_net(), X, method, 0, samples=19, level=0.3, seed=4)
    for n, x in enumerate(X):
        close(found.raw[n], statistic(2 * weights(0) * noisy(x, 19, 0.3, 4).astype(np.float64)))


def test_smoothgrad_takes_any_method():
    found = explain(head_net(), noise(1, 3, 8, 10), "smoothgrad", 1, "features", base="hires-cam", samples=5)
    x = noisy(noise(1, 3, 8, 10)[0], 5, 0.15, 0)
    close(found.raw[0], explain(head_net(), x, "hires-cam", 1, "features").raw.mean(axis=0))
    assert found.layer == "features"


def test_noise_is_the_same_for_each_picture_whatever_else_is_asked():
    alone = explain(square_net(), X[2:], "smoothgrad", 1, samples=5, seed=9)
    close(explain(square_net(), X, "smoothgrad", 1, samples=5, seed=9).raw[2], alone.raw[0])
    other = explain(square_net(), X[2:], "smoothgrad", 1, samples=5, seed=10)
    assert np.abs(other.raw - alone.raw).max() > 1e-2


def test_integrated_gradients_of_a_cubic_are_exact_with_two_points():
    text = SQUARE.replace("s = Mul (x, x)", "q = Mul (x, x) s = Mul (q, x)")
    model = net(text, {"w": W})
    found = explain(model, X, "integrated-gradients", 1, steps=2, baseline="zero")
    close(found.raw, weights(1) * X.astype(np.float64) ** 3)
    for n, one in enumerate(found.evidence):
        assert one.checks["difference"] == pytest.approx(
            (weights(1) * X[n].astype(np.float64) ** 3).sum(), rel=1e-4
        )
        assert one.checks["delta"] < 1e-3 * np.abs(found.raw[n]).sum()
    with_one = explain(model, X, "integrated-gradients", 1, steps=1, baseline="zero")
    assert with_one.evidence[0].checks["delta"] > 0.1


@pytest.mark.parametrize(
    ("color", "rgb"), [("black", (0, 0, 0)), ("#ff8000", (255, 128, 0)), ("white", (255, 255, 255))]
)
def test_baselines_are_colours_pushed_through_the_preprocessing(color, rgb):
    picture = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    mean, std = (np.array(PREPROCESS[key])[:, None, None] for key in ("mean", "std"))
    x, start = (((p * 0.01) - mean) / std for p in (picture.transpose(2, 0, 1), np.array(rgb)[:, None, None]))
    found = explain(
        square_net(), picture, "integrated-gradients", 0, baseline=color, preprocess=PREPROCESS, steps=3
    )
    close(found.raw[0], weights(0) * (x - start) * (x + start))


def test_the_mean_of_the_picture_as_a_baseline():
    found = explain(square_net(), X, "integrated-gradients", 0, baseline="mean", steps=3)
    start = X.mean(axis=(2, 3), keepdims=True)
    close(found.raw, weights(0) * (X - start) * (X + start))


def test_a_baseline_that_is_no_colour():
    with pytest.raises(SelectorError, match="no baseline 'blakc'; give a colour"):
        explain(square_net(), X, "integrated-gradients", 0, baseline="blakc")


def test_expected_gradients_take_each_baseline_in_turn():
    found = explain(square_net(), X, "expected-gradients", 1, samples=6, background="zero, mean", seed=3)
    draws = np.random.default_rng(3).random(6)
    for n, x in enumerate(X.astype(np.float64)):
        starts = (np.zeros_like(x), np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape))
        terms = [
            2 * weights(1) * (start + (stratum + draw) / 3 * (x - start)) * (x - start)
            for start, own in zip(starts, (draws[::2], draws[1::2]), strict=True)
            for stratum, draw in enumerate(own)
        ]
        close(found.raw[n], np.mean(terms, axis=0))


def test_expected_gradients_approach_completeness():
    deltas = [
        np.mean(
            [
                one.checks["delta"]
                for one in explain(square_net(), X, "expected-gradients", 0, samples=n).evidence
            ]
        )
        for n in (6, 600)
    ]
    assert deltas[1] < deltas[0] / 10


def test_guided_grad_cam_is_the_product_of_both():
    x = noise(2, 3, 8, 10)
    guided = explain(head_net(), x, "guided-backprop", 1).raw
    coarse = explain(head_net(), x, "grad-cam", 1, "features").raw
    found = explain(head_net(), x, "guided-grad-cam", 1, "features")
    wide = np.stack([resample(np.maximum(one, 0), (8, 10)) for one in coarse])
    close(found.raw, guided * wide[:, None])
    assert "sanity check" in found.manifest["warnings"][-1]


def test_forgrad_keeps_slow_waves_and_drops_fast_ones():
    rows, columns = np.mgrid[:12, :16]
    slow, fast = np.cos(2 * np.pi * columns / 16), np.cos(2 * np.pi * (columns * 5 / 16 + rows * 4 / 12))
    w = np.stack([slow + fast, fast, slow]).reshape(-1, 1).repeat(2, axis=1).astype(np.float32)
    model = net(SQUARE.replace("6,8", "12,16").replace("s = Mul (x, x)", "s = Identity (x)"), {"w": w})
    found = explain(model, noise(1, 3, 12, 16), "forgrad", 0, cutoff=0.1)
    np.testing.assert_allclose(found.raw[0], np.stack([slow, 0 * slow, slow]), atol=1e-5)


@pytest.mark.parametrize("rules", ["lrp-epsilon", "lrp-z-plus", "lrp-epsilon-plus"])
def test_relevance_hands_down_the_score_of_the_target(rules):
    x = noise(2, 3, 8, 10)
    model = onnxviz.gradient(cam_net(), of="logits", wrt="x", rules=rules)
    found = explain(cam_net(), x, rules, [1, 3])
    seed = np.zeros((2, 4), np.float32)
    seed[0, 1], seed[1, 3] = found.score
    close(found.raw, Session(model).run({"x": x, "logits_grad": seed})["x_grad"])
    for one, raw in zip(found.evidence, found.raw, strict=True):
        assert one.checks["sum"] == pytest.approx(raw.sum(), rel=1e-4)
        assert one.checks["difference"] == pytest.approx(one.score)


def test_the_box_rule_takes_black_and_white_for_its_bounds():
    from onnxviz.autodiff.lrp import lrp_z_box

    picture = np.random.default_rng(1).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    found = explain(cam_net(), picture, "lrp-z-box", 1, preprocess=PREPROCESS)
    mean, std = (np.array(PREPROCESS[key])[:, None, None] for key in ("mean", "std"))
    low, high = ((np.float64(p) * 0.01 - mean) / std for p in (0, 255))
    model = onnxviz.gradient(cam_net(), of="logits", wrt="x", rules=lrp_z_box(low[None], high[None]))
    x = ((picture.transpose(2, 0, 1) * 0.01 - mean) / std)[None].astype(np.float32)
    seed = np.zeros((1, 4), np.float32)
    seed[0, 1] = found.score[0]
    close(found.raw, Session(model).run({"x": x, "logits_grad": seed})["x_grad"])


def test_maps_that_share_the_score_out_are_summed_and_others_show_their_magnitude():
    x = X[:1].copy()
    share = explain(square_net(), x, "input-x-gradient", 0)
    plane = share.raw[0].sum(axis=0)
    expected = np.minimum(np.maximum(plane, 0) / np.percentile(np.maximum(plane, 0), 99), 1)
    np.testing.assert_allclose(share.heatmap[0], expected, atol=1e-5)
    size = np.abs(explain(square_net(), x, "gradient", 0).raw[0]).max(axis=0)
    shown = explain(square_net(), x, "gradient", 0).heatmap[0]
    np.testing.assert_allclose(shown, np.minimum(size / np.percentile(size, 99), 1), atol=1e-5)


def test_settings_are_checked():
    with pytest.raises(SelectorError, match="smoothgrad has no setting 'sample'; did you mean 'samples'"):
        explain(square_net(), X, "smoothgrad", 0, sample=3)
    with pytest.raises(SelectorError, match="cannot read samples='many'; it takes a whole number"):
        explain(square_net(), X, "smoothgrad", 0, samples="many")
    with pytest.raises(
        SelectorError, match="cannot read steps=0; it takes a whole number from 1 on, such as 50"
    ):
        explain(square_net(), X, "integrated-gradients", 0, steps=0)
    with pytest.raises(SelectorError, match="gradient has no setting 'samples'; there are: none"):
        explain(square_net(), X, "gradient", 0, samples=3)
    with pytest.raises(SelectorError, match="smoothgrad cannot be its own base"):
        explain(square_net(), X, "smoothgrad", 0, base="smoothgrad")


def test_explain_reports_how_far_the_sum_is_from_the_difference():
    found = explain(samples.sample_model(), samples.sample_picture(), "deeplift", baseline="grey")
    [one] = found.evidence
    assert one.checks["sum"] == pytest.approx(found.raw.sum(), rel=1e-4)
    assert one.checks["delta"] < 1e-4 * abs(one.checks["difference"])
    assert abs(one.checks["difference"]) > 1
    assert found.manifest["rules"] == "deeplift"


def test_deeplift_of_a_linear_model_is_input_times_gradient():
    text = "(float[N,3,6,8] x) => (float[N,2] y) { f = Flatten (x) y = MatMul (f, w) }"
    model = net(text, {"w": W})
    found = explain(model, X, "deeplift", 1, baseline="zero")
    close(found.raw, explain(model, X, "input-x-gradient", 1).raw)


def test_deeplift_says_which_operator_has_no_rule():
    text = "(float[N,3,6,8] x) => (float[N,2] y) { l = LRN <size = 3> (x) f = Flatten (l) y = MatMul (f, w) }"
    found = explain(net(text, {"w": W}), X, "deeplift", 1)
    note = "there is no rescale rule for LRN: its gradient stands for it, and the sum may be amiss"
    assert note in found.manifest["warnings"]
