import math

import numpy as np
import pytest
from methods.nets import cam_net, head_net, noise, run_plainly

from onnxviz import Session, load
from onnxviz.graph.shuffle import shuffled
from onnxviz.quality.curves import deletion, insertion, road
from onnxviz.quality.drops import drops, hidden
from onnxviz.quality.faithfulness import infidelity, sensitivity_n
from onnxviz.quality.impute import imputed
from onnxviz.quality.localisation import box_mask, mass_inside, pointing_game
from onnxviz.quality.randomisation import cascade, random_logit
from onnxviz.quality.robustness import max_sensitivity
from onnxviz.quality.similarity import rank_correlation, ssim
from onnxviz.quality.sparseness import entropy, gini

NCHW, NHWC = (1, 2), (0, 1)
RNG = np.random.default_rng(0)
X = RNG.uniform(0, 1, (3, 6, 8))
W = RNG.normal(0, 1, (3, 6, 8))
ZERO = np.zeros(1)


def linear(inputs):
    """f(x) = sum w x."""
    return (inputs * W).sum(axis=(1, 2, 3))


SHARE = (W * X).sum(axis=0)


def test_deletion_and_insertion_of_a_linear_model_in_closed_form():
    """What is left after k places is the sum of all but the k largest shares; 24 steps of 2 of 48 places."""
    ordered = np.sort(SHARE.ravel())[::-1]
    left = SHARE.sum() - np.concatenate([[0], ordered.cumsum()[1::2]])
    gone = deletion(linear, X, SHARE, ZERO, NCHW, steps=24)
    np.testing.assert_allclose(gone.values, left, atol=1e-9)
    np.testing.assert_allclose(gone.shares, np.arange(25) / 24)
    assert gone.area == pytest.approx((left[:-1] + left[1:]).sum() / 2 / 24)
    come = insertion(linear, X, SHARE, ZERO, NCHW, steps=24)
    np.testing.assert_allclose(come.values, SHARE.sum() - left, atol=1e-9)


def test_no_order_deletes_faster_than_the_true_one():
    best = deletion(linear, X, SHARE, ZERO, NCHW).area
    others = [deletion(linear, X, RNG.normal(size=(6, 8)), ZERO, NCHW).area for _ in range(20)]
    assert best < min(others)
    assert deletion(linear, X, -SHARE, ZERO, NCHW).area > max(others)


@pytest.mark.parametrize("places", [NCHW, NHWC])
def test_ties_are_ranked_and_never_removed_together(places):
    seen = []

    def count(inputs):
        seen.extend((inputs == 7).sum(axis=tuple(range(1, inputs.ndim))))
        return np.zeros(len(inputs))

    x = np.zeros((3, 6, 8) if places == NCHW else (6, 8, 3))
    heat = np.zeros((6, 8))
    heat[2, 3] = 1
    deletion(count, x, heat, np.array(7.0), places, steps=48)
    assert seen == [3 * n for n in range(49)]


def test_whole_numbers_stay_whole():
    x = np.full((6, 8, 3), 200, np.uint8)
    kinds = []
    deletion(
        lambda i: kinds.append(i.dtype) or np.zeros(len(i)), x, RNG.normal(size=(6, 8)), np.array(7.0), NHWC
    )
    assert set(kinds) == {np.dtype(np.uint8)}


@pytest.mark.parametrize("places", [NCHW, NHWC])
def test_the_imputer_finds_a_ramp_again(places):
    """A linear function is the mean of its neighbours everywhere but at the edge."""
    rows, columns = np.mgrid[:8, :10]
    ramp = np.stack([2.0 * rows + columns, columns - rows, 0 * rows + 5])
    missing = np.zeros((8, 10), bool)
    missing[2:6, 3:8] = True
    x = ramp if places == NCHW else ramp.transpose(1, 2, 0)
    broken = np.where(missing if places == NCHW else missing[..., None], 99.0, x)
    np.testing.assert_allclose(imputed(broken, missing, places, noise=0), x, atol=1e-9)
    noisy = imputed(broken, missing, places, noise=0.1)
    assert np.std(
        (noisy - x)[..., 3:8][:, 2:6] if places == NCHW else (noisy - x)[2:6, 3:8]
    ) == pytest.approx(0.1 * np.ptp(broken), rel=0.2)


