import itertools
import math

import numpy as np
import pytest
from methods.nets import net, noise

from onnxviz import explain
from onnxviz.errors import DependencyError, SelectorError
from onnxviz.extras import required
from onnxviz.methods.attribution.rise import random_masks
from onnxviz.methods.explain import explain_each
from onnxviz.methods.query import ask
from onnxviz.vision.images import seen

LINEAR = """
    (float[N,3,6,8] x) => (float[N,2] logits) {
        f = Flatten (x)
        logits = MatMul (f, w)
    }"""
# Sums over the six squares of a 2 x 3 grid, then a product, a square and a maximum of them.
GAME = """
    (float[N,1,4,6] x) => (float[N,1] y) {
        six = AveragePool <kernel_shape = [2,2], strides = [2,2]> (x)
        f = Flatten (six)
        a = MatMul (f, w)
        first, second, third = Split <axis = 1, num_outputs = 3> (a)
        p = Mul (first, second)
        t = Relu (third)
        s = Add (p, t)
        y = Add (s, first)
    }"""
W = np.random.default_rng(2).normal(0, 1, (144, 2)).astype(np.float32)
X = noise(3, 3, 6, 8)
GRID = {"segmentation": "grid", "baseline": "zero"}


def linear_net():
    return net(LINEAR, {"w": W})


def weights(target):
    return W[:, target].astype(np.float64).reshape(3, 6, 8)


def game_net():
    return net(GAME, {"w": np.random.default_rng(4).normal(0, 1, (6, 3)).astype(np.float32)})


def game(x):
    """The value of `GAME` for a picture, in float64."""
    a = x.astype(np.float64).reshape(2, 2, 3, 2).mean(axis=(1, 3)).ravel() @ np.random.default_rng(4).normal(
        0, 1, (6, 3)
    ).astype(np.float32).astype(np.float64)
    return a[0] * a[1] + max(a[2], 0) + a[0]


def shapley_values(x):
    """By definition: the mean over all orders of what each square adds."""

    def value(members):
        mask = np.array([n in members for n in range(6)], float).reshape(2, 3)
        return game(x * np.kron(mask, np.ones((2, 2))))

    phi = np.zeros(6)
    for order in itertools.permutations(range(6)):
        before = set()
        for member in order:
            phi[member] += value(before | {member}) - value(before)
            before.add(member)
    return phi / math.factorial(6)


def close(found, expected, rtol=1e-4):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_occlusion_of_a_linear_model_is_a_mean_of_window_sums():
    found = explain(linear_net(), X, "occlusion", 1, window=3, stride=2, baseline="zero")
    for n, x in enumerate(X.astype(np.float64)):
        share = (weights(1) * x).sum(axis=0)
        total, count = np.zeros((6, 8)), np.zeros((6, 8))
        for top in (0, 2, 4):
            for left in (0, 2, 4, 6):
                place = np.s_[top : top + 3, left : left + 3]
                total[place] += share[place].sum()
                count[place] += 1
        close(found.raw[n], total / count)
    assert found.manifest["gradient"] == ["none"]
    assert found.manifest["rules"] is None


def test_occlusion_by_shares_and_a_colour():
    picture = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    found = explain(
        linear_net(), picture, "occlusion", 0, window=0.5, stride=0.5, baseline="white", preprocess="unit"
    )
    share = (weights(0) * (picture.transpose(2, 0, 1) / 255 - 1)).sum(axis=0)
    close(found.raw[0], np.kron(share.reshape(2, 3, 2, 4).sum(axis=(1, 3)), np.ones((3, 4))))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_integer_inputs_of_any_layout_and_a_fixed_batch(layout):
    shape = "1,3,6,8" if layout == "NCHW" else "1,6,8,3"
    text = (
        LINEAR.replace("float[N,3,6,8]", f"uint8[{shape}]")
        .replace("f = Flatten (x)", "c = Cast <to = 1> (x) f = Flatten (c)")
        .replace("[N,2]", "[1,2]")
    )
    picture = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    found = explain(
        net(text, {"w": W}), [picture, picture[::-1]], "occlusion", 1, window=2, stride=2, baseline="grey"
    )
    for n, one in enumerate((picture, picture[::-1])):
        laid = one.transpose(2, 0, 1) if layout == "NCHW" else one
        share = W[:, 1].astype(np.float64).reshape(laid.shape) * (laid.astype(np.float64) - 128)
        plane = share.sum(axis=0 if layout == "NCHW" else 2)
        close(found.raw[n], np.kron(plane.reshape(3, 2, 4, 2).sum(axis=(1, 3)), np.ones((2, 2))))


