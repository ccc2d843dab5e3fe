import struct

import numpy as np
import pytest
from PIL import Image

from onnxviz.errors import ImageError, PreprocessError, SelectorError, ShapeError
from onnxviz.graph.model import ValueInfo
from onnxviz.vision.images import PictureInput, picture_input, prepare
from onnxviz.vision.preprocess import PRESETS, Preprocess

RAW = Preprocess()


def an_input(layout="NCHW", channels=3, height=None, width=None, dtype="float32", batch=None):
    return PictureInput("x", layout, channels, height, width, dtype, batch)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def only(pictures):
    """The one picture, as [H, W, C]."""
    assert len(pictures.array) == len(pictures.pixels) == len(pictures.names) == len(pictures.boxes) == 1
    return pictures.array[0].transpose(1, 2, 0)


# Which input takes the picture


@pytest.mark.parametrize(
    ("shape", "layout", "channels", "height", "width", "batch"),
    [
        ((1, 3, 224, 200), "NCHW", 3, 224, 200, 1),
        (("N", 1, 28, 28), "NCHW", 1, 28, 28, None),
        ((1, 224, 200, 3), "NHWC", 3, 224, 200, 1),
        ((None, 28, 28, 1), "NHWC", 1, 28, 28, None),
        (("N", 3, "H", "W"), "NCHW", 3, None, None, None),
        ((-1, -1, 0, 3), "NHWC", 3, None, None, None),
        (("N", "C", "H", "W"), "NCHW", None, None, None, None),
        ((1, None, 224, 200), "NCHW", None, 224, 200, 1),
        ((1, 224, 200, None), "NHWC", None, 224, 200, 1),
        ((1, 3, 5, 3), "NCHW", 3, 5, 3, 1),
        ((1, 4, 64, 64), "NCHW", 4, 64, 64, 1),
        ((1, 64, 64, 4), "NHWC", 4, 64, 64, 1),
        ((1, 256, 14, 14), "NCHW", 256, 14, 14, 1),
    ],
)
def test_layout_and_sizes_come_from_the_shape(shape, layout, channels, height, width, batch):
    found = picture_input([ValueInfo("x", "float32", shape)])
    assert found == PictureInput("x", layout, channels, height, width, "float32", batch)


INPUTS = [
    ValueInfo("ids", "int64", ("N", 77)),
    ValueInfo("mask", "bool", (1, 3, 8, 8)),
    ValueInfo("latent", "float16", (1, 4, 8, 8)),
    ValueInfo("image", "float16", (1, 3, 8, 8)),
    ValueInfo("depth", "uint8", (1, 8, 8, 1)),
]


def test_the_first_input_that_can_take_a_picture_is_chosen():
    assert picture_input(INPUTS).name == "image"
    assert picture_input(INPUTS[:3]).name == "latent"


def test_an_input_is_chosen_by_name():
    assert picture_input(INPUTS, "depth") == PictureInput("depth", "NHWC", 1, 8, 8, "uint8", 1)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(SelectorError, match="no input 'imag' in this model; did you mean 'image'"):
        picture_input(INPUTS, "imag")


@pytest.mark.parametrize("name", [None, "video"])
def test_inputs_of_other_ranks_are_no_pictures(name):
    inputs = [
        ValueInfo("video", "float32", (1, 3, "T", 8, None)),
        ValueInfo("sound", "float32", (1, 3, 8)),
        ValueInfo("free", "float32", None),
        ValueInfo("words", "string", (1, 3, 8, 8)),
    ]
    with pytest.raises(ShapeError, match="needs a numeric tensor of rank 4") as caught:
        picture_input(inputs, name)
    assert "video float32[1,3,T,8,?]" in str(caught.value)
    assert ("sound float32[1,3,8], free float32[...], words string" in str(caught.value)) == (name is None)


def test_a_model_without_inputs_takes_no_pictures():
    with pytest.raises(ShapeError, match="rank 4: none"):
        picture_input([])


