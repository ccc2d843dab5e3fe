import math

import numpy as np
import pytest
from quality.linear import NCHW, SHARE, ZERO, W, X, linear, noise_map

from onnxviz.errors import ShapeError
from onnxviz.quality.faithfulness import faithfulness_correlation, infidelity, sensitivity_n
from onnxviz.quality.robustness import max_sensitivity


def test_faithfulness_of_a_linear_model_is_one_for_its_own_shares():
    assert faithfulness_correlation(linear, X, SHARE, ZERO, NCHW) == pytest.approx(1)
    assert faithfulness_correlation(linear, X, 5 * SHARE + 2, ZERO, NCHW) == pytest.approx(1)
    assert faithfulness_correlation(linear, X, -SHARE, ZERO, NCHW) == pytest.approx(-1)


def test_sensitivity_n_is_one_for_every_n():
    found = sensitivity_n(linear, X, SHARE, ZERO, NCHW)
    np.testing.assert_allclose(found, np.ones(7))
    one = faithfulness_correlation(linear, X, noise_map(5), ZERO, NCHW, share=0.4)
    assert sensitivity_n(linear, X, noise_map(5), ZERO, NCHW, shares=(0.1, 0.4))[1] == one


def test_faithfulness_of_another_map_is_their_correlation():
    """Over many random sets of a linear model it nears the correlation of the two maps themselves."""
    other = SHARE + 0.8 * noise_map(6)
    expected = np.corrcoef(SHARE.ravel(), other.ravel())[0, 1]
    assert 0.3 < expected < 0.95
    found = faithfulness_correlation(linear, X, other, ZERO, NCHW, samples=4000)
    assert found == pytest.approx(expected, abs=0.03)


def test_faithfulness_is_not_a_number_where_nothing_changes():
    assert math.isnan(faithfulness_correlation(lambda i: np.full(len(i), 0.1), X, SHARE, ZERO, NCHW))
    assert math.isnan(faithfulness_correlation(linear, X, np.full((6, 8), 0.1), ZERO, NCHW))
    assert math.isnan(faithfulness_correlation(linear, X, SHARE, ZERO, NCHW, share=1.0))


def test_infidelity_of_a_linear_model_is_zero_for_its_weights():
    assert infidelity(linear, X, W) == pytest.approx(0, abs=1e-20)
    assert infidelity(linear, X, 3 * W, scaled=True) == pytest.approx(0, abs=1e-20)
    spread = 0.01 * np.ptp(X)
    assert infidelity(linear, X, W + 1, samples=4000) == pytest.approx(X.size * spread**2, rel=0.1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_infidelity_counts_the_change_that_the_type_could_hold(dtype):
    x = (200 * X + 55).astype(dtype)
    x.ravel()[:2] = 0, 255
    assert infidelity(linear, x, W, level=0.1) == pytest.approx(0, abs=1e-20)


def test_infidelity_needs_an_attribution_of_every_number():
    with pytest.raises(ShapeError, match=r"\(6, 8\) does not fit"):
        infidelity(linear, X, SHARE)


def test_max_sensitivity_of_input_times_weight():
    """Phi = w x moves by at most r |w| / |w x|, and by about 1 / sqrt 3 of that for any one d."""
    weights = np.full((3, 6, 8), 2.0)
    found = max_sensitivity(lambda i: weights * i, X, radius=0.1, samples=200)
    most = 0.1 * np.ptp(X) * np.sqrt(X.size) / np.linalg.norm(X)
    assert most / np.sqrt(3) < found < most
    assert max_sensitivity(lambda i: np.ones((len(i), 4)), X) == 0


def test_max_sensitivity_of_whole_numbers_stays_in_their_range():
    x = np.where(X > 0.5, 255, 0).astype(np.uint8)
    found = max_sensitivity(lambda i: i.astype(float), x, radius=0.02)
    assert 0 < found < 5.1 * np.sqrt(x.size) / np.linalg.norm(x.astype(float))


def test_max_sensitivity_keeps_a_map_that_is_not_a_number():
    maps = iter([1.0, 2.0, np.nan])
    assert math.isnan(max_sensitivity(lambda i: np.full((len(i), 2), next(maps)), X, samples=2, batch=1))


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_inputs_are_explained_and_moved_a_few_at_a_time(batch):
    sizes = []

    def counted(inputs):
        sizes.append(len(inputs))
        return inputs * W

    found = max_sensitivity(counted, X, batch=batch)
    assert max(sizes) == min(batch, 11)
    assert found == pytest.approx(max_sensitivity(lambda i: i * W, X), rel=1e-12)
    other = X + noise_map(8)
    assert infidelity(linear, X, other, batch=batch) == pytest.approx(infidelity(linear, X, other))


def test_a_range_of_nothing_moves_nothing_and_says_so():
    flat = np.full((3, 6, 8), 0.5)
    assert math.isnan(infidelity(linear, flat, W))
    assert math.isnan(max_sensitivity(lambda i: i, flat))
    assert math.isnan(max_sensitivity(lambda i: 0 * i, X))