def test_the_imputer_solves_its_equations_at_the_edge():
    missing = RNG.uniform(size=(5, 6)) < 0.6
    missing[2, 2] = False
    x = RNG.normal(size=(1, 5, 6))
    found = imputed(x, missing, NCHW, noise=0)[0]
    for i, j in zip(*np.nonzero(missing), strict=True):
        around = [
            (1 / 6 if 0 in (a, b) else 1 / 12, found[i + a, j + b])
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
            if (a, b) != (0, 0) and 0 <= i + a < 5 and 0 <= j + b < 6
        ]
        assert found[i, j] == pytest.approx(
            np.average([v for _, v in around], weights=[w for w, _ in around])
        )
    np.testing.assert_array_equal(found[~missing], x[0][~missing])


def test_road_prefers_the_place_that_matters():
    x = RNG.uniform(0, 0.2, (1, 9, 9))
    x[0, 4, 4] = 5

    def peak(inputs):
        return inputs[:, 0, 4, 4] / 5

    heat = np.zeros((9, 9))
    heat[4, 4] = 1
    assert road(peak, x, heat, NCHW) == pytest.approx(0.5, abs=0.1)
    assert road(peak, x, -heat, NCHW) == pytest.approx(-0.5, abs=0.1)


def test_drops_by_hand():
    found = drops([(0.8, 0.2), (0.5, 0.75), (0.4, 0.4)])
    assert found.drop == pytest.approx((0.75 + 0 + 0) / 3)
    assert found.increase == pytest.approx(1 / 3)
    assert found.gain == pytest.approx((0 + 0.5 + 0) / 3)


def test_a_hidden_picture_is_multiplied_by_its_map():
    heat = RNG.uniform(0, 1, (6, 8))
    before, after = hidden(linear, X, heat, ZERO, NCHW)
    assert before == pytest.approx(SHARE.sum())
    assert after == pytest.approx((SHARE * heat).sum())


def test_sensitivity_n_of_a_linear_model_is_one_for_its_own_shares():
    assert sensitivity_n(linear, X, SHARE, ZERO, NCHW) == pytest.approx(1)
    assert sensitivity_n(linear, X, -SHARE, ZERO, NCHW) == pytest.approx(-1)
    assert abs(sensitivity_n(linear, X, RNG.normal(size=(6, 8)), ZERO, NCHW, samples=400)) < 0.5
    assert math.isnan(sensitivity_n(lambda i: np.zeros(len(i)), X, SHARE, ZERO, NCHW))


def test_infidelity_of_a_linear_model_is_zero_for_its_weights():
    assert infidelity(linear, X, W) == pytest.approx(0, abs=1e-20)
    assert infidelity(linear, X, 3 * W, scaled=True) == pytest.approx(0, abs=1e-20)
    spread = 0.01 * np.ptp(X)
    assert infidelity(linear, X, W + 1, samples=4000) == pytest.approx(X.size * spread**2, rel=0.1)


def test_max_sensitivity_of_input_times_weight():
    """Phi = w x moves by at most r |w| / |w x|, and reaches most of that over many samples."""
    weights = np.full((3, 6, 8), 2.0)
    found = max_sensitivity(lambda i: weights * i, X, radius=0.1, samples=200)
    reach = 0.1 * np.ptp(X)
    most = reach * np.sqrt(X.size) / np.linalg.norm(X)
    assert 0.5 * most < found < most
    assert max_sensitivity(lambda i: np.ones((len(i), 4)), X) == 0


def test_localisation():
    heat = np.zeros((20, 30))
    heat[5, 10], heat[15, 25] = 3, 1
    mask = box_mask((9.2, 4, 13, 8), (20, 30))
    assert np.argwhere(mask).min(axis=0).tolist() == [4, 9]
    assert np.argwhere(mask).max(axis=0).tolist() == [7, 12]
    assert pointing_game(heat, mask)
    assert mass_inside(heat, mask) == pytest.approx(0.75)
    far = box_mask((22, 4, 26, 8), (20, 30))
    assert pointing_game(heat, far, tolerance=12)
    assert not pointing_game(heat, far, tolerance=11)
    assert math.isnan(mass_inside(-heat, mask))


def test_sparseness_and_complexity_at_their_ends():
    one = np.zeros((4, 5))
    one[2, 3] = -7
    assert gini(one) == pytest.approx(1 - 1 / 20)
    assert gini(np.full((4, 5), -2.0)) == pytest.approx(0)
    assert entropy(one) == 0
    assert entropy(np.full((4, 5), -2.0)) == pytest.approx(np.log(20))
    assert gini(np.array([1.0, 3.0])) == pytest.approx(0.25)
    assert math.isnan(gini(np.zeros(3)))
    assert math.isnan(entropy(np.zeros(3)))


