import numpy as np

from onnxviz.views.top import ChannelView, PageView, channel_page, top_sheet


def view(projections=True, count=4):
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
    down = [rng.normal(size=(16, 16, 3)).astype(np.float32) for _ in range(count)] if projections else None
    return ChannelView("channel 7", patches, down)


def page(**given):
    rng = np.random.default_rng(1)
    pictures = list(rng.integers(0, 256, (4, 32, 32, 3), np.uint8))
    asked = {
        "labels": ["1", "2", "3", "4"],
        "pictures": pictures,
        "fields": [(0.0, 0.0, 16.0, 16.0)] * 4,
        "bars": np.array([100.0, 10, 1, 0]),
        "ends": (0.0, 4.0),
        "lines": ["channel 7 in 4 pictures"],
    }
    return PageView(**asked | given)


def holds(sheet, tile):
    """Whether a tile lies somewhere on a sheet."""
    height, width = tile.shape[:2]
    for row, column in np.argwhere((sheet[: -height + 1, : -width + 1] == tile[0, 0]).all(axis=-1)):
        if (sheet[row : row + height, column : column + width] == tile).all():
            return True
    return False


def grown(patch, scale):
    """A patch in repeated pixels."""
    return patch.repeat(scale, axis=0).repeat(scale, axis=1)


def test_patches_are_drawn_with_their_projections_beside_them():
    plain, both = top_sheet([view(False)], "title"), top_sheet([view()], "title")
    assert both.shape[1] >= plain.shape[1]
    sizes = [scale for scale in (8, 6, 4, 3, 2) if holds(both, grown(view().patches[0], scale))]
    assert sizes
    for patch in view().patches:
        assert holds(both, grown(patch, sizes[0]))


def test_a_unit_without_a_projection_is_mid_grey():
    given = view()
    nothing = ChannelView(given.title, given.patches, [None] * 4)
    drawn, empty = top_sheet([given], "title"), top_sheet([nothing], "title")
    changed = (drawn != empty).any(axis=-1)
    assert changed.any()
    assert (empty[changed] == 128).all()


def test_many_channels_fill_one_sheet_with_smaller_patches():
    few, many = top_sheet([view()] * 2, "title"), top_sheet([view()] * 40, "title")
    assert max(many.shape) < 20 * max(few.shape)
    assert many.shape[0] > few.shape[0]


def test_a_page_shows_the_synthetic_picture_and_the_bars():
    without = channel_page(view(), page(), "title")
    synthetic = np.full((40, 40, 3), (1, 2, 3), np.uint8)
    drawn = channel_page(view(), page(synthetic=synthetic), "title")
    assert (drawn == (1, 2, 3)).all(axis=-1).sum() >= 40 * 40
    assert not (without == (1, 2, 3)).all(axis=-1).any()
    bars = [
        (channel_page(view(), page(bars=np.array(each)), "title") == (70, 110, 160)).all(axis=-1).sum()
        for each in ([100.0, 0, 0, 0], [100.0, 100, 100, 100])
    ]
    assert bars[1] > 3 * bars[0] > 0
