import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from methods.nets import cam_net, cam_weights, net, noise
from PIL import Image

from onnxviz import load, samples
from onnxviz.errors import OutputError, SelectorError
from onnxviz.methods.activations import observe
from onnxviz.methods.explain import explain, explain_each
from onnxviz.methods.kernels import kernels
from onnxviz.methods.manifest import manifest
from onnxviz.methods.query import ask
from onnxviz.methods.save import json_text, save_activations, save_kernels, slug
from onnxviz.methods.save_explanations import save_explanation

X = noise(3, 3, 24, 32)
KEYS = {
    "model", "device", "versions", "preprocess", "layer", "method", "gradient", "rules", "target", "score",
    "probability", "top5", "seed", "seconds", "warnings", "files",
}  # fmt: skip


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read(folder):
    return json.loads((folder / "manifest.json").read_text("utf-8"))


def check_files(folder):
    """Every file but the manifest is listed in it with its sha256, and every picture shows something."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = read(folder)["files"]
    assert set(files) == names - {"manifest.json"}
    for name, digest in files.items():
        assert digest == sha256(folder / name)
        if name.endswith(".png"):
            with Image.open(folder / name) as picture:
                pixels = np.asarray(picture)
            assert pixels.dtype == np.uint8
            assert (pixels != pixels[0, 0]).any(), f"{name} is blank"
    return files


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "out"
    query = ask(samples.sample_model(), samples.sample_picture())
    found = explain_each(query, [(0, "top1"), (0, "tabby vs Egyptian cat")], seed=7)
    save_explanation(found, folder)
    return found, folder


def test_an_explanation_is_written_with_all_its_pictures(saved):
    _, folder = saved
    assert set(check_files(folder)) == {
        "chelsea-Egyptian_cat.png",
        "chelsea-Egyptian_cat-overlay.png",
        "chelsea-Egyptian_cat-heatmap.png",
        "chelsea-Egyptian_cat-raw.png",
        "chelsea-tabby_vs_Egyptian_cat.png",
        "chelsea-tabby_vs_Egyptian_cat-overlay.png",
        "chelsea-tabby_vs_Egyptian_cat-heatmap.png",
        "chelsea-tabby_vs_Egyptian_cat-raw.png",
        "chelsea-targets.png",
        "explain.npz",
    }
    with Image.open(samples.sample_picture()) as picture:
        size = picture.size
    for kind in ("overlay", "heatmap", "raw"):
        with Image.open(folder / f"chelsea-Egyptian_cat-{kind}.png") as drawn:
            assert drawn.size == size


def test_the_numbers_of_an_explanation_are_the_arrays(saved):
    found, folder = saved
    with np.load(folder / "explain.npz") as arrays:
        assert set(arrays) == {"heatmap", "raw", "score", "probability"}
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], getattr(found, name))


def test_the_overlay_is_hot_where_the_heatmap_is(saved):
    found, folder = saved
    with (
        Image.open(samples.sample_picture()) as picture,
        Image.open(folder / "chelsea-Egyptian_cat-overlay.png") as overlay,
    ):
        moved = np.abs(np.asarray(overlay).astype(int) - np.asarray(picture.convert("RGB"))).sum(axis=2)
        warm = Image.fromarray((found.heatmap[0] * 255).astype(np.uint8)).resize(picture.size)
    hot, cold = (moved[mask].mean() for mask in (np.asarray(warm) > 150, np.asarray(warm) < 5))
    assert hot > 60
    assert cold < 6


def test_the_manifest_says_where_an_explanation_came_from(saved):
    found, folder = saved
    entries = read(folder)
    assert set(entries) >= KEYS
    assert entries["model"] == {
        "path": str(samples.sample_model()),
        "sha256": sha256(samples.sample_model()),
        "opset": found.manifest["model"]["opset"],
        "producer": found.manifest["model"]["producer"],
    }
    assert entries["model"]["opset"] >= 18
    assert entries["versions"]["onnx"] == onnx.__version__
    assert {"python", "onnxviz", "numpy"} <= set(entries["versions"])
    assert entries["preprocess"]["color"] == "BGR"
    assert entries["preprocess"]["mean"] == [103.939, 116.779, 123.68]
    assert entries["preprocess"]["source"] == "metadata onnxviz.preprocess"
    [layer] = entries["layer"]
    assert layer["name"] == found.layer
    assert layer["why"] == "the last activation with places that leads to the target"
    assert entries["method"] == "grad-cam"
    assert entries["gradient"] == ["graph"]
    assert entries["rules"] == "gradient"
    assert entries["target"] == [
        {"index": 285, "label": "Egyptian cat"},
        {"index": None, "label": "tabby vs Egyptian cat"},
    ]
    assert entries["score"] == list(found.score)
    assert entries["probability"][0] == found.probability[0]
    assert entries["probability"][1] is None
    [top] = entries["top5"]
    assert [set(entry) for entry in top] == [{"index", "label", "probability"}] * 5
    assert entries["seed"] == 7
    assert all(seconds >= 0 for seconds in entries["seconds"].values())
    assert entries["warnings"] == []
    assert entries["output"]["name"] == "logits"
    assert entries["pictures"] == [str(samples.sample_picture())]


def test_equal_runs_write_equal_bytes(saved, tmp_path):
    _, folder = saved
    query = ask(samples.sample_model(), samples.sample_picture())
    save_explanation(explain_each(query, [(0, 285), (0, "281 vs 285")], seed=7), tmp_path / "again")
    assert read(tmp_path / "again")["files"] == read(folder)["files"]


def test_a_model_that_was_no_file_has_a_fingerprint_too():
    first, second = (manifest(load(cam_net(seed=seed)))["model"] for seed in (0, 1))
    assert first["path"] is None
    assert first == manifest(load(cam_net(seed=0)))["model"]
    assert first["sha256"] != second["sha256"]


def test_the_fingerprint_is_that_of_the_file_though_its_opset_is_raised(tmp_path):
    model = net("(float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu (x) }", {}, opset=11)
    onnx.save(model, tmp_path / "old.onnx")
    described = manifest(load(tmp_path / "old.onnx"))["model"]
    assert described["sha256"] == sha256(tmp_path / "old.onnx")
    assert described["opset"] >= 18


def test_an_explanation_saves_itself_and_spares_what_is_there(tmp_path):
    found = explain(cam_net("N,3,24,32"), X[:1], target=1)
    folder = tmp_path / "out"
    assert found.save(folder) == folder
    check_files(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match="add --overwrite"):
        found.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    explain(cam_net("N,3,24,32"), X[:1], target=2).save(str(folder), overwrite=True)
    assert (folder / "picture-0-class_2.png").exists()
    assert not (folder / "picture-0-class_1.png").exists()


def test_several_pictures_of_one_name_and_targets_of_one_name_keep_apart(tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "cat.png")
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(files[-1])
    query = ask(cam_net("N,3,24,32"), files, "unit")
    found = explain_each(query, [(0, 1), (1, 1), (1, "1")])
    save_explanation(found, tmp_path / "out")
    names = set(check_files(tmp_path / "out"))
    assert {"cat-0-class_1.png", "cat-1-class_1-1.png", "cat-1-class_1-2.png"} <= names
    assert "cat-1-targets.png" in names


def test_names_that_differ_in_case_alone_keep_apart(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    files = [
        tmp_path / name / picture
        for name, picture in (("a", "cat.png"), ("b", "CAT.png"), ("c", "cat-0.png"))
    ]
    for file in files:
        file.parent.mkdir()
        Image.fromarray(pixels).save(file)
    query = ask(cam_net("N,3,24,32"), files, "unit")
    save_explanation(explain_each(query, [(n, t) for n in range(3) for t in (0, 1)]), tmp_path / "out")
    names = [name.lower() for name in check_files(tmp_path / "out")]
    assert len(names) == len(set(names)) == 3 * 2 * 4 + 3 + 1


def test_maps_of_several_layers_are_saved_one_by_one(tmp_path):
    text = """
        (float[N,3,8,8] x) => (float[N,2] y) {
            a = Conv (x, wa) ra = Relu (a) b = Conv <strides = [2,2]> (x, wb) rb = Relu (b)
            ga = ReduceMean <keepdims = 0> (ra, axes) gb = ReduceMean <keepdims = 0> (rb, axes)
            y = Concat <axis = 1> (ga, gb)
        }
    """
    shape = (1, 3, 3, 3)
    model = net(
        text, {"wa": np.ones(shape, np.float32), "wb": np.ones(shape, np.float32), "axes": np.array([2, 3])}
    )
    x = np.abs(noise(2, 3, 8, 8))
    found = explain(model, x, target=[0, 1])
    assert [one.shape for one in found.raw] == [(6, 6), (3, 3)]
    found.save(tmp_path / "out")
    with np.load(tmp_path / "out" / "explain.npz") as arrays:
        assert set(arrays) == {"heatmap", "raw_0", "raw_1", "score", "probability"}
        np.testing.assert_array_equal(arrays["raw_1"], found.raw[1])


def test_a_pixel_method_is_saved_with_its_own_shape(tmp_path):
    found = explain(cam_net("N,3,24,32"), X[:1], "gradient", 1)
    found.save(tmp_path / "out")
    check_files(tmp_path / "out")
    with np.load(tmp_path / "out" / "explain.npz") as arrays:
        assert arrays["raw"].shape == (1, 3, 24, 32)
        np.testing.assert_array_equal(arrays["raw"], found.raw)


def test_activations_are_saved_as_sheets_and_numbers(tmp_path):
    seen = observe(cam_net("N,3,24,32"), X[:1], ["c1", "features", "logits"])
    save_activations(seen, tmp_path / "out", strip_channel=2)
    files = check_files(tmp_path / "out")
    assert set(files) == {
        "000-c1.png",
        "003-features.png",
        "006-logits.png",
        "strip-channel-2.png",
        "activations.npz",
    }
    with np.load(tmp_path / "out" / "activations.npz") as arrays:
        assert set(arrays) == {"c1", "features", "logits"}
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], seen.arrays[name])
    entries = read(tmp_path / "out")
    assert entries["layer"] == ["c1", "features", "logits"]
    assert entries["channels"] == "all"
    assert entries["scale"] == "layer"
    assert entries["output_drift"] == seen.drift


@pytest.mark.parametrize("pictures", [1, 2, 3])
def test_a_few_channels_are_laid_over_the_picture(pictures, tmp_path):
    seen = observe(cam_net("N,3,24,32"), X[:pictures], "c2")
    save_activations(seen, tmp_path / "out", channels="strongest:2", scale="channel")
    names = set(check_files(tmp_path / "out"))
    laid = {name for name in names if "on-picture" in name}
    assert len(laid) == pictures
    assert "002-c2.png" in names


def test_many_pictures_have_a_sheet_each(tmp_path):
    seen = observe(cam_net("N,3,24,32"), noise(7, 3, 24, 32), "c2")
    save_activations(seen, tmp_path / "out")
    names = set(check_files(tmp_path / "out"))
    assert names == {"activations.npz", *(f"002-c2-00{n}-picture-{n}.png" for n in range(7))}


def test_a_strip_needs_a_layer_with_that_channel(tmp_path):
    seen = observe(cam_net("N,3,24,32"), X[:1])
    with pytest.raises(SelectorError, match="no layer here has a channel 6"):
        save_activations(seen, tmp_path / "out", strip_channel=6)
    assert list(tmp_path.iterdir()) == []


def test_equal_activations_are_drawn_in_equal_bytes(tmp_path):
    for name in ("one", "two"):
        save_activations(observe(cam_net("N,3,24,32"), X), tmp_path / name, channels="strongest:3")
    assert read(tmp_path / "one")["files"] == read(tmp_path / "two")["files"]


def test_kernels_are_saved_as_sheets_and_numbers(tmp_path):
    model = load(cam_net())
    found = kernels(model)
    layers = [layer for layer in model.layers if layer.name in found]
    save_kernels(found, layers, manifest(model, layer=list(found)), tmp_path / "out")
    assert set(check_files(tmp_path / "out")) == {"000-c1.png", "002-c2.png", "kernels.npz"}
    with np.load(tmp_path / "out" / "kernels.npz") as arrays:
        np.testing.assert_array_equal(arrays["c1"], cam_weights()["w1"])
        np.testing.assert_array_equal(arrays["c2"], cam_weights()["w2"])
    assert read(tmp_path / "out")["layer"] == ["c1", "c2"]


def test_nothing_is_left_of_a_folder_whose_drawing_failed(tmp_path):
    found = explain(cam_net("N,3,24,32"), X[:1], target=1)
    with pytest.raises(SelectorError, match="colormap"):
        save_explanation(found, tmp_path / "out", colormap="no such")
    assert list(tmp_path.iterdir()) == []


ODD = "(float[N,3,8,10] x) => (float[N,2,8,10] y) { c = Conv (x, w) r = Relu (c) y = Sigmoid (r) }"


@pytest.mark.parametrize(
    "names",
    [
        ("/features/0/Conv", "/features/0/Relu", "out"),
        ("file", "arr_0", "self"),
        ("../up", "C:\\x", "con"),
        ("größe", "日本", "a b"),
        ("x" * 300, "x" * 299 + "y", "z"),
        ("///", "a//b", "a/b"),
        ("a/Conv", "/a/Conv", "a/Conv/"),
    ],
)
def test_layers_may_have_any_names(names, tmp_path):
    model = net(ODD, {"w": np.random.default_rng(0).standard_normal((2, 3, 1, 1), np.float32)})
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    seen = observe(model, noise(1, 3, 8, 10), "all")
    assert list(seen.arrays) == list(names)
    save_activations(seen, tmp_path / "out")
    files = check_files(tmp_path / "out")
    assert len(files) == 4
    assert all((tmp_path / "out" / name).parent == tmp_path / "out" for name in files)
    with np.load(tmp_path / "out" / "activations.npz") as arrays:
        stored = [arrays[name] for name in arrays]
    assert len(stored) == 3
    for array, name in zip(stored, names, strict=True):
        np.testing.assert_array_equal(array, seen.arrays[name])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Egyptian cat", "Egyptian_cat"),
        ("boxes[0,17,4]", "boxes_0_17_4"),
        ("../../etc/passwd", "etc_passwd"),
        ("日本", "_"),
        ("", "_"),
        ("...", "_"),
        ("a" * 80, "a" * 60),
        ('a<b>:"c|d?*', "a_b_c_d"),
    ],
)
def test_any_text_can_be_part_of_a_file_name(text, part):
    assert slug(text) == part


def test_a_document_is_json_whatever_the_numbers_are():
    entries = {
        "nan": float("nan"),
        "infinite": np.float32(np.inf),
        "array": np.array([1.5, np.nan]),
        "integer": np.int64(3),
        "flag": np.bool_(True),
        "nested": {"tuple": (1, "größe"), 2: None},
    }
    text = json_text(entries)
    assert text.endswith("}\n")
    assert json.loads(text, parse_constant=pytest.fail) == {
        "nan": None,
        "infinite": None,
        "array": [1.5, None],
        "integer": 3,
        "flag": True,
        "nested": {"tuple": [1, "größe"], "2": None},
    }