# Reading: every kind of file becomes 8-bit RGB


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 100, 0, 51), (244, 224, 204)),  # 255 + (c - 255) * 51 / 255
        ("LA", (0, 51), (204, 204, 204)),
        ("I;16", 0x8080, (128, 128, 128)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 300, (1, 1, 1)),  # clipped it would be 255, cut off 44
        ("I", 257 * 90, (90, 90, 90)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(mode, color, expected):
    pixels = prepare(Image.new(mode, (4, 3), color), an_input(), RAW).pixels[0]
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 4, 3)
    assert np.all(pixels == expected)


@pytest.mark.parametrize("extension", ["png", "tiff", "pgm"])
def test_a_16_bit_grey_file_is_scaled_to_8(tmp_path, extension):
    values = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369  # 0 .. 65535 in sixteen equal steps
    Image.fromarray(values).save(tmp_path / f"deep.{extension}")
    pixels = prepare(tmp_path / f"deep.{extension}", an_input(), RAW).pixels[0]
    np.testing.assert_array_equal(pixels[..., 0], np.arange(16).reshape(4, 4) * 17)


def test_a_palette_with_transparency_shows_white_through(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=bytes([255, 0]))
    pixels = prepare(tmp_path / "p.png", an_input(), RAW).pixels[0]
    assert pixels.tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 70000), ("I", -1)])
def test_pixels_of_unknown_range_are_refused(mode, value):
    with pytest.raises(ImageError, match=r"picture-0: .*save it with 8 or 16 bits"):
        prepare(Image.new(mode, (2, 2), value), an_input(), RAW)


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_the_exif_orientation_is_applied(tmp_path, mode):
    picture = Image.new(mode, (3, 2))
    picture.putpixel((0, 0), (255, 255, 255) if mode == "RGB" else 65535)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    pixels = prepare(tmp_path / "turned.png", an_input(), RAW).pixels[0]
    assert pixels.shape == (3, 2, 3)
    assert np.argwhere(pixels[..., 0]).tolist() == [[0, 1]]


def test_a_picture_given_is_left_as_it_was():
    image = Image.new("RGBA", (3, 2), (1, 2, 3, 4))
    array = noise(2, 3)
    before = array.copy()
    prepared = prepare([image, array], an_input(), RAW)
    prepared.pixels[1][:] = 0
    prepared.array[:] = 0
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (1, 2, 3, 4)
    np.testing.assert_array_equal(array, before)


# Reading: what can be given


def test_a_folder_gives_its_pictures_in_order(tmp_path):
    for value, name in enumerate(["b.png", "a.JPG", "c.bmp", "._a.jpg", "notes.txt", "data.h5"]):
        Image.new("RGB", (2, 2), (value, value, value)).save(tmp_path / name, format="bmp")
    (tmp_path / "folder.png").mkdir()
    found = prepare(tmp_path, an_input(), RAW)
    assert found.names == tuple(str(tmp_path / name) for name in ("a.JPG", "b.png", "c.bmp"))
    assert found.array[:, 0, 0, 0].tolist() == [1, 0, 2]


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ImageError, match="no picture in this folder") as caught:
        prepare(str(tmp_path), an_input(), RAW)
    assert str(tmp_path) in str(caught.value)


def test_a_list_may_mix_everything(tmp_path):
    path = tmp_path / "file.png"
    Image.new("RGB", (2, 2), (1, 1, 1)).save(path)
    floats = np.full((2, 3, 2, 2), 4.5, np.float32)
    grey = np.full((2, 2), 3, np.uint8)
    mixed = [str(path), path, Image.new("L", (2, 2), 2), grey, grey[..., None], floats, floats[0]]
    got = prepare(mixed, an_input(), RAW)
    assert got.array[:, 0, 0, 0].tolist() == [1, 1, 2, 3, 3, 4.5, 4.5, 4.5]
    assert got.names == (str(path), str(path), *(f"picture-{index}" for index in range(2, 8)))


def test_a_uint8_array_of_rank_4_is_a_list_of_pictures():
    batch = np.stack([noise(3, 4, seed) for seed in range(2)])
    got = prepare(batch, an_input("NHWC"), RAW)
    np.testing.assert_array_equal(got.array, batch)
    np.testing.assert_array_equal(np.stack(got.pixels), batch)


