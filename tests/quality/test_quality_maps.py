import math

import numpy as np
import pytest

from onnxviz.errors import ShapeError
from onnxviz.quality.localisation import box_mask, mass_inside, pointing_game
from onnxviz.quality.similarity import rank_correlation, ssim
from onnxviz.quality.sparseness import entropy, gini
from onnxviz.quality.table import METRICS

BOX = box_mask((9.2, 4, 13, 8), (20, 30))


def peaks():
    heat = np.zeros((20, 30))
    heat[5, 10], heat[15, 25] = 3, 1
    return heat


def test_a_box_holds_the_places_whose_centres_it_holds():
    assert np.argwhere(BOX).min(axis=0).tolist() == [4, 9]
    assert np.argwhere(BOX).max(axis=0).tolist() == [7, 12]
    assert BOX.sum() == 16


def test_localisation():
    heat, far = peaks(), box_mask((22, 4, 26, 8), (20, 30))
    assert pointing_game(heat, BOX, tolerance=0) == 1
    assert mass_inside(heat, BOX) == pytest.approx(0.75)
    assert mass_inside(heat - 9 * far, BOX) == pytest.approx(0.75)
    assert pointing_game(heat, far, tolerance=12) == 1
    assert pointing_game(heat, far, tolerance=11) == 0


def test_a_flat_map_points_as_well_as_chance():
    assert pointing_game(np.ones((20, 30)), BOX, tolerance=0) == pytest.approx(16 / 600)
    two = peaks()
    two[15, 25] = 3
    assert pointing_game(two, BOX, tolerance=0) == 0.5


def test_localisation_is_not_a_number_where_there_is_nothing_to_find_or_to_see():
    nothing = box_mask((9.6, 4, 10.4, 8), (20, 30))
    assert not nothing.any()
    for heat, mask in ((peaks(), nothing), (np.full((20, 30), np.nan), BOX)):
        assert math.isnan(pointing_game(heat, mask))
        assert math.isnan(mass_inside(heat, mask))
    assert math.isnan(mass_inside(-peaks(), BOX))
    with pytest.raises(ShapeError, match="not of one picture"):
        pointing_game(peaks(), BOX.T)


def test_sparseness_and_complexity_at_their_ends():
    one = np.zeros((4, 5))
    one[2, 3] = -7
    assert gini(one) == pytest.approx(1 - 1 / 20)
    assert gini(np.full((4, 5), -2.0)) == pytest.approx(0)
    assert entropy(one) == 0
    assert entropy(np.full((4, 5), -2.0)) == pytest.approx(np.log(20))
    assert gini(np.array([1.0, 3.0])) == pytest.approx(0.25)
    assert entropy(np.array([1.0, 3.0])) == pytest.approx(np.log(4) - 0.75 * np.log(3))
    for values in (np.zeros(3), np.array([1.0, np.nan])):
        assert math.isnan(gini(values))
        assert math.isnan(entropy(values))


def test_gini_is_the_mean_difference_over_twice_the_mean():
    values = np.random.default_rng(0).exponential(size=37)
    differences = np.abs(values[:, None] - values[None]).mean()
    assert gini(values) == pytest.approx(differences / (2 * values.mean()))


def pair(height, width):
    rng = np.random.default_rng(1)
    return rng.normal(size=(height, width)), rng.normal(size=(height, width))


def test_likeness_of_maps():
    a, b = pair(12, 14)
    assert ssim(a, 5 * a + 2) == pytest.approx(1)
    assert ssim(a, b) < 0.3
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert math.isnan(rank_correlation(a, np.ones((12, 14))))
    assert ssim(a[:2, :3], a[:2, :3]) == pytest.approx(1)
    assert math.isnan(ssim(a, np.where(b > 0, np.nan, b)))
    assert math.isnan(rank_correlation(a, np.where(b > 0, np.nan, b)))


def test_rank_correlation_gives_ties_their_mean_rank():
    a, b = np.array([[0, 0, 1, 2]]), np.array([[3, 5, 4, 9]])
    ranks = np.corrcoef([1.5, 1.5, 3, 4], [1, 3, 2, 4])[0, 1]
    assert rank_correlation(a, b) == pytest.approx(ranks)


@pytest.mark.parametrize(("size", "window"), [((12, 14), 7), ((9, 8), 3), ((5, 6), 5)])
def test_ssim_is_the_mean_over_all_windows(size, window):
    a, b = ((m - m.min()) / np.ptp(m) for m in pair(*size))
    half = window // 2
    wide_a, wide_b = (np.pad(m, half, mode="symmetric") for m in (a, b))
    values = []
    for i in range(size[0]):
        for j in range(size[1]):
            p, q = (m[i : i + window, j : j + window] for m in (wide_a, wide_b))
            cov = np.mean((p - p.mean()) * (q - q.mean()))
            alike = (2 * p.mean() * q.mean() + 1e-4) * (2 * cov + 9e-4)
            values.append(alike / ((p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (p.var() + q.var() + 9e-4)))
    assert ssim(*pair(*size), window=window) == pytest.approx(np.mean(values))


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.better in ("higher", "lower")
        assert metric.definition
        assert "arXiv:" in metric.citation
        first = (metric.function.__doc__ or "").splitlines()[0]
        assert first.endswith(".")
