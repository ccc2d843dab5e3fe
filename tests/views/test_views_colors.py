import matplotlib
import numpy as np
import pytest

from onnxviz.errors import SelectorError
from onnxviz.views.colors import (
    DIVERGING,
    NONFINITE,
    SEQUENTIAL,
    Limits,
    limits_of,
    nonfinite,
    paint,
    suited,
    table,
)


def colors_of(name: str, *steps: int) -> list[list[int]]:
    return [[round(255 * part) for part in matplotlib.colormaps[name](step)[:3]] for step in steps]


def test_layer_limits_of_positive_data_start_at_zero():
    assert limits_of(np.array([[[2.0, 3.0]], [[5.0, 4.0]]])) == (Limits(0, 5),)


def test_layer_limits_of_signed_data_are_symmetric():
    assert limits_of(np.array([[[-7.0, 3.0]], [[5.0, 4.0]]])) == (Limits(-7, 7),)
    assert limits_of(np.array([[[-1.0, 3.0]]])) == (Limits(-3, 3),)


def test_channel_limits_are_signed_for_all_channels_when_one_is():
    values = np.array([[[0.0, 3.0]], [[-5.0, 4.0]]])
    assert limits_of(values, "channel") == (Limits(-3, 3), Limits(-5, 5))
    assert limits_of(np.abs(values), "channel") == (Limits(0, 3), Limits(0, 5))


def test_limits_ignore_what_is_not_finite():
    values = np.array([[[np.nan, 3.0], [np.inf, -np.inf]]])
    assert limits_of(values) == (Limits(0, 3),)
    assert limits_of(values, "channel") == (Limits(0, 3),)
    mean, std = 2.0, 1.0
    (pair,) = limits_of(np.array([[[1.0, 3.0, np.nan]]]), "std")
    assert (pair.low, pair.high) == (mean - 2 * std, mean + 2 * std)


def test_limits_of_integers_do_not_overflow():
    assert limits_of(np.array([[[-128, 100]]], np.int8)) == (Limits(-128, 128),)


@pytest.mark.parametrize("scale", ["", "Layer", "global"])
def test_an_unknown_scale_is_refused(scale):
    with pytest.raises(SelectorError, match="choose one of layer, channel, std"):
        limits_of(np.zeros((1, 1, 1)), scale)


def test_paint_gives_the_ends_and_the_middle_of_the_colormaps():
    low, middle, high = paint(np.array([[[-2.0, 0.0, 2.0]]]))[0, 0].tolist()
    assert [low, middle, high] == colors_of(DIVERGING, 0, 128, 255)
    assert paint(np.array([[[0.0, 4.0, 2.0]]]))[0, 0].tolist() == colors_of(SEQUENTIAL, 0, 255, 128)


def test_the_middle_of_the_diverging_map_is_light_and_its_sides_differ_in_hue():
    negative, zero, positive = table(DIVERGING)[[40, 128, 215]].astype(int)
    assert zero.min() > 235
    assert negative[2] - negative[0] > 80
    assert positive[0] - positive[2] > 80


def test_paint_uses_given_limits_and_clips_to_them():
    painted = paint(np.array([[[-9.0, 5.0, 10.0, 99.0]]]), colormap="gray", limits=Limits(0, 10))
    assert painted[0, 0, :, 0].tolist() == [0, 128, 255, 255]


def test_paint_takes_one_pair_of_limits_per_channel():
    painted = paint(np.ones((2, 1, 1)), colormap="gray", limits=[Limits(0, 1), Limits(0, 4)])
    assert painted[:, 0, 0, 0].tolist() == [255, 64]


def test_std_scale_is_chollets_formula():
    values = np.random.default_rng(0).normal(3, 5, (4, 9, 11))
    painted = paint(values, scale="std", colormap="gray")[..., 0]
    mean, std = (f(values, axis=(1, 2), keepdims=True) for f in (np.mean, np.std))
    expected = np.clip((values - mean) / std * 64 + 128, 0, 255).astype(np.uint8)
    assert np.abs(painted.astype(int) - expected).max() <= 1
    assert (painted == expected).mean() > 0.99


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e6])
def test_std_scale_gives_a_constant_channel_the_middle_colour(value):
    painted = paint(np.full((1, 7, 7), value, np.float32), scale="std", colormap="gray")
    assert np.unique(painted).tolist() == [128]


def test_std_scale_takes_rounding_of_the_mean_for_what_it_is():
    values = np.full((1, 7, 7), 0.3)
    assert values.std() > 0
    assert np.unique(paint(values, scale="std", colormap="gray")).tolist() == [128]


def test_channel_scale_gives_a_dead_channel_the_first_colour():
    painted = paint(np.stack([np.zeros((2, 2)), np.ones((2, 2))]), scale="channel", colormap="gray")
    assert painted[:, 0, 0, 0].tolist() == [0, 255]


def test_std_scale_never_shows_the_mean_as_a_zero_between_two_signs():
    values = np.array([[[-1.0, 1.0]]])
    assert suited(limits_of(values, "std"), "std") == SEQUENTIAL
    assert suited(limits_of(values)) == DIVERGING


def test_the_diverging_map_is_chosen_only_where_zero_is_its_middle():
    assert suited([Limits(-1, 1)]) == DIVERGING
    assert suited([Limits(-1, 3)]) == suited([Limits(0, 3)]) == suited([Limits(0, 0)]) == SEQUENTIAL


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_magenta_and_counted(bad):
    values = np.array([[[0.0, bad, 1.0]]], np.float32)
    painted = paint(values)
    assert painted[0, 0, 1].tolist() == list(NONFINITE)
    assert painted[0, 0, [0, 2]].tolist() == colors_of(SEQUENTIAL, 0, 255)
    assert nonfinite(values) == 1


def test_no_default_colormap_holds_the_colour_of_what_is_not_finite():
    for name in (SEQUENTIAL, DIVERGING, "inferno"):
        assert np.abs(table(name).astype(int) - NONFINITE).sum(axis=1).min() > 100


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, np.int64, np.bool_])
def test_paint_takes_any_dtype(dtype):
    painted = paint(np.array([[[0, 1]]]).astype(dtype), colormap="gray")
    assert painted[0, 0, :, 0].tolist() == [0, 255]


def test_paint_of_the_largest_numbers_keeps_their_signs():
    top = np.finfo(np.float32).max
    low, high = paint(np.array([[[-top, top]]], np.float32), colormap="gray")[0, 0, :, 0]
    assert (low, high) == (0, 255)


def test_an_unknown_colormap_is_refused_with_the_nearest_names():
    with pytest.raises(SelectorError, match="'virdis'; did you mean 'viridis'"):
        paint(np.zeros((1, 1, 1)), colormap="virdis")


def test_colormaps_of_few_colours_span_the_whole_range():
    assert table("tab10")[[0, 255]].tolist() == colors_of("tab10", 0, 9)


def test_the_table_of_a_colormap_cannot_be_spoiled():
    with pytest.raises(ValueError, match="read-only"):
        table("viridis")[0] = 0
