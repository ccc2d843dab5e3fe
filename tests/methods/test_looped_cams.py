"""CAMs that take no gradient, each as one graph in plain onnxruntime, beside runs of many copies."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from methods.nets import cam_weights, net, noise, run_plainly
from methods.tail_nets import METHODS, NETS, PAIRS, SMALL, WEIGHTS, X, maps

from onnxviz import load
from onnxviz.errors import DisconnectedError, SelectorError, ShapeError
from onnxviz.graph.layers import Layer
from onnxviz.graph.selectors import select_one
from onnxviz.methods.attribution.baselines import baseline
from onnxviz.methods.attribution.method import MAP
from onnxviz.methods.attribution.pose import pose
from onnxviz.methods.attribution.question import Bench, Subject
from onnxviz.methods.query import ask
from onnxviz.methods.scores import find_scores

SETTINGS = {
    "ablation-cam": {},
    "recipro-cam": {},
    "recipro-cam, one place": {"gaussian": False},
    "score-cam": {},
    "faster-score-cam": {"channels": 2},
    "ss-cam": {"samples": 3},
    "is-cam": {"steps": 3},
    "is-cam, running sums": {"steps": 3, "cumulative": True},
    "random": {},
}


def written(name, model, layer="r1", keep=(), **settings):
    """A method's graph at a layer, and with other settings than its own."""
    model = load(model)
    subject = Subject(model, find_scores(model), "x", Bench("cpu"), keep)
    layer = layer if isinstance(layer, Layer) else select_one(model, layer)
    return METHODS[name.partition(",")[0]].graph(subject, [layer], **{**SETTINGS[name], **settings})


def of_runs(name, model, x=X, pairs=PAIRS):
    return maps(model, x, name.partition(",")[0], "r1", pairs, **SETTINGS[name])


MASKED = ("score", "faster", "ss", "is")


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
        session.run(names, {"x": x[n : n + batch]} | _target(model, table[n : n + batch]))
        for n in range(0, len(x), batch)
    ]
    return {name: np.concatenate(parts) for name, *parts in zip(names, *pieces, strict=True)}


def _target(model, table):
    if model.cotangent is None:
        return {}
    [given] = [value for value in model.inputs if value.name == model.cotangent]
    return {model.cotangent: table.astype(given.dtype)}


@pytest.mark.parametrize("which", NETS)
@pytest.mark.parametrize("name", SETTINGS)
def test_one_graph_gives_the_maps_of_many_runs(name, which):
    build, x = NETS[which]
    batch = 2 if "of 2" in which else 1 if "of 1" in which else 4
    model = written(name, build())
    assert [value.name for value in model.outputs] == [MAP]
    found = run(model, x[[picture for picture, _ in PAIRS]], WEIGHTS, batch)[MAP]
    # A mask that rounds otherwise may move an 8-bit number by one.
    close = 0.02 if which.startswith("Q") and name.startswith(MASKED) else 1e-5
    for one, other in zip(found, of_runs(name, build(), x), strict=True):
        np.testing.assert_allclose(one, other, rtol=close, atol=close * np.abs(other).max())


@pytest.mark.parametrize("name", SETTINGS)
def test_the_model_s_own_answers_may_be_kept(name):
    model = net(SMALL, cam_weights())
    found = run(written(name, model, keep=("logits",)), X, [{1: 1}] * 3, 3)
    assert list(found) == ["logits", MAP]
    assert found[MAP].shape == (3, 4, 5)
    np.testing.assert_allclose(found["logits"], run_plainly(model, {"x": X})["logits"], rtol=1e-5, atol=1e-6)


def test_a_question_feeds_it_the_weights_of_its_targets():
    model = net(SMALL, cam_weights())
    question = pose(ask(load(model), X), PAIRS, Bench("cpu")).question
    found = question.run(written("ablation-cam", question.model))[MAP]
    np.testing.assert_allclose(found, of_runs("ablation-cam", model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["score-cam", "is-cam, running sums"])
def test_pictures_of_bytes_are_masked_as_bytes(name):
    """A running sum ends above 1, and bytes at 255."""
    text = SMALL.replace("float[N,3,8,10] x", "uint8[N,3,8,10] bytes").replace(
        "c1 =", "wide = Cast <to = 1> (bytes) x = Mul (wide, scale) c1 ="
    )
    model = load(net(text, {**cam_weights(), "scale": np.array(0.01, np.float32)}))
    bytes_ = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3)).astype(np.uint8)
    question = pose(ask(model, list(bytes_), preprocess="raw"), PAIRS, Bench("cpu")).question
    assert question.inputs().dtype == np.uint8
    layer = select_one(model, "r1")
    expected = METHODS[name.partition(",")[0]](question, [layer], SETTINGS[name]).raw
    graph = METHODS[name.partition(",")[0]].graph
    found = question.run(graph(question.subject, [layer], **SETTINGS[name]))[MAP]
    # A mask that rounds otherwise may move a byte by one.
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


