import math

import numpy as np
import pytest
from quality.linear import NCHW, NHWC, SHARE, ZERO, W, X, linear, noise_map

from onnxviz.errors import OnnxvizError, ShapeError
from onnxviz.quality.curves import deletion, insertion, road
from onnxviz.quality.drops import drops, hidden
from onnxviz.quality.impute import imputed


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
    assert come.area == pytest.approx(SHARE.sum() - gone.area)


def test_deletion_to_a_baseline_ends_at_its_value():
    base = np.random.default_rng(2).uniform(size=X.shape)
    gone = deletion(linear, X, SHARE, base, NCHW)
    assert gone.values[0] == pytest.approx((W * X).sum())
    assert gone.values[-1] == pytest.approx((W * base).sum())


def test_no_order_deletes_faster_than_the_true_one():
    best = deletion(linear, X, SHARE, ZERO, NCHW).area
    others = [deletion(linear, X, noise_map(seed), ZERO, NCHW).area for seed in range(20)]
    assert best < min(others)
    assert deletion(linear, X, -SHARE, ZERO, NCHW).area > max(others)


LAYOUTS = {
    "CHW": ((0, 1, 2), (1, 2)),
    "HWC": ((1, 2, 0), (0, 1)),
    "CWH": ((0, 2, 1), (2, 1)),
    "WHC": ((2, 1, 0), (1, 0)),
    "HCW": ((1, 0, 2), (0, 2)),
    "from behind": ((0, 1, 2), (-2, -1)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_figures(layout):
    axes, places = LAYOUTS[layout]
    w, x = W.transpose(axes), X.transpose(axes)

    def turned(inputs):
        return (inputs * w).sum(axis=(1, 2, 3))

    for curve in (deletion, insertion):
        expected = curve(linear, X, SHARE, ZERO, NCHW)
        np.testing.assert_allclose(curve(turned, x, SHARE, ZERO, places).values, expected.values, atol=1e-9)
    expected = road(linear, X, SHARE, NCHW, noise=0)
    found = road(turned, x, SHARE, places, noise=0)
    np.testing.assert_allclose(found.most_first, expected.most_first, atol=1e-9)
    np.testing.assert_allclose(found.least_first, expected.least_first, atol=1e-9)
    assert hidden(turned, x, SHARE, ZERO, places) == pytest.approx(hidden(linear, X, SHARE, ZERO, NCHW))


@pytest.mark.parametrize("batch", [1, 3, 16, 99])
def test_no_more_inputs_are_run_together_than_asked_for(batch):
    sizes = []

    def counted(inputs):
        sizes.append(len(inputs))
        return linear(inputs)

    found = deletion(counted, X, SHARE, ZERO, NCHW, batch=batch)
    assert max(sizes) == min(batch, 29)
    assert sum(sizes) == 29
    np.testing.assert_allclose(found.values, deletion(linear, X, SHARE, ZERO, NCHW).values, rtol=1e-12)


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


@pytest.mark.parametrize("rows", [slice(0, 4), slice(8, 12)])
def test_a_map_of_ties_knows_nothing_wherever_the_object_lies(rows):
    """In the order of memory a flat map would find whatever lies at the top, and miss what lies below."""
    x = np.zeros((1, 12, 12))
    x[:, rows] = 1

    def seen(inputs):
        return inputs.mean(axis=(1, 2, 3)) * 3

    flat = np.ones((12, 12))
    areas = [deletion(seen, x, flat, ZERO, NCHW, seed=seed).area for seed in range(20)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)
    combined = [road(seen, x, flat, NCHW, seed=seed).combined for seed in range(20)]
    assert abs(np.mean(combined)) < 0.05


def test_whole_numbers_stay_whole():
    x, seen = np.full((6, 8, 3), 200, np.uint8), []

    def kept(inputs):
        seen.append(inputs)
        return np.zeros(len(inputs))

    deletion(kept, x, SHARE, np.array(6.7), NHWC)
    insertion(kept, x, SHARE, np.array(6.7), NHWC)
    road(kept, x, SHARE, NHWC, noise=0)
    assert {block.dtype for block in seen} == {np.dtype(np.uint8)}
    assert set(np.unique(np.concatenate(seen))) == {7, 200}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"\(3, 3\) does not fit an input of \(3, 6, 8\)"):
        deletion(linear, X, np.ones((3, 3)), ZERO, NCHW)
    with pytest.raises(ShapeError, match="does not fit"):
        imputed(X, np.zeros((8, 6), bool), NCHW)
    with pytest.raises(ShapeError, match="one number is needed"):
        deletion(lambda inputs: linear(inputs)[:, None], X, SHARE, ZERO, NCHW)
    with pytest.raises(ShapeError, match="a row each"):
        deletion(lambda inputs: linear(inputs)[:1], X, SHARE, ZERO, NCHW)
    with pytest.raises(OnnxvizError, match="NaN"):
        road(linear, X, np.where(SHARE > 0, np.nan, SHARE), NCHW)


@pytest.mark.parametrize("places", [NCHW, NHWC])
def test_the_imputer_finds_a_ramp_again(places):
    """A linear function is the mean of its neighbours everywhere but at the edge."""
    rows, columns = np.mgrid[:8, :10]
    ramp = np.stack([2.0 * rows + columns, columns - rows, 0 * rows + 5])
    missing = np.zeros((8, 10), bool)
    missing[2:6, 3:8] = True
    x = ramp if places == NCHW else ramp.transpose(1, 2, 0)
    hole = np.broadcast_to(missing if places == NCHW else missing[..., None], x.shape)
    broken = np.where(hole, 99.0, x)
    np.testing.assert_allclose(imputed(broken, missing, places, noise=0), x, atol=1e-9)
    noisy = imputed(broken, missing, places, noise=0.1)
    assert np.std((noisy - x)[hole]) == pytest.approx(0.1 * np.ptp(broken), rel=0.2)
    np.testing.assert_array_equal(noisy[~hole], x[~hole])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_the_imputer_solves_its_equations_at_the_edge(share):
    rng = np.random.default_rng(3)
    missing = rng.uniform(size=(5, 6)) < share
    missing[2, 2] = False
    x = rng.normal(size=(1, 5, 6))
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


def test_the_imputer_without_anything_to_fill_or_to_fill_it_from():
    np.testing.assert_array_equal(imputed(X, np.zeros((6, 8), bool), NCHW), X)
    found = imputed(X, np.ones((6, 8), bool), NCHW, noise=0)
    np.testing.assert_allclose(
        found, np.broadcast_to(X.mean(axis=(1, 2), keepdims=True), X.shape), rtol=1e-12
    )


def test_road_of_the_one_place_that_matters_in_closed_form():
    """Among zeros, a peak that is removed is filled with 0, and one that is kept is the whole value."""
    x = np.zeros((1, 9, 9))
    x[0, 4, 4] = 5
    heat = np.zeros((9, 9))
    heat[4, 4] = 1

    def peak(inputs):
        return inputs[:, 0, 4, 4] / 5

    found = road(peak, x, heat, NCHW, noise=0)
    np.testing.assert_allclose(found.shares, np.arange(1, 10) / 10)
    np.testing.assert_allclose(found.most_first, np.zeros(9), atol=1e-12)
    np.testing.assert_allclose(found.least_first, np.ones(9), atol=1e-12)
    assert found.combined == pytest.approx(0.5)
    assert road(peak, x, -heat, NCHW, noise=0).combined == pytest.approx(-0.5)
    assert road(peak, x, heat, NCHW).combined == pytest.approx(0.5, abs=0.02)


def test_road_removes_as_many_places_as_said_from_either_end():
    sets = []

    def kept(inputs):
        sets.extend(inputs[:, 0] == X[0])
        return np.zeros(len(inputs))

    road(kept, X, SHARE, NCHW, shares=(0.25, 0.5), noise=0.1)
    order = np.argsort(SHARE.ravel())
    for mask, gone in zip(sets, (order[-12:], order[-24:], order[:12], order[:24]), strict=True):
        assert sorted(np.flatnonzero(~mask)) == sorted(gone)


def test_drops_by_hand():
    found = drops([(0.8, 0.2), (0.5, 0.75), (0.4, 0.4)])
    assert found.drop == pytest.approx((0.75 + 0 + 0) / 3)
    assert found.increase == pytest.approx(1 / 3)
    assert found.gain == pytest.approx((0 + 0.5 + 0) / 3)


def test_drops_at_their_ends():
    perfect = drops([(0.5, 1.0), (0.25, 1.0)])
    assert (perfect.drop, perfect.increase, perfect.gain) == (0, 1, 1)
    lost = drops([(1.0, 0.0), (1.0000001, 0.0)])
    assert (lost.drop, lost.increase, lost.gain) == (1, 0, 0)
    assert drops([(0.0, 0.0)]).drop == 0


def test_scores_that_are_no_probabilities_have_no_drop_and_no_gain():
    """A score that sinks from -3 to -9 has lost no share of itself: 0 would be the best of all figures."""
    assert math.isnan(drops([(-3.0, -9.0)]).drop)
    assert math.isnan(drops([(2.0, 3.0)]).gain)


def test_a_hidden_picture_is_multiplied_by_its_map():
    heat = np.random.default_rng(4).uniform(0, 1, (6, 8))
    before, after = hidden(linear, X, heat, ZERO, NCHW)
    assert before == pytest.approx(SHARE.sum())
    assert after == pytest.approx((SHARE * heat).sum())
