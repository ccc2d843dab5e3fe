import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from methods.nets import cam_net, head_net, net, noise

from onnxviz import explain, explainer, load, samples
from onnxviz.errors import SelectorError, ShapeError
from onnxviz.methods.attribution.table import METHODS
from onnxviz.views.heatmaps import place

ATTENTION = ("legrad", "attention-rollout", "attention")
GRAPHS = [name for name, method in METHODS.items() if method.graph is not None and name not in ATTENTION]
X = noise(4, 3, 8, 10)


def run(model, feeds):
    """What plain onnxruntime answers, once the whole file has passed the checker."""
    proto = model.proto()
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.mark.parametrize("method", GRAPHS)
def test_the_exported_heatmap_is_that_of_explain(method):
    given = cam_net() if method == "cam" else head_net()
    over = METHODS[method].over
    layer = None if over == "pixels" else "features"
    found = run(explainer(given, method, layer), {"x": X, "target": np.array([2, 0, 3, 1])})
    expected = explain(given, X, method, [2, 0, 3, 1], layer)
    assert list(found) == ["logits", "heatmap"]
    np.testing.assert_allclose(found["heatmap"], expected.heatmap, atol=2e-6)
    np.testing.assert_allclose(found["logits"], run(load(given), {"x": X})["logits"], rtol=1e-5)
    assert found["heatmap"].dtype == np.float32
    assert (found["heatmap"].max(axis=(1, 2)) == pytest.approx(1)) or method.startswith("lrp")


@pytest.mark.parametrize("method", ATTENTION)
def test_the_attention_of_a_transformer_is_exported_too(method):
    given = load(Path(__file__).parents[1] / "data" / "attention" / "vit_class.onnx")
    [where], [scores] = given.inputs, given.outputs
    x = noise(2, *(size for size in where.shape[1:] if isinstance(size, int)))
    found = run(explainer(given, method), {where.name: x, "target": np.array([1, 0])})
    np.testing.assert_allclose(found["heatmap"], explain(given, x, method, [1, 0]).heatmap, atol=2e-6)
    assert found[scores.name].shape[0] == 2
    assert (found["heatmap"].max(axis=(1, 2)) == 1).all()


def test_a_target_below_zero_is_the_top_class():
    found = run(explainer(head_net()), {"x": X, "target": np.array([-1] * 4)})
    np.testing.assert_allclose(found["heatmap"], explain(head_net(), X, target="top1").heatmap, atol=2e-6)


def test_a_target_that_is_no_class_has_an_empty_map():
    found = run(explainer(head_net()), {"x": X, "target": np.array([4, 99, 0, 1])})
    assert not found["heatmap"][:2].any()
    assert found["heatmap"][2:].any(axis=(1, 2)).all()


def test_a_map_that_is_not_finite_is_never_painted():
    x = X.copy()
    x[1, 0, 3, 3] = np.nan
    x[2, 0, 3, 3] = np.inf
    for method in ("hires-cam", "input-x-gradient"):
        heatmap = run(explainer(head_net(), method), {"x": x, "target": np.array([0] * 4)})["heatmap"]
        assert not heatmap[1].any()
        assert np.isfinite(heatmap).all()
        assert heatmap[0].max() == heatmap[3].max() == 1


PLACES = """
    (float[N,3,8,10] x) => (float[N,5,4] chances) {
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        features = Relu (c)
        flat = Flatten (features)
        scores = MatMul (flat, w)
        shape = Constant <value_ints = [0, 5, 4]> ()
        placed = Reshape (scores, shape)
        chances = Softmax <axis = AXIS> (placed)
    }"""


@pytest.mark.parametrize(("axis", "classes"), [(2, 4), (1, 5)])
def test_a_class_with_several_places_is_explained_where_it_is_strongest(axis, classes):
    rng = np.random.default_rng(0)
    shapes = {"w1": (6, 3, 3, 3), "b1": (6,), "w": (480, 20)}
    weights = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    model = net(PLACES.replace("AXIS", str(axis)), weights)
    targets = [classes - 1, 0, 2, -1]
    found = run(explainer(model), {"x": X, "target": np.array(targets)})
    expected = explain(model, X, target=["top1" if t < 0 else t for t in targets])
    np.testing.assert_allclose(found["heatmap"], expected.heatmap, atol=2e-6)


def test_names_that_the_model_has_taken():
    text = """
        (float[N,3,8,10] image) => (float[N,4] heatmap) {
            target = Conv (image, w1, b1)
            r = Relu (target)
            m = GlobalAveragePool (r)
            f = Flatten (m)
            heatmap = MatMul (f, w)
        }"""
    rng = np.random.default_rng(0)
    shapes = {"w1": (6, 3, 3, 3), "b1": (6,), "w": (6, 4)}
    weights = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    model = explainer(net(text, weights))
    assert [value.name for value in model.inputs] == ["image", "target_2"]
    assert [value.name for value in model.outputs] == ["heatmap", "heatmap_2"]
    said = json.loads(model.metadata["onnxviz.explainer"])
    assert (said["target"], said["heatmap"]) == ("target_2", "heatmap_2")


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_with_the_preprocessing_folded_in_it_takes_pictures_of_any_size(resize):
    preprocess = {"resize": resize, "scale": 0.02, "mean": [1, 2, 3], "std": [0.5, 0.7, 0.9], "color": "BGR"}
    model = explainer(head_net(), fold_preprocess=True, preprocess=preprocess)
    assert [value.name for value in model.inputs] == ["image", "target"]
    for size in ((31, 17), (12, 40)):
        pictures = np.random.default_rng(1).integers(0, 256, (2, *size, 3), dtype=np.uint8)
        found = run(model, {"image": pictures, "target": np.array([1, -1])})
        expected = explain(head_net(), list(pictures), target=[1, "top1"], preprocess=preprocess)
        assert found["heatmap"].shape == (2, *size)
        for n in range(2):
            laid = np.clip(place(expected.heatmap[n], expected.pictures.boxes[n], size), 0, 1)
            np.testing.assert_allclose(found["heatmap"][n], laid, atol=1e-5)


def test_the_model_that_comes_along_with_its_own_preprocessing(tmp_path):
    from PIL import Image

    explainer(samples.sample_model(), fold_preprocess=True).save(tmp_path / "e.onnx")
    picture = np.asarray(Image.open(samples.sample_picture()).convert("RGB"))
    found = run(load(tmp_path / "e.onnx"), {"image": picture[None], "target": np.array([281])})
    expected = explain(samples.sample_model(), samples.sample_picture(), target=281)
    laid = place(expected.heatmap[0], expected.pictures.boxes[0], picture.shape[:2])
    np.testing.assert_allclose(found["heatmap"][0], laid, atol=1e-5)


def test_what_cannot_be_exported():
    with pytest.raises(SelectorError, match=r"smoothgrad is no single graph.*these can: cam, grad-cam"):
        explainer(head_net(), "smoothgrad")
    with pytest.raises(SelectorError, match="no method 'gradcam'"):
        explainer(head_net(), "gradcam")
    with pytest.raises(ShapeError, match="leaves its size open"):
        explainer(cam_net("N,3,H,W"), fold_preprocess=True)
    with pytest.raises(SelectorError, match="takes one layer, not 2"):
        explainer(head_net(), "hires-cam", ["r1", "features"])