def test_an_array_with_alpha_is_laid_on_white():
    array = np.zeros((1, 2, 4), np.uint8)
    array[0, 0, 3] = 255
    assert prepare(array, an_input(), RAW).pixels[0].tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((3, 8, 9), np.uint8), r"uint8\[3, 8, 9\]"),
        (np.zeros((8, 8, 3), np.int64), r"int64\[8, 8, 3\]"),
        (np.zeros(8, np.uint8), r"uint8\[8\]"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8\[0, 4, 3\]"),
    ],
)
def test_other_arrays_are_no_pictures(array, named):
    with pytest.raises(ImageError, match=f"picture-0: an array of {named} is no picture"):
        prepare(array, an_input(), RAW)


@pytest.mark.parametrize("things", [3, None])
def test_another_type_is_refused(things):
    with pytest.raises(ImageError, match=f"a value of type {type(things).__name__} is no picture"):
        prepare(things, an_input(), RAW)
    with pytest.raises(ImageError, match=f"picture-0: a value of type {type(things).__name__} is no picture"):
        prepare([things], an_input(), RAW)


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 4, 4, 3), np.uint8)])
def test_an_empty_list_is_refused(nothing):
    with pytest.raises(ImageError, match="no pictures are given"):
        prepare(nothing, an_input(), RAW)


def test_files_that_are_no_whole_picture_are_refused_by_name(tmp_path):
    Image.fromarray(noise(64, 64)).save(tmp_path / "whole.png")
    Image.fromarray(noise(64, 64)).save(tmp_path / "whole.jpg")
    for extension in ("png", "jpg"):
        data = (tmp_path / f"whole.{extension}").read_bytes()
        (tmp_path / f"cut.{extension}").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("I am a text")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, message in [
        ("cut.png", "cannot be read as a picture"),
        ("cut.jpg", "cannot be read as a picture"),
        ("text.png", "not a picture"),
        ("empty.png", "not a picture"),
        ("missing.png", "no such file"),
    ]:
        with pytest.raises(ImageError, match=message) as caught:
            prepare([tmp_path / name], an_input(), RAW)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)


def test_a_folder_in_a_list_of_files_is_refused(tmp_path):
    with pytest.raises(ImageError, match="this is a folder") as caught:
        prepare([tmp_path], an_input(), RAW)
    assert str(tmp_path) in str(caught.value)


def test_a_decompression_bomb_is_refused_and_a_large_picture_read_without_a_warning(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("RGB", (30, 30)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)  # Pillow warns above it, and refuses twice as much
    assert prepare(path, an_input(), RAW).pixels[0].shape == (30, 30, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ImageError, match=r"large\.png: cannot be read as a picture: .*decompression bomb"):
        prepare(path, an_input(), RAW)


def test_broken_exif_data_is_no_warning(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 9, 0x0112, 3, 1, 1)
    Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / "odd.jpg", exif=exif, quality=100)
    np.testing.assert_allclose(prepare(tmp_path / "odd.jpg", an_input(), RAW).pixels[0], 9, atol=1)


# Numbers, colours, layout


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_one_pixel_is_what_the_formula_says(name, dtype):
    red, green, blue = 255.0, 128.0, 7.0
    expected = {
        "imagenet": [
            (red / 255 - 0.485) / 0.229,
            (green / 255 - 0.456) / 0.224,
            (blue / 255 - 0.406) / 0.225,
        ],
        "caffe": [blue - 103.939, green - 116.779, red - 123.68],
        "tf": [red / 127.5 - 1, green / 127.5 - 1, blue / 127.5 - 1],
        "unit": [red / 255, green / 255, blue / 255],
        "raw": [red, green, blue],
    }[name]
    picture = np.broadcast_to(np.array([red, green, blue], np.uint8), (2, 3, 3))
    pictures = prepare(np.ascontiguousarray(picture), an_input(dtype=dtype), PRESETS[name])
    assert pictures.array.dtype == dtype
    assert pictures.array.shape == (1, 3, 2, 3)
    assert pictures.array.flags.c_contiguous
    np.testing.assert_allclose(only(pictures)[1, 2], expected, rtol=2 * np.finfo(dtype).eps, atol=1e-12)


