import numpy as np
import pytest

from onnxviz.views import grids
from onnxviz.views.colors import BACKGROUND
from onnxviz.views.grids import columns_for, enlarge, legible, near_square, shrink, tile


@pytest.mark.parametrize(
    ("count", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (7, (2, 4)), (13, (3, 5)), (64, (8, 8)), (512, (16, 32))],
)
def test_near_square(count, shape):
    assert near_square(count) == shape


@pytest.mark.parametrize("aspect", [0.2, 1.0, 3.0])
def test_near_square_holds_every_tile_and_no_empty_row(aspect):
    for count in range(1, 200):
        rows, columns = near_square(count, aspect)
        assert rows * columns >= count > (rows - 1) * columns


def test_near_square_gives_wide_tiles_fewer_columns():
    assert near_square(16, 4.0)[1] < near_square(16, 1.0)[1] < near_square(16, 0.25)[1]


def test_enlarge_repeats_whole_pixels():
    large = enlarge(np.array([[[1, 2], [3, 4]]]), least=5)
    assert large.shape == (1, 6, 6)
    assert np.unique(large[0, :3, 3:]).tolist() == [2]
    assert np.unique(large[0, 3:, :3]).tolist() == [3]


def test_enlarge_leaves_large_maps_alone():
    maps = np.arange(50).reshape(2, 5, 5)
    assert enlarge(maps, least=5) is maps


def test_enlarge_makes_a_line_thick_enough_to_see():
    assert enlarge(np.zeros((1, 1, 400)), least=40).shape == (1, 50, 400)
    assert enlarge(np.zeros((1, 4, 1)), least=40).shape == (1, 40, 10)


def test_shrink_averages_blocks_and_the_ragged_rest():
    maps = np.arange(15.0).reshape(1, 3, 5)
    small = shrink(maps, (2, 3))
    assert small.shape == (1, 2, 3)
    assert small[0, 0].tolist() == [(0 + 1 + 5 + 6) / 4, (2 + 3 + 7 + 8) / 4, (4 + 9) / 2]
    assert small[0, 1].tolist() == [10.5, 12.5, 14.0]


def test_shrink_passes_maps_that_fit():
    maps = np.zeros((2, 3, 5), np.int8)
    assert shrink(maps, (3, 5)) is maps


def test_shrink_of_integers_does_not_wrap():
    assert shrink(np.full((1, 4, 4), 200, np.uint8), (1, 1)).tolist() == [[[200.0]]]


def test_shrink_keeps_what_is_not_finite_visible():
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, 0, 0], maps[0, 3, 2:] = np.nan, (np.inf, -np.inf)
    assert np.isfinite(shrink(maps, (2, 2)))[0].tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    "shape", [(64, 416, 416), (512, 7, 7), (3, 2000, 9000), (5000, 1, 1), (64, 1, 16000), (9, 16000, 1)]
)
def test_a_sheet_is_of_sane_size(shape):
    columns = columns_for(*shape)
    tiles = legible(np.zeros(shape, np.uint8), columns)
    rows = -(-shape[0] // columns)
    height, width = (side + grids.GUTTER for side in tiles.shape[1:])
    assert rows * (height + grids.LABEL_HEIGHT) <= grids.MOST_SIDE
    assert columns * width <= grids.MOST_SIDE
    assert max(rows * height, columns * width) >= 160


def test_few_tiles_are_drawn_larger_than_many():
    few, many = (legible(np.zeros((count, 7, 7)), columns_for(count, 7, 7)).shape[1] for count in (4, 512))
    assert few > 3 * many >= 3 * 35


def test_tile_lays_tiles_row_by_row_with_gutters():
    tiles = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)])
    sheet = tile(tiles, columns=2, gutter=1)
    assert sheet.shape == (1 + 2 * 3, 1 + 2 * 4, 3)
    assert np.unique(sheet[1:3, 1:4]).tolist() == [10]
    assert np.unique(sheet[1:3, 5:8]).tolist() == [20]
    assert np.unique(sheet[4:6, 1:4]).tolist() == [30]
    rest = np.ones(sheet.shape[:2], bool)
    rest[1:3, 1:4] = rest[1:3, 5:8] = rest[4:6, 1:4] = False
    assert np.unique(sheet[rest], axis=0).tolist() == [list(BACKGROUND)]


def test_tile_draws_labels_under_their_tiles_and_nowhere_else():
    tiles = np.zeros((3, 30, 30, 3), np.uint8)
    bare = tile(tiles, columns=2, gutter=2)
    sheet = tile(tiles, columns=2, gutter=2, labels=["0", "", "17"])
    assert sheet.shape[0] == bare.shape[0] + 2 * grids.LABEL_HEIGHT
    under = slice(32, 32 + grids.LABEL_HEIGHT)
    assert (sheet[under, 2:32] != BACKGROUND).any()
    assert (sheet[under, 34:64] == BACKGROUND).all()
    assert (sheet[2:32, 2:32] == 0).all()
    assert (sheet[47:77, 2:32] == 0).all()
    assert (sheet[:, 32:34] == BACKGROUND).all()


def test_tile_leaves_labels_out_that_do_not_fit():
    tiles = np.zeros((2, 8, 8, 3), np.uint8)
    assert np.array_equal(tile(tiles, 2, labels=["1", "1024"]), tile(tiles, 2))