@pytest.mark.parametrize(("window", "stride"), [(9, 20), (8, 9)])
def test_one_window_over_everything_needs_no_stride(window, stride):
    found = explain(linear_net(), X[:1], "occlusion", 1, window=window, stride=stride, baseline="zero")
    close(found.raw[0], np.full((6, 8), (weights(1) * X[0]).sum()))


def test_other_inputs_of_the_model_stay_as_they_are():
    text = (
        LINEAR.replace("x) =>", "x, float[N,2] gain) =>").replace("logits = MatMul (f, w)", "").rstrip("} \n")
    )
    model = net(text + " plain = MatMul (f, w) logits = Mul (plain, gain) }", {"w": W})
    gain = np.array([[2, 3]], np.float32)
    found = explain(
        model, X[:1], "occlusion", 1, inputs={"gain": gain}, window=2, stride=2, baseline="zero", batch=3
    )
    share = 3 * (weights(1) * X[0]).sum(axis=0)
    close(found.raw[0], np.kron(share.reshape(3, 2, 4, 2).sum(axis=(1, 3)), np.ones((2, 2))))


def test_rise_weighs_its_masks_by_the_probability_under_them():
    found = explain(linear_net(), X[:1], "rise", 1, samples=40, cells=3, p=0.4, baseline="zero", seed=5)
    [masks] = random_masks((6, 8), [40], 3, 0.4, 5)
    values = (X[:1, None] * masks[:, None]).reshape(1, 40, 3, 6, 8)
    logits = (values[0].reshape(40, -1).astype(np.float64)) @ W.astype(np.float64)
    chances = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    close(found.raw[0], np.einsum("n,nhw->hw", chances, masks) / (40 * 0.4))


def test_the_masks_of_rise_keep_the_share_that_they_should():
    masks = np.concatenate(list(random_masks((30, 45), [100] * 8, 7, 0.3, 0)))
    assert masks.shape == (800, 30, 45)
    assert masks.mean() == pytest.approx(0.3, abs=0.01)
    assert masks.mean(axis=0) == pytest.approx(0.3, abs=0.07)
    assert masks.min() == 0
    assert masks.max() == 1
    assert (np.diff(masks, axis=2) != 0).mean() > 0.3  # no two alike along a row: enlarged smoothly


def enlargement(length, cells):
    """[offset, pixel, cell] of RISE: bilinear from `cells` to (cells + 1) cells' lengths, then a crop."""
    cell = math.ceil(length / cells)
    wide = (cells + 1) * cell
    at = np.clip((np.arange(wide) + 0.5) * cells / wide - 0.5, 0, cells - 1)
    matrix = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))
    return np.stack([matrix[offset : offset + length] for offset in range(cell)])


def test_the_expectation_of_rise_for_a_linear_score():
    """E = (1 / p) sum_k g_k E[m_k m_i], and E[m_k m_i] = p^2 + p (1 - p) mean over crops of W_k . W_i."""
    p, down, across = 0.4, enlargement(6, 3), enlargement(8, 3)
    gain = (weights(1) * X[0]).sum(axis=0)
    alike = [np.einsum("okc,oic->ki", one, one) / len(one) for one in (down, across)]
    both = p**2 + p * (1 - p) * np.einsum("ai,bj->abij", *alike)
    expected = np.einsum("ab,abij->ij", gain, both) / p
    found = explain(linear_net(), X[:1], "rise", "logits[0,1]", samples=16000, cells=3, p=p, baseline="zero")
    [masks] = random_masks((6, 8), [2000], 3, p, 1)
    spread = (np.einsum("nhw,hw->n", masks, gain)[:, None, None] * masks / p).std(axis=0)
    assert (np.abs(found.raw[0] - expected) < 4 * spread / 16000**0.5).all()


def test_rise_finds_the_share_under_which_the_value_varies_most():
    """A model that answers only where nearly everything is there: a small share would tell it nothing."""
    text = """
        (float[N,1,6,6] x) => (float[N,2] logits) {
            m = GlobalAveragePool (x)
            f = Flatten (m)
            h = Sub (f, almost)
            logits = MatMul (h, w)
        }"""
    model = net(text, {"almost": np.array([0.85], np.float32), "w": np.array([[-90, 90]], np.float32)})
    x = np.ones((1, 1, 6, 6), np.float32)
    auto = explain(model, x, "rise", 1, samples=30, p=0, baseline="zero").raw
    few, many = (explain(model, x, "rise", 1, samples=30, p=p, baseline="zero").raw for p in (0.2, 0.8))
    close(auto, many)
    assert np.abs(few).max() < 0.1


