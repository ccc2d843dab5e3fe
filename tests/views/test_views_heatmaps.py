import numpy as np
import pytest
from PIL import Image

from onnxviz.views.colors import BACKGROUND, DIVERGING, HEAT, NONFINITE, Limits, table
from onnxviz.views.heatmaps import heat, mosaic, overlay, place, resample, signed, tint

RNG = np.random.default_rng(3)
PHOTO = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(7, 7), (31, 20), (5, 50), (3, 4), (224, 1)])
def test_resample_is_pillows_bilinear_resize_of_floats(size):
    values = RNG.normal(size=(2, 7, 9)).astype(np.float32)
    for got, plane in zip(resample(values, size), values, strict=True):
        expected = Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(got, np.asarray(expected), atol=1e-5)


def test_resample_to_the_same_size_changes_nothing():
    values = RNG.normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(resample(values, (3, 4)), values)


def test_resample_keeps_a_map_within_its_values():
    values = RNG.uniform(size=(13, 13)).astype(np.float32)
    large = resample(values, (301, 199))
    assert values.min() <= large.min()
    assert large.max() <= values.max()
    assert np.unique(resample(np.ones((3, 3)), (17, 19))).tolist() == [1.0]


def test_resample_marks_only_what_a_nan_touches():
    values = np.zeros((4, 4))
    values[0, 0] = np.nan
    large = resample(values, (8, 8))
    assert np.isnan(large[:2, :2]).all()
    assert np.isfinite(large[4:]).all()
    assert np.isfinite(large[:, 4:]).all()


def test_place_fills_the_picture_when_the_box_is_the_picture():
    heatmap = RNG.uniform(size=(6, 8)).astype(np.float32)
    placed = place(heatmap, (0, 0, 31, 23), (23, 31))
    np.testing.assert_allclose(placed, resample(heatmap, (23, 31)), atol=1e-6)


def test_place_puts_a_crop_inside_the_picture_and_zero_around_it():
    heatmap = RNG.uniform(0.1, 1, (4, 5)).astype(np.float32)
    placed = place(heatmap, (3, 2, 8, 6), (10, 12))
    assert np.array_equal(placed[2:6, 3:8], heatmap)
    placed[2:6, 3:8] = 0
    assert not placed.any()


def test_place_ends_sharply_at_the_box():
    placed = place(np.ones((2, 2), np.float32), (2, 3, 10, 11), (13, 12))
    assert np.argwhere(placed == 1).tolist() == [
        [row, column] for row in range(3, 11) for column in range(2, 10)
    ]
    assert np.count_nonzero(placed) == 64


def test_place_puts_a_marked_cell_where_it_belongs():
    heatmap = np.zeros((7, 7), np.float32)
    heatmap[1, 5] = 1
    placed = place(heatmap, (100, 50, 240, 190), (200, 300))
    row, column = np.unravel_index(placed.argmax(), placed.shape)
    assert (abs(row - (50 + 1.5 * 20)), abs(column - (100 + 5.5 * 20))) <= (1, 1)
    assert placed[row, column] > 0.9


def test_place_cuts_what_reaches_outside_the_picture():
    heatmap = RNG.uniform(size=(8, 8)).astype(np.float32)
    placed = place(heatmap, (0, -2, 8, 6), (4, 8))
    assert np.array_equal(placed, heatmap[2:6])


def test_place_follows_a_box_between_pixels():
    heatmap = np.array([[0.0, 1.0]], np.float32)
    placed = place(heatmap, (0.5, 0, 2.5, 1), (1, 4))
    np.testing.assert_allclose(placed, [[0.0, 0.5, 1.0, 0.0]])


def test_place_takes_a_stack():
    stack = RNG.uniform(size=(3, 4, 4)).astype(np.float32)
    placed = place(stack, (1, 1, 9, 9), (10, 10))
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed[2], place(stack[2], (1, 1, 9, 9), (10, 10)), atol=1e-6)


def test_mosaic_keeps_cells_sharp_inside_the_box():
    colors = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    frame = mosaic(colors, (2, 1, 6, 3), (4, 8))
    assert np.unique(frame[1:3, 2:4].reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]
    assert np.unique(frame[1:3, 4:6].reshape(-1, 3), axis=0).tolist() == [[4, 5, 6]]
    assert np.count_nonzero((frame == BACKGROUND).all(axis=2)) == 4 * 8 - 2 * 4


def test_heat_runs_over_the_whole_colormap_whatever_the_map_holds():
    assert heat(np.array([[0.0, 0.5, 1.0]]))[0].tolist() == table(HEAT)[[0, 128, 255]].tolist()
    assert heat(np.array([[0.5]]))[0].tolist() == table(HEAT)[[128]].tolist()


def test_signed_has_zero_in_the_middle():
    assert signed(np.array([[-4.0, 0.0, 1.0]]))[0].tolist() == table(DIVERGING)[[0, 128, 160]].tolist()
    assert signed(np.zeros((1, 1)))[0].tolist() == table(DIVERGING)[[128]].tolist()


def test_overlay_leaves_cold_pixels_untouched():
    heatmap = np.zeros((20, 30))
    heatmap[4, 7] = 1
    painted = overlay(PHOTO, heatmap)
    changed = (painted != PHOTO).any(axis=2)
    assert np.argwhere(changed).tolist() == [[4, 7]]


def test_overlay_is_opaque_in_proportion_to_the_heat():
    photo = np.zeros((1, 3, 3), np.uint8)
    painted = overlay(photo, np.array([[0.25, 0.5, 1.0]]), colormap="gray", alpha=0.8)[0, :, 0]
    grays = np.array([64, 128, 255])
    assert painted.tolist() == np.rint(grays * 0.8 * np.array([0.25, 0.5, 1.0])).tolist()


def test_overlay_of_full_alpha_shows_the_hottest_colour_alone():
    assert overlay(PHOTO, np.ones((20, 30)), alpha=1.0)[3, 3].tolist() == table(HEAT)[255].tolist()


def test_overlay_never_hides_what_is_not_finite():
    heatmap = np.zeros((20, 30))
    heatmap[0, 0] = np.nan
    assert overlay(PHOTO, heatmap)[0, 0].tolist() == list(NONFINITE)


def test_tint_gives_each_sign_its_hue_and_leaves_zero_alone():
    photo = np.full((1, 4, 3), 128, np.uint8)
    values = np.array([[-1.0, 0.0, 1.0, np.nan]])
    minus, zero, plus, broken = tint(photo, values, Limits(-1, 1), DIVERGING, 1.0)[0].astype(int)
    assert zero.tolist() == [128, 128, 128]
    assert minus[2] - minus[0] > 80
    assert plus[0] - plus[2] > 80
    assert broken.tolist() == list(NONFINITE)


def test_tint_in_limits_of_one_sign_shows_the_values_own_colours():
    photo = np.full((1, 2, 3), 128, np.uint8)
    weak, strong = tint(photo, np.array([[0.0, 1.0]]), Limits(0, 1), "viridis", 1.0)[0]
    assert weak.tolist() == [128, 128, 128]
    assert strong.tolist() == table("viridis")[255].tolist()


def test_tint_of_a_dead_channel_is_the_picture():
    assert np.array_equal(tint(PHOTO, np.zeros((20, 30)), Limits(0, 0), "viridis", 0.8), PHOTO)
