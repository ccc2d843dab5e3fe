import sys
from subprocess import run

import numpy as np
import pytest

from onnxviz.errors import SelectorError, ShapeError
from onnxviz.views.colors import BACKGROUND, DIVERGING, HEAT, NONFINITE, SEQUENTIAL, Limits, table
from onnxviz.views.figures import compare_grid, feature_grid, joined, remarks, spanned, strip
from onnxviz.views.kernels import kernel_grid
from onnxviz.views.photographs import PHOTO, channels_on_picture, empty_map, explanation
from onnxviz.views.text import BAR_HEIGHT, MARGIN, caption

RNG = np.random.default_rng(5)
PICTURE = np.full((240, 320, 3), (90, 120, 60), np.uint8)


def count_of(image, color):
    return int(np.count_nonzero((image == np.asarray(color)).all(axis=2)))


def notes_of(monkeypatch, module, draw, *args, **kwargs):
    """The note that a figure hands to its caption."""
    notes = []

    def spy(image, title, note=""):
        notes.append(note)
        return caption(image, title, note)

    monkeypatch.setattr(f"onnxviz.views.{module}.caption", spy)
    draw(*args, **kwargs)
    return notes[0]


def test_feature_grid_paints_the_value_of_each_cell():
    maps = np.zeros((2, 4, 4))
    maps[1, 2, 3] = 8.0
    page = feature_grid(maps, [4, 9], "title")
    bright, dark = (count_of(page, table(SEQUENTIAL)[step]) for step in (255, 0))
    # Each end of the colour bar is one pixel wide.
    assert (bright, dark) == (40 * 40 + BAR_HEIGHT, 31 * 40 * 40 + BAR_HEIGHT)


def test_feature_grid_of_signed_maps_has_a_light_zero():
    maps = np.zeros((1, 5, 5))
    maps[0, 0, 0], maps[0, 4, 4] = -1, 1
    page = feature_grid(maps, [0], "title")
    assert count_of(page, table(DIVERGING)[128]) > 20 * count_of(page, table(DIVERGING)[255]) > 0


def test_feature_grid_with_a_scale_per_channel_has_no_colour_bar():
    maps = RNG.uniform(size=(4, 6, 6))
    assert (
        feature_grid(maps, range(4), "t").shape[0]
        > feature_grid(maps, range(4), "t", limits=[Limits(0, 1)] * 4).shape[0]
    )


def test_feature_grid_uses_the_colormap_and_limits_given():
    page = feature_grid(np.ones((1, 3, 3)), [0], "t", colormap="Reds", limits=Limits(0, 1))
    assert count_of(page, table("Reds")[255]) > 100 * 100


def test_feature_grid_says_what_is_broken_or_dead(monkeypatch):
    maps = np.ones((3, 2, 2))
    maps[0, 0, 0], maps[2] = np.nan, 0
    note = notes_of(monkeypatch, "figures", feature_grid, maps, range(3), "t", "mine", scale="channel")
    assert note == (
        "mine · each channel on its own scale, up to its own maximum · "
        "1 of 12 values are not finite (magenta) · 1 of 3 channels are zero everywhere"
    )


def test_feature_grid_shows_what_is_not_finite_in_magenta():
    maps = np.ones((1, 4, 4))
    maps[0, 1, 1] = np.inf
    page = feature_grid(maps, [0], "t")
    assert count_of(page, NONFINITE) == 40 * 40


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((4, 4), [0]), ((2, 3, 3), [0]), ((0, 3, 3), []), ((1, 1, 3, 3), [0]), ((1, 0, 3), [0])],
)
def test_feature_grid_refuses_what_is_no_stack_of_channels(shape, channels):
    with pytest.raises(ShapeError, match="one number per channel"):
        feature_grid(np.zeros(shape), channels, "t")


def test_feature_grid_refuses_an_unknown_colormap():
    with pytest.raises(SelectorError, match="no colormap 'sunset'"):
        feature_grid(np.zeros((1, 2, 2)), [0], "t", colormap="sunset")


def test_compare_grid_has_one_pair_of_limits_for_all_pictures():
    weak, strong = np.full((1, 6, 6), 1.0), np.full((1, 6, 6), 4.0)
    page = compare_grid([("closed", weak), ("open", strong)], [3], "t")
    assert count_of(page, table(SEQUENTIAL)[64]) > 100 * 100
    assert count_of(page, table(SEQUENTIAL)[255]) > 100 * 100


def test_compare_grid_shares_the_limits_of_each_channel():
    one, two = np.full((2, 6, 6), 1.0), np.full((2, 6, 6), 2.0)
    two[1] = 4.0
    page = compare_grid([("a", one), ("b", two)], [0, 1], "t", scale="channel")
    for step in (64, 128, 255):
        assert count_of(page, table(SEQUENTIAL)[step]) > 100 * 100