def test_lime_is_a_ridge_regression():
    found = explain(linear_net(), X, "lime", 1, samples=60, pieces=12, width=0.3, alpha=0.5, **GRID)
    z = (np.random.default_rng(0).random((60, 12)) < 0.5).astype(float)
    z[0] = 1
    distance = 1 - z.sum(axis=1) / np.sqrt(np.maximum(z.sum(axis=1), 1e-12) * 12)
    k = np.exp(-(distance**2) / 0.09)
    for n, x in enumerate(X.astype(np.float64)):
        share = (weights(1) * x).sum(axis=0).reshape(3, 2, 4, 2).sum(axis=(1, 3)).ravel()
        y = z @ share
        centred, target = z - np.average(z, axis=0, weights=k), y - np.average(y, weights=k)
        phi = np.linalg.solve(centred.T @ (k[:, None] * centred) + 0.5 * np.eye(12), centred.T @ (k * target))
        close(found.raw[n], np.kron(phi.reshape(3, 4), np.ones((2, 2))), rtol=1e-3)


@pytest.mark.parametrize(
    ("method", "settings"), [("kernel-shap", {"samples": 62}), ("shapley-sampling", {"permutations": 400})]
)
def test_shapley_values_are_those_of_their_definition(method, settings):
    x = noise(2, 1, 4, 6, seed=8)
    found = explain(game_net(), x, method, 0, pieces=6, **settings, **GRID)
    for n in range(2):
        expected = np.kron(shapley_values(x[n, 0]).reshape(2, 3), np.ones((2, 2)))
        close(found.raw[n], expected, rtol=1e-4 if method == "kernel-shap" else 0.05)
        checks = found.evidence[n].checks
        assert checks["difference"] == pytest.approx(game(x[n, 0]) - game(0 * x[n, 0]), rel=1e-4)
        assert checks["delta"] < 1e-5


def test_sampled_kernel_shap_is_exact_for_none_and_all_and_for_linear_models():
    found = explain(linear_net(), X, "kernel-shap", 1, samples=40, pieces=12, **GRID)
    for n, x in enumerate(X.astype(np.float64)):
        share = (weights(1) * x).sum(axis=0).reshape(3, 2, 4, 2).sum(axis=(1, 3))
        close(found.raw[n], np.kron(share, np.ones((2, 2))), rtol=1e-3)
        assert found.evidence[n].checks["delta"] < 1e-4


def test_sobol_indices_of_a_product():
    """f = prod (1 + a_i u_i): the total indices have a closed form."""
    text = """
        (float[N,1,4,4] x) => (float[N,1] y) {
            four = AveragePool <kernel_shape = [2,2], strides = [2,2]> (x)
            f = Flatten (four)
            s = Mul (f, a)
            t = Add (s, one)
            y = ReduceProd <keepdims = 1> (t, axis)
        }"""
    a = np.array([0.2, 0.5, 1, 2])
    constants = {"a": a.astype(np.float32), "one": np.ones(1, np.float32), "axis": np.array([1])}
    found = explain(
        net(text, constants),
        np.ones((1, 1, 4, 4), np.float32),
        "sobol",
        0,
        cells=2,
        designs=1024,
        baseline="zero",
    )
    mean, square = 1 + a / 2, 1 + a + a**2 / 3
    whole = np.prod(square) - np.prod(mean**2)
    total = [(square[i] - mean[i] ** 2) * np.prod(np.delete(square, i)) / whole for i in range(4)]
    close(found.raw[0], np.kron(np.reshape(total, (2, 2)), np.ones((2, 2))), rtol=0.03)


def test_kernel_shap_of_few_coalitions_sets_no_piece_apart():
    """Of all phi with the right sum and the best fit, that nearest to equal shares."""
    found = explain(linear_net(), X[:1], "kernel-shap", 1, samples=8, pieces=12, **GRID)
    share = (weights(1) * X[0]).sum(axis=0).reshape(3, 2, 4, 2).sum(axis=(1, 3)).ravel()
    rng, sizes = np.random.default_rng(0), np.arange(1, 12)
    z = np.zeros((4, 12))
    chances = 1 / (sizes * (12 - sizes))
    for row, size in zip(z, rng.choice(sizes, 4, p=chances / chances.sum()), strict=True):
        row[rng.permutation(12)[:size]] = 1
    equal = np.full(12, share.sum() / 12)
    # Complements say the same once the sum is given, so the sum and the four are all that is known.
    known = np.vstack([z, np.ones(12)])
    phi = equal + np.linalg.pinv(known) @ (known @ (share - equal))
    close(found.raw[0], np.kron(phi.reshape(3, 4), np.ones((2, 2))), rtol=1e-3)
    assert found.evidence[0].checks["delta"] < 1e-4


