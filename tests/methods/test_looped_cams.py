"""CAMs that take no gradient, each as one graph in plain onnxruntime, beside runs of many copies."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from methods.nets import cam_weights, net, noise
from methods.tail_nets import METHODS, NETS, PAIRS, SMALL, WEIGHTS, X, maps

from onnxviz import load
from onnxviz.errors import DisconnectedError
from onnxviz.graph.selectors import select_one
from onnxviz.methods.attribution import looped
from onnxviz.methods.attribution.baselines import baseline
from onnxviz.methods.attribution.pose import pose
from onnxviz.methods.attribution.question import Bench
from onnxviz.methods.query import ask


def score_cam(model, layer, scores, keep=(), **settings):
    return looped.score_cam(model, layer, scores, ask(model, _picture(model)).where, keep, **settings)


def _picture(model):
    shape = [size if isinstance(size, int) else 1 for size in model.inputs[0].shape]
    return np.zeros([1, *shape[1:]], np.float32)


WRITTEN = {
    "ablation-cam": (looped.ablation_cam, {}, {}),
    "recipro-cam": (looped.recipro_cam, {}, {}),
    "recipro-cam, one place": (looped.recipro_cam, {"gaussian": False}, {"gaussian": False}),
    "score-cam": (score_cam, {}, {}),
    "faster-score-cam": (score_cam, {"channels": 2}, {"channels": 2}),
    "is-cam": (score_cam, {"steps": 3}, {"steps": 3}),
}


def run(model, x, weights, batch=1):
    """The outputs for each picture; the weights of its four scores are a mapping."""
    proto = model.proto()
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    table = np.zeros((len(x), 4), np.float32)
    for row, given in zip(table, weights, strict=True):
        row[list(given)] = list(given.values())
    names = [value.name for value in model.outputs]
    pieces = [
        session.run(names, {"x": x[n : n + batch], model.cotangent: table[n : n + batch]})
        for n in range(0, len(x), batch)
    ]
    return {name: np.concatenate(parts) for name, *parts in zip(names, *pieces, strict=True)}


@pytest.mark.parametrize("which", NETS)
@pytest.mark.parametrize("name", WRITTEN)
def test_one_graph_gives_the_maps_of_many_runs(name, which):
    build, x = NETS[which]
    write, own, settings = WRITTEN[name]
    expected = maps(build(), x, name.partition(",")[0], "r1", **settings)
    model = load(build())
    batch = 2 if "of 2" in which else 1 if "of 1" in which else 4
    pictures = x[[picture for picture, _ in PAIRS]]
    written = write(model, select_one(model, "r1"), "logits", **own)
    assert [value.name for value in written.outputs] == ["cam"]
    found = run(written, pictures, WEIGHTS, batch)["cam"]
    # A mask that rounds otherwise may move an 8-bit number by one.
    close = 0.02 if which.startswith("Q") and write is score_cam else 1e-5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=close, atol=close * np.abs(other).max())


@pytest.mark.parametrize("name", WRITTEN)
def test_the_model_s_own_answers_may_be_kept(name):
    write, own, _ = WRITTEN[name]
    model = load(net(SMALL, cam_weights()))
    written = write(model, select_one(model, "r1"), "logits", keep=["logits"], **own)
    found = run(written, X, [{1: 1}] * 3, 3)
    assert list(found) == ["logits", "cam"]
    assert found["cam"].shape == (3, 4, 5)
    session = onnxruntime.InferenceSession(model.serialize(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(found["logits"], session.run(None, {"x": X})[0], rtol=1e-5, atol=1e-6)


def test_a_question_feeds_it_the_weights_of_its_targets():
    model = load(net(SMALL, cam_weights()))
    question = pose(ask(model, X), PAIRS, Bench("cpu")).question
    written = looped.ablation_cam(question.model, select_one(model, "r1"), question.scores.tensor)
    expected = maps(net(SMALL, cam_weights()), X, "ablation-cam", "r1")
    for one, other in zip(question.run(written)["cam"], expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_masks_may_blend_towards_a_colour():
    model = load(net(SMALL, cam_weights()))
    question = pose(ask(model, X, preprocess="imagenet"), PAIRS, Bench("cpu")).question
    base = baseline(question, 0, "#336699")
    assert np.ptp(base)
    layer = select_one(model, "r1")
    written = looped.score_cam(question.model, layer, "logits", question.query.where, base=base)
    expected = METHODS["score-cam"](question, [layer], {"baseline": "#336699"}).raw
    for one, other in zip(question.run(written)["cam"], expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_channels_that_are_the_same_everywhere_get_no_weight():
    weights = cam_weights()
    weights["w1"][[1, 4]] = 0
    weights["b1"][[1, 4]] = [0.7, -1]
    for name in ("score-cam", "faster-score-cam"):
        write, own, settings = WRITTEN[name]
        own, settings = ({"channels": 5}, {"channels": 5}) if own else (own, settings)
        model = load(net(SMALL, weights))
        [expected] = maps(net(SMALL, weights), X, name, "r1", [(0, 1)], **settings)
        found = run(write(model, select_one(model, "r1"), "logits", **own), X[:1], [{1: 1}])["cam"]
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
    weights["w1"][:] = 0
    model = load(net(SMALL, weights))
    assert not run(score_cam(model, select_one(model, "r1"), "logits"), X[:1], [{1: 1}])["cam"].any()


TOKENS = """(float[N,3,8,10] x) => (float[N,4] logits) {
    patches = Conv <strides = [2,2]> (x, w1)
    flat = Reshape (patches, rows)
    turned = Transpose <perm = [0,2,1]> (flat)
    many = Shape <end = 1> (x)
    one = Constant <value_ints = [1, 6]> ()
    shape = Concat <axis = 0> (many, one)
    first = Expand (cls, shape)
    tokens = Concat <axis = 1> (first, turned)
    mixed = MatMul (tokens, wm)
    r1 = Tanh (mixed)
    scores = MatMul (r1, wa)
    attention = Softmax <axis = 1> (scores)
    weighed = Mul (r1, attention)
    pooled = ReduceSum <keepdims = 0> (weighed, axis)
    logits = MatMul (pooled, w3)
}"""


@pytest.mark.parametrize("name", WRITTEN)
def test_tokens_lie_on_the_grid_that_they_were_cut_from(name):
    rng = np.random.default_rng(2)
    weights = {
        "w1": rng.normal(0, 0.5, (6, 3, 2, 2)).astype(np.float32),
        "rows": np.array([0, 6, -1]),
        "cls": rng.normal(0, 1, (1, 1, 6)).astype(np.float32),
        "wm": rng.normal(0, 0.5, (6, 6)).astype(np.float32),
        "wa": rng.normal(0, 0.5, (6, 1)).astype(np.float32),
        "axis": np.array([1]),
        "w3": rng.normal(0, 0.5, (6, 4)).astype(np.float32),
    }
    write, own, settings = WRITTEN[name]
    model = load(net(TOKENS, weights))
    layer = replace(select_one(model, "r1"), grid=(1,), channel=2, tokens=(1, 4, 5))
    question = pose(ask(model, X), PAIRS, Bench("cpu")).question
    expected = METHODS[name.partition(",")[0]](question, [layer], settings).raw
    found = question.run(write(model, layer, "logits", **own))["cam"]
    assert found.shape == (4, 4, 5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("name", ["ablation-cam", "recipro-cam", "score-cam"])
def test_a_half_precision_model_gives_nearly_the_same_map(name):
    text = SMALL.replace("float[", "float16[")
    half = load(net(text, {key: array.astype(np.float16) for key, array in cam_weights().items()}))
    write, own, _ = WRITTEN[name]
    written = write(half, select_one(half, "r1"), "logits", **own)
    assert written.outputs[0].dtype == "float32"
    question = pose(ask(half, X), PAIRS, Bench("cpu")).question
    expected = maps(net(SMALL, cam_weights()), X, name, "r1")
    for one, other in zip(question.run(written)["cam"], expected, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02 * np.abs(other).max())


@pytest.mark.parametrize("name", WRITTEN)
def test_a_layer_that_does_not_lead_to_the_scores_is_refused(name):
    text = SMALL.replace("(float[N,4] logits)", "(float[N,4] logits, float[N,5,4,5] side)").replace(
        "features =", "side = Neg (c2) features ="
    )
    model = load(net(text, cam_weights()))
    write, own, _ = WRITTEN[name]
    with pytest.raises(DisconnectedError, match="side"):
        write(model, select_one(model, "side"), "logits", **own)


def test_sizes_may_be_open():
    text = SMALL.replace("[N,3,8,10]", "[N,3,H,W]")
    model = load(net(text, cam_weights()))
    layer = select_one(model, "r1")
    for name in ("ablation-cam", "recipro-cam", "score-cam"):
        write, own, settings = WRITTEN[name]
        written = write(model, layer, "logits", **own)
        for height, width in ((8, 10), (12, 6)):
            x = noise(2, 3, height, width)
            expected = maps(net(text, cam_weights()), x, name, "r1", [(0, 1), (1, 2)], **settings)
            found = run(written, x, [{1: 1}, {2: 1}], 2)["cam"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
