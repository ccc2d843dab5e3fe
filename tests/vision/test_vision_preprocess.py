import json

import numpy as np
import pytest

from onnxviz.errors import PreprocessError
from onnxviz.vision.images import PictureInput
from onnxviz.vision.preprocess import PRESETS, Preprocess, choose


def an_input(channels=3, dtype="float32"):
    return PictureInput("x", "NCHW", channels, 8, 8, dtype, None)


def after(preprocess, pixel):
    """What becomes of one grey pixel in each channel, by the definition."""
    return [
        (pixel * preprocess.scale - mean) / std
        for mean, std in np.broadcast(np.array(preprocess.mean), np.array(preprocess.std))
    ]


@pytest.mark.parametrize(
    ("name", "color", "black", "white"),
    [
        ("imagenet", "RGB", [-2.117904, -2.035714, -1.804444], [2.248908, 2.428571, 2.64]),
        ("caffe", "BGR", [-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
        ("tf", "RGB", [-1], [1]),
        ("unit", "RGB", [0], [1]),
        ("raw", "RGB", [0], [255]),
    ],
)
def test_each_preset_takes_black_and_white_where_its_name_says(name, color, black, white):
    preset = choose(name, {}, an_input())
    assert preset.color == color
    assert preset.size is None
    assert preset.resize == "squash"
    assert preset.source == f"preset {name}"
    np.testing.assert_allclose(after(preset, 0), black, atol=1e-6)
    np.testing.assert_allclose(after(preset, 255), white, atol=1e-6)


def test_the_presets_are_these_five():
    assert list(PRESETS) == ["imagenet", "caffe", "tf", "unit", "raw"]


@pytest.mark.parametrize(
    ("channels", "dtype", "name", "color"),
    [
        (3, "float32", "imagenet", "RGB"),
        (None, "float16", "imagenet", "RGB"),
        (1, "float32", "unit", "L"),
        (3, "uint8", "raw", "RGB"),
        (1, "int8", "raw", "L"),
    ],
)
def test_the_guess_follows_the_input_and_says_so(channels, dtype, name, color):
    guess = choose(None, {}, an_input(channels, dtype))
    assert guess.source == f"guess: {name} (the model names no preprocessing; give --preprocess)"
    assert guess.color == color
    assert guess.scale == PRESETS[name].scale
    if channels != 1:
        assert guess == PRESETS[name]


def test_a_preset_for_one_channel_is_grey_with_its_mean_and_std_averaged():
    grey = choose("imagenet", {}, an_input(channels=1))
    assert grey.color == "L"
    assert grey.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert grey.std == pytest.approx(((0.229 + 0.224 + 0.225) / 3,))
    assert grey.source == "preset imagenet, in grey"


def test_what_is_given_beats_the_metadata_which_beats_the_guess():
    metadata = {"onnxviz.preprocess": json.dumps({"mean": [7], "color": "BGR", "size": [4, 6]})}
    assert choose("unit", metadata, an_input()) == PRESETS["unit"]
    told = choose(None, metadata, an_input())
    assert told == Preprocess(mean=(7,), color="BGR", size=(4, 6))
    assert told.source == "metadata onnxviz.preprocess"
    assert choose(None, {}, an_input()) == PRESETS["imagenet"]


def test_a_preprocess_is_taken_as_it_is():
    given = Preprocess(mean=(1.0, 2.0, 3.0), source="a test")
    assert choose(given, {}, an_input(channels=1)) is given


def test_every_key_of_a_toml_file_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'size = [240, 320]\nresize = "crop"\nfilter = "bicubic"\ncolor = "BGR"\n'
        "scale = 0.5\nmean = [1, 2.5, 3]\nstd = [4.0]\n",
        encoding="utf-8-sig",
    )
    expected = Preprocess((240, 320), "crop", "bicubic", "BGR", 0.5, (1, 2.5, 3), (4.0,))
    for given in (path, str(path)):
        read = choose(given, {}, an_input())
        assert read == expected
        assert read.source == str(path)


def test_an_empty_file_leaves_the_pixels_alone(tmp_path):
    path = tmp_path / "empty.toml"
    path.write_text("")
    assert choose(path, {}, an_input()) == PRESETS["raw"]


def test_to_dict_is_json_that_choose_takes_back():
    given = Preprocess((4, 6), "pad", "nearest", "L", 2, (3,), (np.float32(0.5),), source="a test")
    written = json.loads(json.dumps(given.to_dict()))
    assert written == {
        "size": [4, 6],
        "resize": "pad",
        "filter": "nearest",
        "color": "L",
        "scale": 2.0,
        "mean": [3.0],
        "std": [0.5],
        "source": "a test",
    }
    again = choose(written, {}, an_input())
    assert again == given
    assert again.source == "given"
    assert choose(Preprocess().to_dict(), {}, an_input()).size is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"maen": [0]}, r"unknown key 'maen'; the keys are size, resize, .*; did you mean 'mean'\?"),
        ({"preset": "imagenet"}, "unknown key 'preset'"),
        ({3: 1}, "unknown key 3"),
        ({"size": 224}, "size must be two positive whole numbers, height and width; it is 224"),
        ({"size": [224]}, "size must be two"),
        ({"size": [0, 224]}, "size must be two"),
        ({"size": [224, -1]}, "size must be two"),
        ({"size": [224.0, 224.0]}, "size must be two"),
        ({"size": [True, True]}, "size must be two"),
        ({"resize": "stretch"}, "resize must be one of squash, crop, pad; it is 'stretch'"),
        ({"filter": "lanczos"}, "filter must be one of bilinear, bicubic, nearest"),
        ({"color": "rgb"}, "color must be one of RGB, BGR, L; it is 'rgb'"),
        ({"color": ["RGB"]}, "color must be one of"),
        ({"scale": "1/255"}, "scale must be a finite number other than 0; it is '1/255'"),
        ({"scale": 0}, "scale must be"),
        ({"scale": True}, "scale must be"),
        ({"scale": float("nan")}, "scale must be"),
        ({"scale": 10**400}, r"scale must be .*; it is 1000+\.\.\.$"),
        ({"mean": 0.5}, "mean must be a list of finite numbers; it is 0.5"),
        ({"mean": "123"}, "mean must be a list"),
        ({"mean": [0, "1", 2]}, "mean must be a list"),
        ({"mean": [float("inf")]}, "mean must be a list"),
        ({"mean": [0, 1]}, r"mean must hold 1 number, or 3 for color RGB; it is \(0, 1\)"),
        ({"mean": []}, "mean must hold 1 number"),
        ({"std": [1, 1, 1], "color": "L"}, "std must hold 1 number, or 1 for color L"),
        ({"std": [1, 0, 1]}, "std must not hold 0"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_on_one_line(table, message):
    with pytest.raises(PreprocessError, match=f"^given: {message}") as caught:
        choose(table, {}, an_input())
    assert "\n" not in str(caught.value)


def test_a_preprocess_cannot_be_made_with_what_makes_no_sense():
    with pytest.raises(PreprocessError, match="given: std must not hold 0"):
        Preprocess(std=(0.0,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"scale = ", "not a TOML file: "),
        (b"\x89PNG\r\n\x1a\n\xff", "not a TOML file: "),
        (b"scal = 1", "unknown key 'scal'.*did you mean 'scale'"),
        (b"[mean]\nr = 1", "mean must be a list"),
    ],
)
def test_a_broken_file_is_refused_by_its_name(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(PreprocessError, match=message) as caught:
        choose(path, {}, an_input())
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_preprocessing_file(tmp_path):
    with pytest.raises(PreprocessError, match="cannot be read") as caught:
        choose(tmp_path, {}, an_input())
    assert str(tmp_path) in str(caught.value)


def test_an_unknown_preset_names_the_presets_and_the_nearest():
    with pytest.raises(PreprocessError) as caught:
        choose("ImageNets", {}, an_input())
    assert str(caught.value) == (
        "ImageNets: neither a file nor a preset; the presets are imagenet, caffe, tf, unit, raw; "
        "did you mean 'imagenet'?"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: "),
        ("[1]", "must be a JSON object; it is \\[1\\]"),
        ('{"std": [0]}', "std must not hold 0"),
    ],
)
def test_broken_metadata_is_refused(text, message):
    with pytest.raises(PreprocessError, match=f"^metadata onnxviz.preprocess: {message}"):
        choose(None, {"onnxviz.preprocess": text}, an_input())


def test_another_type_is_refused():
    with pytest.raises(PreprocessError, match="must be a preset, a TOML file or a mapping, not 3"):
        choose(3, {}, an_input())