@pytest.mark.parametrize("how", ["squash", "crop", "pad"])
@pytest.mark.parametrize("extent", [(60, 90), (91, 50), (9, 7)])
def test_superpixels_are_cut_from_what_the_model_sees(how, extent):
    picture = np.random.default_rng(3).integers(0, 256, (*extent, 3), dtype=np.uint8)
    text = LINEAR.replace("float[N,3,6,8]", "uint8[N,16,24,3]")
    text = text.replace("f = Flatten (x)", "c = Cast <to = 1> (x) f = Flatten (c)")
    query = ask(net(text, {"w": noise(1152, 2)}), picture, {"resize": how})
    given = query.pictures
    np.testing.assert_array_equal(seen(picture, given.boxes[0], (16, 24)), given.array[0])


@pytest.mark.parametrize("kind", ["slic", "quickshift"])
def test_superpixels_follow_the_picture(kind):
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, 24:] = 255
    text = LINEAR.replace("3,6,8", "3,32,48")
    w = np.random.default_rng(0).normal(0, 0.01, (4608, 2)).astype(np.float32)
    found = explain(
        net(text, {"w": w}), picture, "kernel-shap", 1, segmentation=kind, pieces=2, preprocess="unit"
    )
    left, right = found.raw[0, :, :24], found.raw[0, :, 24:]
    assert len(np.unique(found.raw)) >= 2
    assert not set(np.unique(left)) & set(np.unique(right))


@pytest.mark.parametrize("method", ["occlusion", "rise", "lime", "kernel-shap", "shapley-sampling", "sobol"])
def test_the_batch_and_the_other_pictures_change_nothing(method):
    settings = {
        "rise": {"samples": 20},
        "lime": {"samples": 20, **GRID},
        "sobol": {"designs": 4, "cells": 2},
    }.get(method, {} if method == "occlusion" else {**GRID, "pieces": 6})
    whole = explain(linear_net(), X, method, [0, 1, 0], **settings, batch=16).raw
    for batch in (1, 3):
        close(explain(linear_net(), X, method, [0, 1, 0], **settings, batch=batch).raw, whole, rtol=1e-5)
    close(explain(linear_net(), X[1:2], method, 1, **settings).raw[0], whole[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("occlusion", {}),
        ("rise", {"p": 0, "samples": 30}),
        ("lime", {"samples": 20, **GRID}),
        ("kernel-shap", {"samples": 20, **GRID}),
        ("shapley-sampling", {"permutations": 2, **GRID}),
        ("sobol", {"designs": 4, "cells": 2}),
    ],
)
def test_the_other_targets_of_a_picture_change_nothing(method, settings):
    """The first class answers where nearly everything is there, the second where nearly nothing is."""
    text = """
        (float[N,1,6,6] x) => (float[N,3] logits) {
            m = GlobalAveragePool (x)
            f = Flatten (m)
            h = MatMul (f, w)
            logits = Add (h, b)
        }"""
    constants = {"w": np.array([[90, -90, 0]], np.float32), "b": np.array([-76, 14, 0], np.float32)}
    query = ask(net(text, constants), np.ones((1, 1, 6, 6), np.float32))
    settings = {"baseline": "zero", **settings}
    both = explain_each(query, [(0, 0), (0, 1)], method, settings=settings).raw
    for target, found in enumerate(both):
        [alone] = explain_each(query, [(0, target)], method, settings=settings).raw
        assert alone.any()
        close(found, alone, rtol=1e-6)


def test_an_extra_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.segmentation", None)
    with pytest.raises(
        DependencyError, match=r'skimage is not installed; pip install "onnxviz\[superpixels\]"'
    ):
        required("skimage.segmentation", "superpixels")


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("occlusion", {"window": 0}, "window 0 and stride 0.1 must be above 0"),
        ("occlusion", {"window": 2, "stride": 3}, "a stride of 3 pixels leaves some that no window of 2"),
        ("rise", {"p": 1.5}, "p is 1.5; give a share"),
        ("lime", {"segmentation": "voronoi"}, "no segmentation 'voronoi'"),
        ("kernel-shap", {"samples": 1}, "samples 1 must be 2 or more"),
        (
            "shapley-sampling",
            {"permutations": 0},
            "cannot read permutations=0; it takes",
        ),
        ("sobol", {"designs": 12}, "designs 12 must be a power of 2"),
    ],
)
def test_settings_out_of_range(method, settings, said):
    with pytest.raises(SelectorError, match=said):
        explain(linear_net(), X[:1], method, 0, **settings)
