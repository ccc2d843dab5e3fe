import numpy as np
import pytest
from PIL import Image

from onnxviz.views.layout import beside, fit, panel, panels, resize, stack

RED, BLUE = (
    np.full((*size, 3), color, np.uint8) for size, color in (((4, 3), (200, 0, 0)), ((2, 5), (0, 0, 200)))
)


def test_beside_aligns_the_upper_edges_on_white():
    sheet = beside([RED, BLUE], gap=2)
    assert sheet.shape == (4, 10, 3)
    assert np.array_equal(sheet[:, :3], RED)
    assert np.array_equal(sheet[:2, 5:], BLUE)
    assert (sheet[:, 3:5] == 255).all()
    assert (sheet[2:, 5:] == 255).all()


def test_stack_aligns_the_left_edges_on_white():
    sheet = stack([RED, BLUE], gap=1)
    assert sheet.shape == (7, 5, 3)
    assert np.array_equal(sheet[:4, :3], RED)
    assert np.array_equal(sheet[5:], BLUE)
    assert (sheet[4] == 255).all()
    assert (sheet[:4, 3:] == 255).all()


def test_panel_keeps_its_picture_and_its_width():
    image = np.full((50, 120, 3), 9, np.uint8)
    framed = panel(image, "a title that is far too long for so narrow a picture as this one, and then some")
    assert framed.shape[1] == 120
    assert np.array_equal(framed[-50:], image)
    assert (framed[:-50] < 100).any()


def test_panels_keep_their_pictures_level_under_titles_of_unequal_length():
    image = np.full((10, 90, 3), 9, np.uint8)
    sheet = panels([image, image], ["short", "a title that needs two lines"], gap=6)
    assert np.array_equal(sheet[-10:, :90], image)
    assert np.array_equal(sheet[-10:, 96:], image)


def test_resize_is_pillows_bilinear():
    picture = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    expected = Image.fromarray(picture).resize((5, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(resize(picture, (8, 5)), np.asarray(expected))


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((100, 50), (20, 10)), ((50, 100), (10, 20)), ((20, 7), (20, 7)), ((1000, 1), (20, 1))],
)
def test_fit_keeps_proportions_and_never_enlarges(size, fitted):
    assert fit(np.zeros((*size, 3), np.uint8), 20).shape[:2] == fitted