def test_compare_grid_says_which_picture_is_broken(monkeypatch):
    bad = np.full((1, 2, 2), np.nan)
    note = notes_of(monkeypatch, "figures", compare_grid, [("a", bad), ("b", np.ones((1, 3, 3)))], [0], "t")
    assert note == "a: 4 of 4 values are not finite (magenta)"


def test_strip_shows_each_layer_in_its_own_limits():
    page = strip([("small", np.full((3, 3), 0.1)), ("large", np.full((90, 90), 70.0))], "t")
    assert count_of(page, table(SEQUENTIAL)[255]) == 2 * 144 * 144


def test_strip_makes_a_line_thick_enough_to_see():
    page = strip([("audio", np.ones((1, 400)))], "t")
    assert count_of(page, table(SEQUENTIAL)[255]) == 18 * 144


def test_kernels_of_three_inputs_are_colours_around_mid_grey():
    weights = np.zeros((2, 3, 1, 1))
    weights[0, :, 0, 0] = (0.2, 0, -0.1)
    page = kernel_grid(weights, "t")
    assert count_of(page, (255, 128, 64)) == 160 * 160
    # The grey edges of letters come on top.
    assert 160 * 160 <= count_of(page, (128, 128, 128)) < 160 * 160 + 100


def test_kernels_of_three_inputs_show_what_is_not_finite():
    weights = np.ones((1, 3, 1, 2))
    weights[0, 1, 0, 0] = np.nan
    assert count_of(kernel_grid(weights, "t"), NONFINITE) == 80 * 80


def test_other_kernels_are_a_row_per_filter_and_a_column_per_input():
    weights = np.full((2, 4, 1, 1), -1.0)
    weights[0, 2] = 1.0
    page = kernel_grid(weights, "t")
    hot = np.argwhere((page == table(DIVERGING)[255]).all(axis=2))
    cold = np.argwhere((page == table(DIVERGING)[0]).all(axis=2))
    hot, cold = (points[points[:, 0] < page.shape[0] - 50] for points in (hot, cold))
    assert len(cold) == 7 * len(hot) > 0
    assert hot[:, 0].max() < cold[:, 0].max()
    assert cold[:, 1].min() < hot[:, 1].min() < hot[:, 1].max() < cold[:, 1].max()


def test_kernels_announce_what_they_leave_out(monkeypatch):
    def note(shape):
        return notes_of(monkeypatch, "kernels", kernel_grid, np.ones(shape, np.float32), "t")

    grid = "a row for each filter, a column for each input"
    assert note((512, 256, 1, 1)) == f"first 32 of 512 filters, first 32 of 256 inputs · {grid}"
    assert note((8, 64, 1, 1)) == f"first 32 of 64 inputs · {grid}"
    assert note((8, 64, 4, 1, 1)) == f"first 8 of 64 inputs · {grid}"
    assert note((8, 8, 3)) == grid
    assert note((2000, 1, 1, 1)) == "first 1024 of 2000 filters"
    assert note((2000, 3, 1, 1)).startswith("first 1024 of 2000 filters · inputs as red, green, blue")


def test_kernels_of_one_dimension_and_three_inputs_are_not_colours(monkeypatch):
    note = notes_of(monkeypatch, "kernels", kernel_grid, np.ones((8, 3, 5)), "t")
    assert note == "a row for each filter, a column for each input"


def test_depth_slices_stand_side_by_side():
    weights = np.zeros((1, 1, 2, 1, 1))
    weights[0, 0, 0], weights[0, 0, 1] = -1, 1
    page = kernel_grid(weights, "t")
    first, second = (np.argwhere((page[:-50] == table(DIVERGING)[step]).all(axis=2)) for step in (0, 255))
    assert len(first) == len(second) > 0
    assert first[:, 1].max() + 2 == second[:, 1].min()
    assert first[:, 0].tolist() == second[:, 0].tolist()


def test_kernels_say_how_many_filters_are_dead(monkeypatch):
    weights = np.ones((4, 1, 3, 3))
    weights[:2] = 0
    assert notes_of(monkeypatch, "kernels", kernel_grid, weights, "t") == "2 of 4 filters are zero everywhere"


@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 1, 1, 1, 1), (0, 3, 3, 3)])
def test_kernels_of_another_rank_are_refused(shape):
    with pytest.raises(ShapeError, match="kernels need weights"):
        kernel_grid(np.zeros(shape), "t")