def test_masks_may_blend_towards_a_colour():
    model = load(net(SMALL, cam_weights()))
    question = pose(ask(model, X, preprocess="imagenet"), PAIRS, Bench("cpu")).question
    base = baseline(question, 0, "#336699")
    assert np.ptp(base)
    found = question.run(written("score-cam", model, base=base))[MAP]
    expected = METHODS["score-cam"](question, [select_one(model, "r1")], {"baseline": "#336699"}).raw
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["score-cam", "faster-score-cam"])
def test_channels_that_are_the_same_everywhere_get_no_weight(name):
    weights = cam_weights()
    weights["w1"][[1, 4]] = 0
    weights["b1"][[1, 4]] = [0.7, -1]
    own = {"channels": 5} if name == "faster-score-cam" else {}
    model = net(SMALL, weights)
    expected = maps(model, X, name, "r1", [(0, 1)], **own)
    found = run(written(name, model, **own), X[:1], [{1: 1}])[MAP]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    weights["w1"][:] = 0
    assert not run(written(name, net(SMALL, weights)), X[:1], [{1: 1}])[MAP].any()


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


@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_lie_on_the_grid_that_they_were_cut_from(name):
    rng = np.random.default_rng(2)
    shapes = {"w1": (6, 3, 2, 2), "cls": (1, 1, 6), "wm": (6, 6), "wa": (6, 1), "w3": (6, 4)}
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    model = load(net(TOKENS, {**weights, "rows": np.array([0, 6, -1]), "axis": np.array([1])}))
    layer = replace(select_one(model, "r1"), grid=(1,), channel=2, tokens=(1, 4, 5))
    question = pose(ask(model, X), PAIRS, Bench("cpu")).question
    expected = METHODS[name.partition(",")[0]](question, [layer], SETTINGS[name]).raw
    found = question.run(written(name, model, layer))[MAP]
    assert found.shape == (4, 4, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_half_precision_model_gives_nearly_the_same_map(name):
    text = SMALL.replace("float[", "float16[")
    half = load(net(text, {key: array.astype(np.float16) for key, array in cam_weights().items()}))
    model = written(name, half)
    assert model.outputs[0].dtype == "float32"
    question = pose(ask(half, X), PAIRS, Bench("cpu")).question
    expected = of_runs(name, net(SMALL, cam_weights()))
    for one, other in zip(question.run(model)[MAP], expected, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02 * np.abs(other).max())


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "random"])
def test_a_layer_that_does_not_lead_to_the_scores_is_refused(name):
    text = SMALL.replace("(float[N,4] logits)", "(float[N,4] logits, float[N,5,4,5] side)").replace(
        "features =", "side = Neg (c2) features ="
    )
    with pytest.raises(DisconnectedError, match="side"):
        written(name, net(text, cam_weights()), "side")


OPEN = SMALL.replace("[N,3,8,10]", "[N,3,H,W]")


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "ss-cam"])
def test_sizes_may_be_open(name):
    model = written(name, net(OPEN, cam_weights()))
    for height, width in ((8, 10), (12, 6)):
        x = noise(2, 3, height, width)
        expected = of_runs(name, net(OPEN, cam_weights()), x, [(0, 1), (1, 2)])
        found = run(model, x, [{1: 1}, {2: 1}], 2)[MAP]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_noise_needs_a_size():
    with pytest.raises(ShapeError, match=r"ss-cam: .* give its input a size"):
        written("ss-cam", net(OPEN, cam_weights()))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("faster-score-cam", {"channels": 0}), ("ss-cam", {"samples": 0}), ("is-cam", {"steps": -1})],
)
def test_counts_below_one_are_refused(name, settings):
    with pytest.raises(SelectorError, match="1 or more"):
        written(name, net(SMALL, cam_weights()), **settings)


def test_every_method_that_takes_no_gradient_can_be_written():
    assert all(method.graph is not None for method in METHODS.values())
    assert set(METHODS) == {name.partition(",")[0] for name in SETTINGS}


@pytest.mark.parametrize("name", ["ablation-cam", "recipro-cam"])
def test_a_target_that_the_layer_does_not_move_has_a_map_of_zeros(name):
    weights = cam_weights()
    weights["w3"][1] = 0
    [found] = maps(net(SMALL, weights), X, name, "r1", [(0, 1)])
    assert not found.any()
    assert not run(written(name, net(SMALL, weights)), X[:1], [{1: 1}])[MAP].any()


BRANCH = """
    sum = ReduceSum <keepdims = 0> (r1)
    zero = Constant <value_float = 0.0> ()
    large = Greater (sum, zero)
    c2 = If (large) <
        then_branch = one () => (float[N,5,4,5] y) { y = Conv <pads = [1,1,1,1]> (r1, w2) },
        else_branch = two () => (float[N,5,4,5] z) { y2 = Conv <pads = [1,1,1,1]> (r1, w2) z = Neg (y2) }
    >
"""


@pytest.mark.parametrize("name", SETTINGS)
def test_graphs_nested_behind_the_layer_are_written_once_more(name):
    text = SMALL.replace("c2 = Conv <pads = [1,1,1,1]> (r1, w2)", BRANCH)
    assert "If" in text
    model = written(name, net(text, cam_weights()))
    found = run(model, X[:1], [{1: 1}])[MAP]
    expected = of_runs(name, net(SMALL, cam_weights()), X[:1], [(0, 1)])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