def test_squash_is_pillows_resize_and_numpys_arithmetic():
    picture = noise(50, 70)
    preprocess = Preprocess(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    small = np.asarray(Image.fromarray(picture).resize((12, 9), Image.Resampling.BILINEAR)) / 255
    expected = ((small - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).astype(np.float32)
    chw = prepare(picture, an_input(height=9, width=12), preprocess)
    np.testing.assert_allclose(chw.array[0], expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-6)
    hwc = prepare(picture, an_input("NHWC", height=9, width=12), preprocess)
    np.testing.assert_array_equal(hwc.array.transpose(0, 3, 1, 2), chw.array)
    np.testing.assert_array_equal(chw.pixels[0], picture)
    assert chw.boxes == ((0.0, 0.0, 70.0, 50.0),)


def test_bilinear_is_antialiased_and_nearest_is_not():
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    smooth = only(prepare(stripes, an_input(height=8, width=8), RAW))
    np.testing.assert_allclose(smooth, 127.5, atol=5)
    sharp = only(prepare(stripes, an_input(height=8, width=8), Preprocess(filter="nearest")))
    assert set(np.unique(sharp)) <= {0, 255}


def test_bicubic_is_pillows():
    picture = noise(20, 20)
    expected = np.asarray(Image.fromarray(picture).resize((13, 7), Image.Resampling.BICUBIC))
    got = only(prepare(picture, an_input(height=7, width=13), Preprocess(filter="bicubic")))
    np.testing.assert_array_equal(got, expected)


def test_grey_is_the_luma_of_the_colours():
    picture = np.array([[[200, 100, 50]]], np.uint8)
    pictures = prepare(picture, an_input(channels=1), Preprocess(color="L", mean=(4,)))
    assert pictures.array.shape == (1, 1, 1, 1)
    assert pictures.array.item() == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50) - 4


@pytest.mark.parametrize(
    ("dtype", "scale", "expected"),
    [
        ("uint8", 1.0, [0, 101, 255]),
        ("uint8", 1.5, [0, 152, 255]),
        ("int8", 1.0, [0, 101, 127]),
        ("int8", -1.0, [0, -101, -128]),
        ("int64", -0.1, [0, -10, -26]),  # 25.5 is rounded to even, as ONNX rounds
        ("int64", 1e30, [0, 2**63 - 1024, 2**63 - 1024]),
    ],
)
def test_integers_are_rounded_and_kept_in_range(dtype, scale, expected):
    picture = np.array([[[0, 101, 255]]], np.uint8)
    array = prepare(picture, an_input(dtype=dtype), Preprocess(scale=scale)).array
    assert array.dtype == dtype
    assert array.ravel().tolist() == expected


@pytest.mark.parametrize(("dtype", "scale"), [("float16", 1e4), ("float32", 1e37), ("float64", 1e307)])
def test_numbers_beyond_the_dtype_are_refused(dtype, scale):
    with pytest.raises(PreprocessError, match=f"given: scale, mean and std make numbers beyond {dtype}"):
        prepare(np.full((2, 2), 255, np.uint8), an_input(dtype=dtype), Preprocess(scale=scale))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64"])
def test_each_level_of_each_channel_is_the_formula_of_that_pixel(layout, dtype):
    pixels = np.stack([np.roll(np.arange(256, dtype=np.uint8), shift) for shift in (0, 7, 99)], -1)
    pixels = pixels.reshape(16, 16, 3)
    how = Preprocess(scale=0.9, mean=(10.5, 20, 200), std=(0.5, 1.3, 2.0))
    values = (pixels.astype(np.float64) * 0.9 - [10.5, 20, 200]) / [0.5, 1.3, 2.0]
    if dtype not in ("float16", "float32", "float64"):
        values = np.rint(values).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    got = prepare(pixels, an_input(layout, height=16, width=16, dtype=dtype), how).array[0]
    np.testing.assert_array_equal(
        got if layout == "NHWC" else got.transpose(1, 2, 0), values.astype(dtype), strict=True
    )


def test_a_picture_cannot_fill_four_channels_but_floats_can():
    with pytest.raises(
        ImageError, match=r"cannot fill input 'x' of 4 channels; give a float array \[\?,4,2,2\]"
    ):
        prepare(noise(2, 2), an_input(channels=4, height=2, width=2), RAW)
    floats = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    got = prepare(floats, an_input(channels=4, height=2, width=2), RAW)
    np.testing.assert_array_equal(got.array[0], floats)
    assert got.pixels[0][..., 0].tolist() == [[0, 85], [170, 255]]


@pytest.mark.parametrize(("channels", "color", "fitting"), [(1, "RGB", "L"), (3, "L", "RGB or BGR")])
def test_a_colour_that_does_not_fill_the_channels_is_refused(channels, color, fitting):
    with pytest.raises(
        PreprocessError, match=f"given: color {color} does not fill .*; let color be {fitting}$"
    ):
        prepare(noise(2, 2), an_input(channels=channels), Preprocess(color=color))


# Size


def test_the_size_is_the_graphs_then_the_preprocessings_then_the_pictures():
    picture = noise(6, 5)
    sized = Preprocess(size=(4, 3))
    assert prepare(picture, an_input(height=2, width=7), RAW).array.shape == (1, 3, 2, 7)
    assert prepare(picture, an_input(height=4, width=3), sized).array.shape == (1, 3, 4, 3)
    assert prepare(picture, an_input(height=4), sized).array.shape == (1, 3, 4, 3)
    assert prepare(picture, an_input(), sized).array.shape == (1, 3, 4, 3)
    assert prepare(picture, an_input(), RAW).array.shape == (1, 3, 6, 5)


@pytest.mark.parametrize(("height", "width", "graph"), [(8, 3, r"\[8,3\]"), (None, 9, r"\[\?,9\]")])
def test_a_size_other_than_the_graphs_is_refused_with_both(height, width, graph):
    with pytest.raises(PreprocessError, match=rf"given: size is \[4, 3\] but input 'x' takes {graph}"):
        prepare(noise(6, 5), an_input(height=height, width=width), Preprocess(size=(4, 3)))


def test_a_graph_that_leaves_one_side_open_asks_for_a_size():
    with pytest.raises(PreprocessError, match=r"input 'x' takes \[32,\?\] .* give a size"):
        prepare(noise(6, 5), an_input(height=32), RAW)


def test_pictures_of_different_sizes_ask_for_a_size():
    with pytest.raises(
        ImageError, match=r"picture-0 becomes \[3, 6, 5\] but picture-1 \[3, 5, 6\].*give a size"
    ):
        prepare([noise(6, 5), noise(5, 6)], an_input(), RAW)


# Geometry


def drawn(height, width, left, top, right, bottom):
    """A black picture with one white rectangle."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[top:bottom, left:right] = 255
    return picture


def found(array):
    """Edges of the white rectangle in [H, W, C] to a fraction of a pixel: centre and extent of its mass."""
    mass = array[..., 0] / 255
    edges = []
    for axis in (0, 1):
        profile = mass.sum(axis=axis)
        profile = profile / profile.max()
        centre = (profile * (np.arange(len(profile)) + 0.5)).sum() / profile.sum()
        edges.append((centre - profile.sum() / 2, centre + profile.sum() / 2))
    return np.array(edges).T.ravel()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("filter_name", ["bilinear", "nearest"])
@pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (120, 120), (37, 61), (301, 300)])
@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (48, 80)])
def test_the_box_says_where_a_mark_lands(resize, filter_name, height, width, rows, columns):
    mark = np.array([width * 0.45, height * 0.4, width * 0.6, height * 0.55]).round().astype(int)
    picture = drawn(height, width, *mark)
    pictures = prepare(
        picture, an_input(height=rows, width=columns), Preprocess(resize=resize, filter=filter_name)
    )
    left, top, right, bottom = pictures.boxes[0]
    origin, step = (
        np.array([left, top] * 2),
        np.array([right - left, bottom - top] * 2) / ([columns, rows] * 2),
    )
    # Nearest puts an edge on a whole pixel, so it may be off by a pixel.
    tolerance = 0.1 if filter_name == "bilinear" else 1
    np.testing.assert_allclose(found(only(pictures)), (mark - origin) / step, atol=tolerance)


def test_crop_takes_the_middle_and_covers_the_input():
    assert prepare(noise(100, 300), an_input(height=10, width=10), Preprocess(resize="crop")).boxes == (
        (100.0, 0.0, 200.0, 100.0),
    )
    assert prepare(noise(90, 20), an_input(height=10, width=20), Preprocess(resize="crop")).boxes == (
        (0.0, 40.0, 20.0, 50.0),
    )


def test_crop_without_a_change_of_size_copies_the_middle():
    picture = noise(9, 30)
    got = only(prepare(picture, an_input(height=9, width=10), Preprocess(resize="crop")))
    np.testing.assert_array_equal(got, picture[:, 10:20])


def test_pad_shows_the_whole_picture_on_black_before_the_mean_is_taken():
    pictures = prepare(
        np.full((10, 20, 3), 255, np.uint8),
        an_input(height=20, width=20),
        Preprocess(resize="pad", mean=(55,)),
    )
    got = only(pictures)
    assert np.all(got[5:15] == 200)
    assert np.all(got[:5] == -55)
    assert np.all(got[15:] == -55)
    assert pictures.boxes == ((0.0, -5.0, 20.0, 15.0),)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), [(1, 1000), (1000, 1), (1, 1)])
def test_the_thinnest_picture_fits(resize, height, width):
    pictures = prepare(
        np.full((height, width), 255, np.uint8), an_input(height=8, width=6), Preprocess(resize=resize)
    )
    assert pictures.array.shape == (1, 3, 8, 6)
    assert pictures.array.max() == 255


# Float arrays are the input already


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_float_array_is_not_preprocessed(layout):
    values = np.random.default_rng(1).normal(size=(2, 4, 5, 3))
    given = values if layout == "NHWC" else values.transpose(0, 3, 1, 2)
    where = an_input(layout, height=4, width=5)
    got = prepare(given, where, PRESETS["imagenet"])
    assert got.array.dtype == np.float32
    np.testing.assert_array_equal(got.array, given.astype(np.float32))
    assert got.names == ("picture-0", "picture-1")
    assert got.boxes == ((0.0, 0.0, 5.0, 4.0),) * 2
    for each, shown in zip(values, got.pixels, strict=True):
        expected = 255 * (each - each.min()) / (each.max() - each.min())
        assert shown.dtype == np.uint8
        np.testing.assert_allclose(shown, expected, atol=0.51)
    for again in (prepare(list(given), where, RAW), prepare([given[:1], given[1]], where, RAW)):
        np.testing.assert_array_equal(again.array, got.array)


def test_a_float_array_of_a_bgr_model_is_shown_in_rgb():
    values = np.array([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1)
    assert prepare(values, an_input(), PRESETS["caffe"]).pixels[0].tolist() == [[[255, 128, 0]]]


def test_one_channel_of_floats_is_shown_in_grey_and_a_flat_one_in_black():
    values = np.array([-1.0, 0.0, 1.0]).reshape(1, 1, 3)
    got = prepare(values, an_input(channels=1), RAW)
    assert got.pixels[0].tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert np.all(prepare(np.full((1, 2, 2), 7.0), an_input(channels=1), RAW).pixels[0] == 0)


@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 3, 5, 5), (4, 5), (1, 1, 3, 4, 5), (4, 5, 3), (0, 3, 4, 5)])
def test_floats_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ImageError) as caught:
        prepare(np.zeros(shape, np.float32), an_input(height=4, width=5), RAW)
    assert str(caught.value) == (
        f"picture-0: the array is float32[{','.join(map(str, shape))}] but input 'x' takes float32[?,3,4,5]"
    )


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "float32"), (np.inf, "float32"), (1e6, "float16")])
def test_floats_that_are_no_numbers_for_the_input_are_refused(value, dtype):
    with pytest.raises(
        ImageError, match=f"picture-0: the array holds NaN, infinity, or numbers beyond {dtype}"
    ):
        prepare(np.full((3, 2, 2), value), an_input(dtype=dtype), RAW)


def test_floats_for_an_integer_input_are_refused():
    with pytest.raises(ImageError, match="a float64 array cannot be input 'x', which takes uint8"):
        prepare(np.zeros((3, 2, 2)), an_input(dtype="uint8"), RAW)
