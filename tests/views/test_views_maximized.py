import numpy as np
import pytest

from onnxviz.views.maximized import curves, on_white, picture_grid
from onnxviz.views.text import INK


def images(count=4, side=100):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def where(sheet, tile):
    """Where a tile lies in a sheet, row and column; None where it does not."""
    height, width = tile.shape[:2]
    firsts = np.argwhere((sheet[: -height + 1, : -width + 1] == tile[0, 0]).all(axis=-1))
    for row, column in firsts:
        if (sheet[row : row + height, column : column + width] == tile).all():
            return int(row), int(column)
    return None


def test_pictures_lie_on_the_sheet_in_order():
    given = images()
    sheet = picture_grid(given, ["a", "b", "c", "d"], "title", columns=2)
    places = [where(sheet, np.repeat(np.repeat(one, 2, axis=0), 2, axis=1)) for one in given]
    if places[0] is None:
        places = [where(sheet, one) for one in given]
    assert None not in places
    rows, columns = zip(*places, strict=True)
    assert rows[0] == rows[1] < rows[2] == rows[3]
    assert columns[0] == columns[2] < columns[1] == columns[3]


def test_what_never_woke_is_hatched_and_not_drawn():
    given = images(2)
    drawn = picture_grid(given, ["a", "b"], "title")
    asleep = picture_grid(given, ["a", "b"], "title", awake=[True, False])
    assert drawn.shape == asleep.shape
    changed = np.argwhere((drawn != asleep).any(axis=-1))
    middle = drawn.shape[1] // 2
    assert changed[:, 1].min() > 0.3 * middle  # the first tile is as it was
    tile = asleep[changed[:, 0].min() : changed[:, 0].max(), changed[:, 1].min() : changed[:, 1].max()]
    assert {236, 248} <= set(np.unique(tile))
    assert given[1].std() > 3 * tile.std()


def test_large_pictures_are_averaged_to_fit(monkeypatch):
    monkeypatch.setattr("onnxviz.views.maximized.MOST_SIDE", 400)
    given = np.zeros((4, 360, 360, 3), np.uint8)
    given[:, ::2] = 200
    sheet = picture_grid(given, ["a", "b", "c", "d"], "title")
    assert len(sheet) < 2 * 360
    assert (sheet == 100).all(axis=-1).sum() >= 4 * 180 * 180


def test_opacity_lets_white_through():
    image = np.full((2, 2, 3), 100, np.uint8)
    shown = on_white(image, np.array([[0.0, 1.0], [0.5, 0.25]]))
    assert shown[..., 0].tolist() == [[255, 100], [178, 216]]


@pytest.mark.parametrize("count", [3, 80])
def test_curves_draw_a_line_for_each_or_the_range(count):
    losses = np.linspace(0, 1, 20)[None] * np.arange(1, count + 1)[:, None]
    drawn = curves(losses, [str(i) for i in range(count)], "title")
    empty = (
        curves(np.full((count, 20), np.nan), [str(i) for i in range(count)], "title") if count < 64 else None
    )
    assert drawn.ndim == 3
    dark = (drawn < 100).all(axis=-1).sum()
    assert dark > 200  # words and axes
    if empty is not None:
        assert (drawn != empty).any()
    assert INK
