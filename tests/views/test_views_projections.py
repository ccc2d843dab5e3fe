import numpy as np
import pytest

from onnxviz.errors import SelectorError
from onnxviz.views.colors import BACKGROUND
from onnxviz.views.projections import FRAME, UnitView, centred, projection_sheet

GREY = 128


def view(**changed):
    rng = np.random.default_rng(0)
    parts = {
        "title": "channel 3",
        "patch": rng.integers(0, 256, (7, 7, 3), np.uint8),
        "projection": rng.normal(size=(7, 7, 3)),
        "reason": "dead: no activation above 0",
        "picture": np.full((30, 40, 3), 90, np.uint8),
        "activation": np.zeros((3, 4)),
        "field": (8.0, 4.0, 24.0, 20.0),
    }
    return UnitView(**{**parts, **changed})


def test_zero_is_mid_grey_and_both_signs_are_as_far_from_it():
    values = np.array([0, 1, -1, 0.5, -0.5, 0]).reshape(1, 2, 3)
    assert centred(values).tolist() == [[[128, 255, 1], [192, 64, 128]]]
    assert (centred(np.zeros((2, 2, 3))) == GREY).all()


def test_one_strong_pixel_does_not_hide_the_others():
    values = np.full((20, 20, 3), 0.1)
    values[0, 0] = 100
    shown = centred(values)
    assert (shown[1:] == 255).all()


def test_a_dead_unit_is_words_and_no_picture_of_noise():
    alive, dead = projection_sheet([view()], "t"), projection_sheet([view(projection=None)], "t")
    assert alive.shape == dead.shape
    same = (alive == dead).all(axis=2)
    assert not same.all()
    across = np.flatnonzero(~same.all(axis=0))
    tile = dead[100, across[0] : across[-1] + 1]
    assert (tile[20:-20] == BACKGROUND).all(axis=1).mean() > 0.5


def test_the_field_is_framed_on_the_picture():
    sheet = projection_sheet([view()], "t")
    framed = (sheet == FRAME).all(axis=2)
    picture = (sheet == 90).all(axis=2)
    rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    inside = framed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    times = (columns[-1] + 1 - columns[0]) / 40
    down, across = np.nonzero(inside)
    assert down.min() == pytest.approx(4 * times, abs=1)
    assert down.max() == pytest.approx(20 * times - 1, abs=1)
    assert across.min() == pytest.approx(8 * times, abs=1)
    assert across.max() == pytest.approx(24 * times - 1, abs=1)


@pytest.mark.parametrize("count", [1, 9, 10, 40, 150])
def test_sheets_of_any_number_of_units(count):
    sheet = projection_sheet([view() for _ in range(count)], "title", "note")
    assert sheet.dtype == np.uint8
    assert max(sheet.shape) < 5000


def test_a_colormap_that_there_is_not():
    with pytest.raises(SelectorError, match="no colormap 'virids'"):
        projection_sheet([view()], "t", colormap="virids")
