import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli.bench import listing, onnxviz, the_error
from methods.nets import net

import onnxviz as package

pytestmark = pytest.mark.usefixtures("place")


def manifest(folder):
    return json.loads(Path(folder, "manifest.json").read_text("utf-8"))


def test_it_writes_one_sheet_the_numbers_and_the_manifest(place):
    result = onnxviz("deconv", "model.onnx", "cat.png", "--layer", "features", "--channels", "all")
    assert result.exit_code == 0, result.stderr
    folder = place / "onnxviz-out" / "deconv"
    assert sorted(listing(folder)) == ["003-features.png", "deconv.npz", "manifest.json"]
    found = package.deconv("model.onnx", "cat.png", "features", "all")
    with np.load(folder / "deconv.npz") as kept:
        np.testing.assert_allclose(kept["pixels"], found.pixels, atol=1e-6)
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    row, column = found.units[1].position
    assert lines[1].split()[:4] == ["1", f"{found.values[1]:.4g}", "at", f"{row},{column}"]
    assert lines[1].split()[-1] == ",".join(map(str, found.boxes[1]))
    assert "5 units of layer features drawn in onnxviz-out/deconv" in result.stderr
    assert "sanity check" in result.stderr


def test_the_json_is_the_manifest_and_the_place():
    result = onnxviz(
        "deconv", "model.onnx", "cat.png", "--channels", "strongest:2", "--json", "--out", "here"
    )
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    written = manifest("here")
    assert said["out"] == "here"
    assert said["units"] == written["units"]
    assert len(said["units"]) == 2
    assert said["layer"][0]["name"] == "c2"
    assert set(written["files"]) == {"002-c2.png", "deconv.npz"}


@pytest.mark.parametrize("rules", ["deconvnet", "guided-backprop", "gradient"])
def test_the_rules_are_those_asked_for(rules):
    result = onnxviz("deconv", "model.onnx", "cat.png", "--layer", "features", "--rules", rules, "--json")
    assert json.loads(result.stdout)["rules"] == rules
    found = package.deconv("model.onnx", "cat.png", "features", rules=rules)
    with np.load("onnxviz-out/deconv/deconv.npz") as kept:
        np.testing.assert_allclose(kept["pixels"], found.pixels, atol=1e-6)


def test_it_is_repeated_to_the_byte():
    for folder in ("one", "two"):
        assert onnxviz("deconv", "model.onnx", "cat.png", "--out", folder).exit_code == 0
    assert manifest("one")["files"] == manifest("two")["files"]


def test_a_picture_that_is_alive_nowhere():
    weights = {"w": -np.ones((3, 3, 3, 3), np.float32)}
    text = "(float[N,3,24,32] x) => (float[N,3,h,v] y) { c = Conv (x, w) y = Relu (c) }"
    onnx.save(net(text, weights, metadata={"onnxviz.preprocess": '{"scale": 0.004}'}), "dead.onnx")
    result = onnxviz("deconv", "dead.onnx", "cat.png", "--layer", "y")
    assert result.exit_code == 0
    assert result.stderr.count("no projection: dead") == 3
    with np.load("onnxviz-out/deconv/deconv.npz") as kept:
        assert not kept["pixels"].any()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "c7"], "no layer 'c7' in this model; did you mean 'c"),
        (["--channels", "77"], "no channel 77 in layer 'c2'"),
        (["--channels", "weak"], "cannot read channels 'weak'"),
        (["--rules", "lrp-0"], "'lrp-0' is not one of"),
        (["--colormap", "virids"], "no colormap 'virids'"),
        (["--size", "36x20x3"], "no size for pictures"),
    ],
)
def test_what_cannot_be_done_is_one_line(place, more, message):
    before = listing(place)
    assert message in the_error(onnxviz("deconv", "model.onnx", "cat.png", *more))
    assert listing(place) == before


def test_a_folder_of_pictures_is_refused(place):
    (place / "pictures").mkdir()
    for name in ("cat.png", "dog.png"):
        (place / name).rename(place / "pictures" / name)
    assert "deconv takes one picture, not 2" in the_error(onnxviz("deconv", "model.onnx", "pictures"))