def test_channels_on_picture_lay_each_sign_over_the_picture_in_its_hue():
    maps = np.zeros((2, 2, 2))
    maps[1, 0, 0], maps[1, 1, 1] = -1, 1
    page = channels_on_picture(PICTURE, maps, [7, 8], (0, 0, 320, 240), "t", alpha=1.0)
    height, width = 195, 260
    bottom = page.shape[0] - MARGIN
    row = page[bottom - height : bottom].astype(int)
    photo, cells, hues = (row[:, left : left + width] for left in range(MARGIN, 3 * width, width + 4))
    assert np.unique(photo.reshape(-1, 3), axis=0).tolist() == [[90, 120, 60]]
    assert cells[10, 10].tolist() == table(DIVERGING)[0].tolist()
    assert cells[-10, -10].tolist() == table(DIVERGING)[255].tolist()
    assert cells[10, -10].tolist() == table(DIVERGING)[128].tolist()
    assert hues[0, 0, 2] - hues[0, 0, 0] > 80
    assert hues[-1, -1, 0] - hues[-1, -1, 2] > 80
    assert hues[0, -1].tolist() == [90, 120, 60]


def test_channels_on_picture_keep_to_the_box():
    page = channels_on_picture(PICTURE, np.ones((2, 2, 2)), [7, 8], (80, 0, 240, 240), "t")
    assert count_of(page, table(SEQUENTIAL)[255]) == 2 * 195 * 130
    assert 2 * 195 * 130 <= count_of(page, BACKGROUND) < 2 * 195 * 130 + 100


def test_explanation_shows_picture_overlay_and_heat():
    heatmap = np.zeros((240, 320), np.float32)
    heatmap[:, 160:] = 1
    page = explanation(PICTURE, heatmap, "t", alpha=1.0)
    half = 240 * 160
    assert count_of(page, (90, 120, 60)) == 3 * half
    assert count_of(page, table(HEAT)[255]) == 2 * half
    assert count_of(page, table(HEAT)[0]) == half


def test_explanation_writes_its_lines_under_the_pictures():
    heatmap = np.ones((240, 320), np.float32)
    bare = explanation(PICTURE, heatmap, "t")
    page = explanation(PICTURE, heatmap, "t", ["1  tabby  0.51", "2  lynx  0.02"])
    added = page[bare.shape[0] - MARGIN :]
    assert np.array_equal(page[: bare.shape[0] - MARGIN], bare[:-MARGIN])
    rows = (added < 128).any(axis=(1, 2)).astype(int)
    assert np.count_nonzero(np.diff(rows) == 1) >= 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0.0, "it is zero everywhere"), (np.nan, "76800 of its 76800 values are not finite")],
)
def test_an_empty_heatmap_is_never_painted(value, reason):
    page = explanation(PICTURE, np.full((240, 320), value), "title", ["1  tabby  0.51"], "note")
    assert np.array_equal(page, empty_map(PICTURE, reason, "title", ["1  tabby  0.51"], "note"))
    assert count_of(page, table(HEAT)[0]) == count_of(page, NONFINITE) == 0
    assert count_of(page, (90, 120, 60)) == 240 * 320


def test_empty_map_writes_the_reason_beside_the_photograph():
    page = empty_map(PICTURE, "the score does not depend on the layer", "t")
    beside = page[MARGIN + 30 : -MARGIN, MARGIN + 320 + 12 :]
    assert (beside < 100).any()
    assert beside.shape[1] == PHOTO + MARGIN


@pytest.mark.parametrize("size", [(1, 1), (8, 5), (3000, 40), (33, 2500)])
def test_pictures_of_any_size_can_be_explained(size):
    picture = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    page = explanation(picture, np.ones(size, np.float32), "t", ["x" * 500])
    assert (page[:, :MARGIN] == 255).all()
    assert (page[:, -MARGIN:] == 255).all()
    assert 160 <= max(page.shape) <= 4000


@pytest.mark.parametrize(
    ("low", "high", "text"), [(-2, 2, "±2"), (0, 5, "0 … 5"), (-1, 3, "-1 … 3"), (0, 0, "0 … 0")]
)
def test_limits_in_short(low, high, text):
    assert spanned(Limits(low, high)) == text


def test_remarks_count_and_say_nothing_when_all_is_well():
    assert remarks(np.ones((3, 2))) == []
    assert remarks(np.zeros((1, 2))) == ["zero everywhere"]
    assert joined("", "a", "", "b") == "a · b"


def test_drawing_never_imports_pyplot():
    code = """
import sys, onnxviz.views.photographs, onnxviz.views.kernels, onnxviz.views.files
sys.exit("matplotlib.pyplot" in sys.modules or "matplotlib.figure" in sys.modules)
"""
    assert run([sys.executable, "-c", code], check=False).returncode == 0