def test_likeness_of_maps():
    a, b = RNG.normal(size=(12, 14)), RNG.normal(size=(12, 14))
    assert ssim(a, 5 * a + 2) == pytest.approx(1)
    assert ssim(a, b) < 0.3
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert math.isnan(rank_correlation(a, np.ones((12, 14))))
    assert ssim(a[:2, :3], a[:2, :3]) == pytest.approx(1)


def test_ssim_of_one_window_by_hand():
    a, b = RNG.uniform(size=(7, 7)), RNG.uniform(size=(7, 7))
    a, b = ((m - m.min()) / np.ptp(m) for m in (a, b))
    ma, mb, cov = a.mean(), b.mean(), np.mean((a - a.mean()) * (b - b.mean()))
    centre = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (a.var() + b.var() + 9e-4))
    tiled = [np.pad(m, 3, mode="symmetric")[3:10, 3:10] for m in (a, b)]
    np.testing.assert_array_equal(tiled[0], a)
    from scipy.ndimage import uniform_filter

    at_centre = uniform_filter(a, 7)[3, 3]
    assert at_centre == pytest.approx(ma)
    assert ssim(a, b) == pytest.approx(centre, abs=0.35)


def test_the_cascade_shuffles_from_the_last_layer_to_the_first():
    model, x = load(head_net()), noise(1, 3, 8, 10)
    whole = run_plainly(head_net(), {"x": x}, ["c1", "features", "hidden"])
    steps = list(cascade(model))
    assert [layer.name for layer, _ in steps] == ["logits", "hidden", "c2", "c1"]
    names = ("c1", "features", "hidden")
    for (_, changed), stays in zip(steps, (3, 2, 1, 0), strict=True):
        kept = names[:stays]
        found = run_plainly(changed.proto(), {"x": x}, names)
        for name in names:
            assert np.array_equal(found[name], whole[name]) == (name in kept), name
        assert np.abs(found["logits"] - whole["logits"]).max() > 1e-3


def test_a_shuffled_weight_keeps_its_numbers():
    model = load(cam_net())
    [layer] = [layer for layer in model.layers if layer.name == "c2"]
    changed = shuffled(model, [layer])
    before, after = (
        [v.const_value.numpy() for v in m.ir_model.graph.initializers.values() if v.const_value.size == 270]
        for m in (model, changed)
    )
    assert any(np.array_equal(np.sort(before[0].ravel()), np.sort(one.ravel())) for one in after)
    assert not any(np.array_equal(before[0], one) for one in after)
    again, other = shuffled(model, [layer]), shuffled(model, [layer], seed=1)
    x = noise(1, 3, 8, 10)
    answers = [Session(m).run({"x": x})["logits"] for m in (changed, again, other, model)]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - answers[2]).max() > 1e-4
    np.testing.assert_array_equal(answers[3], run_plainly(cam_net(), {"x": x})["logits"])


def test_weights_behind_dequantisers_and_in_constants_are_shuffled_too():
    from methods.nets import net

    text = """
        (float[N,2,4,4] x) => (float[N,3] y) {
            w = DequantizeLinear (q, scale)
            c = Conv (x, w)
            f = Flatten (c)
            v = Constant <value = float[2,3] {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> ()
            y = MatMul (f, v)
        }"""
    weights = {"q": RNG.integers(-99, 99, (2, 2, 4, 4)).astype(np.int8), "scale": np.array(0.02, np.float32)}
    model, x = load(net(text, weights)), noise(1, 2, 4, 4)
    steps = list(cascade(model))
    assert [layer.name for layer, _ in steps] == ["y", "c"]
    answers = [Session(m).run({"x": x})["y"] for m in (model, *(changed for _, changed in steps))]
    assert len({answer.tobytes() for answer in answers}) == 3


def test_random_logit_is_one_where_the_class_does_not_matter():
    maps = RNG.normal(size=(5, 9, 9))
    assert random_logit(lambda _: maps[0], 2, 5) == pytest.approx(1)
    assert random_logit(lambda index: maps[index], 2, 5) < 0.4
    asked = []
    random_logit(lambda index: asked.append(index) or maps[index], 2, 5, samples=9)
    assert asked[0] == 2
    assert sorted(asked[1:]) == [0, 1, 3, 4]
