import json
import re
from dataclasses import replace

import numpy as np
import pytest
from methods.nets import cam_net, cam_weights, net, noise, run_plainly

from onnxviz import Target, load, samples
from onnxviz.errors import SelectorError, ShapeError, TargetError
from onnxviz.methods.attribution.layers import default_layers
from onnxviz.methods.explain import explain, explain_each
from onnxviz.methods.query import ask
from onnxviz.methods.scores import find_scores
from onnxviz.methods.target import expand, output_named, probabilities, resolve, top

X = noise(4, 3, 8, 10)
LABELS = json.dumps(["red fox, Vulpes vulpes", "crane", "Crane, digger", "tabby, tabby cat"])
BODY = """
    c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2)
    features = Relu (c2)
    pooled = GlobalAveragePool (features)
    flat = Flatten (pooled)
    logits = Gemm <transB = 1> (flat, w3, b3)
"""


def ending(text, outputs, opset=18, **weights):
    """The net of two convolutions, its logits [N,4] continued by `text`."""
    return net(f"(float[N,3,8,10] x) => ({outputs}) {{ {BODY} {text} }}", {**cam_weights(), **weights}, opset)


def labelled():
    model = cam_net()
    model.metadata_props.add(key="onnxviz.labels", value=LABELS)
    return model


@pytest.fixture(scope="module")
def logits():
    return run_plainly(cam_net(), {"x": X})["logits"].astype(np.float64)


def softmax(scores):
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("target", "index"),
    [
        (0, 0),
        ("3", 3),
        (" 2 ", 2),
        (np.int64(1), 1),
        ("red fox", 0),
        ("VULPES vulpes", 0),
        ("  Red Fox ", 0),
        ("red fox, vulpes vulpes", 0),
        ("digger", 2),
        ("tabby cat", 3),
    ],
)
def test_a_class_by_index_or_by_any_of_its_names(target, index, logits):
    found = explain(labelled(), X, target=target)
    assert found.target == (index,) * 4
    np.testing.assert_allclose(found.score, logits[:, index], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.probability, softmax(logits)[:, index], rtol=1e-4)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("crane", r"names several classes.*1 \(crane\), 2 \(Crane, digger\)"),
        ("tabbi", "no class is called 'tabbi'; did you mean 'tabby'"),
        ("", "no class is called ''"),
        (4, "no class 4: output 'logits' has classes 0 to 3"),
        (-1, "no class -1"),
        ("--1", "no class"),
        ("²", "no class"),
        ("top-9999", "more than 1000 classes"),
        ("top0", "top0"),
        ("0 vs 1 vs 2", "more than two"),
        ("0 vs nobody", "no class is called 'nobody'"),
        ("1.5", "no class is called '1.5'"),
        ("logits[0]", r"needs 2 numbers.*\[N,4\].*such as logits\[0,0\]"),
        ("logits[0,0,0]", "needs 2 numbers"),
        ("logits[0,4]", "out of range on axis 1: 0 to 3"),
        ("logits[1,0]", "axis 0: the first index is the batch"),
        ("other[0,0]", "no output 'other'"),
        ("logits[0,a]", "no class is called"),
        ("logits[0,-1]", "no class is called"),
        ("logits[]", "needs 2 numbers"),
    ],
)
def test_a_target_that_does_not_exist_is_refused_by_name(target, message):
    with pytest.raises((TargetError, SelectorError), match=message):
        explain(labelled(), X, target=target)


@pytest.mark.parametrize("target", ["top5", "top3", "top-2"])
def test_a_target_that_is_several_is_refused_for_one_explanation(target):
    with pytest.raises(TargetError, match="give one per picture"):
        explain(labelled(), X, target=target)


def test_a_label_needs_labels():
    with pytest.raises(TargetError, match="--labels FILE"):
        explain(cam_net(), X, target="tabby")


def test_labels_may_come_from_a_file(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("one\ntwo\nthree\nfour\nfive\n")
    found = explain(labelled(), X[:1], target="three", labels=file)
    assert found.target == (2,)
    assert found.manifest["target"] == [{"index": 2, "label": "three"}]
    with pytest.raises(TargetError, match="class 'five' is 4, but output 'logits' has 4 classes"):
        explain(labelled(), X[:1], target="five", labels=file)


def test_the_shipped_labels_hold_two_cranes():
    with pytest.raises(TargetError, match=r"134 \(.*crane.*517 \(.*crane"):
        explain(samples.sample_model(), samples.sample_picture(), target="Crane")
    with pytest.raises(TargetError, match="did you mean 'Egyptian cat'"):
        explain(samples.sample_model(), samples.sample_picture(), target="egyptain cat")


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("top5", ["top-1", "top-2", "top-3", "top-4", "top-5"]),
        ("Top-2", ["top-1", "top-2"]),
        ("top1", ["top1"]),
        (7, [7]),
        ("tabby", ["tabby"]),
        ("top hat", ["top hat"]),
    ],
)
def test_top_k_stands_for_so_many_targets(text, several):
    assert expand(text) == several


def test_top_ranks_are_resolved_for_each_picture(logits):
    query = ask(cam_net(), X)
    found = explain_each(query, [(n, one) for n in range(4) for one in expand("top4")])
    assert found.target == tuple(np.argsort(-logits, axis=1).ravel())
    np.testing.assert_allclose(found.score, -np.sort(-logits, axis=1).ravel(), rtol=1e-4, atol=1e-6)
    with pytest.raises(TargetError, match="'top-5': output 'logits' has 4 classes"):
        explain_each(query, [(0, one) for one in expand("top5")])


def test_one_target_for_each_picture(logits):
    found = explain(labelled(), X, target=[3, "red fox", "top1", "0 vs 1"])
    assert found.target == (3, 0, int(logits[2].argmax()), "red fox vs crane")
    expected = [logits[0, 3], logits[1, 0], logits[2].max(), logits[3, 0] - logits[3, 1]]
    np.testing.assert_allclose(found.score, expected, rtol=1e-4, atol=1e-6)
    assert np.isnan(found.probability).tolist() == [False, False, False, True]
    assert found.manifest["probability"][3] is None


def test_one_target_in_a_list_is_for_all_pictures():
    assert explain(cam_net(), X, target=[2]).target == (2, 2, 2, 2)


@pytest.mark.parametrize("targets", [[0, 1], [0, 1, 2, 3, 0], []])
def test_a_list_of_another_length_than_the_pictures_is_refused(targets):
    with pytest.raises(TargetError, match=f"{len(targets)} targets for 4 pictures"):
        explain(cam_net(), X, target=targets)


@pytest.mark.parametrize("method", ["grad-cam", "gradient"])
def test_a_contrast_is_the_difference_of_two_maps(method):
    first, second = (explain(labelled(), X, method, target=index) for index in (0, 3))
    found = explain(labelled(), X, method, target="red fox vs tabby")
    np.testing.assert_allclose(found.raw, first.raw - second.raw, atol=1e-6)
    np.testing.assert_allclose(found.score, first.score - second.score, atol=1e-6)
    assert found.target == ("red fox vs tabby",) * 4


@pytest.mark.parametrize("text", ["0 vs 3", "0 vs. 3", "red fox vs 3", " 0  vs  tabby cat "])
def test_a_contrast_may_be_written_in_several_ways(text):
    assert explain(labelled(), X[:1], target=text).target == ("red fox vs tabby",)


def test_a_target_of_ones_own_is_a_weighted_sum(logits):
    own = Target("the mean", ((0, 0.5), (2, 0.5)))
    found = explain(cam_net(), X, target=own)
    np.testing.assert_allclose(found.score, logits[:, [0, 2]].mean(axis=1), rtol=1e-4, atol=1e-6)
    halves = [explain(cam_net(), X, target=index).raw for index in (0, 2)]
    np.testing.assert_allclose(found.raw, sum(halves) / 2, atol=1e-6)


def test_an_element_of_a_plain_output_is_its_class(logits):
    expected = explain(cam_net(), X, target=2)
    for text in ("logits[0,2]", "logits[0, 2]", "[0,2]"):
        found = explain(cam_net(), X, target=text)
        np.testing.assert_allclose(found.raw, expected.raw, atol=1e-7)
        np.testing.assert_allclose(found.score, logits[:, 2], rtol=1e-4, atol=1e-6)
        assert found.target == ("logits[0,2]",) * 4


@pytest.mark.parametrize(
    ("text", "name"),
    [("boxes[0,1]", "boxes"), ("[0,1]", None), ("tabby", None), (3, None), ("a/b[1]", "a/b")],
)
def test_the_output_that_a_target_names(text, name):
    assert output_named(text) == name


SQUASHERS = {
    "Softmax": ("y = Softmax <axis = 1> (logits)", "float[N,4] y"),
    "LogSoftmax": ("y = LogSoftmax <axis = -1> (logits)", "float[N,4] y"),
    "Sigmoid": ("y = Sigmoid (logits)", "float[N,4] y"),
    "Softmax, Identity": ("p = Softmax (logits) y = Identity (p)", "float[N,4] y"),
    "Softmax, Reshape": ("p = Softmax (logits) y = Reshape (p, to)", "float[N,1,4] y"),
    "Softmax, Flatten": ("p = Softmax (logits) q = Reshape (p, to) y = Flatten (q)", "float[N,4] y"),
    "Softmax, Cast": ("p = Softmax (logits) y = Cast <to = 11> (p)", "double[N,4] y"),
    "Softmax, Unsqueeze, Squeeze": (
        "p = Softmax (logits) u = Unsqueeze (p, two) y = Squeeze (u, two)",
        "float[N,4] y",
    ),
    "Reshape, Softmax": ("r = Reshape (logits, to) y = Softmax (r)", "float[N,1,4] y"),
    "Softmax over [N,4,1,1]": ("r = Reshape (logits, map) y = Softmax <axis = 1> (r)", "float[N,4,1,1] y"),
    "Softmax, quantised": (
        "p = Softmax (logits) q = QuantizeLinear (p, scale, zero) y = DequantizeLinear (q, scale, zero)",
        "float[N,4] y",
    ),
    "Softmax, quantised output": (
        "p = Softmax (logits) y = QuantizeLinear (p, scale, zero)",
        "uint8[N,4] y",
    ),
    "Softmax, quantised signed": (
        "p = Softmax (logits) y = QuantizeLinear (p, scale, least)",
        "int8[N,4] y",
    ),
    "Sigmoid, quantised output": (
        "p = Sigmoid (logits) y = QuantizeLinear (p, scale, zero)",
        "uint8[N,4] y",
    ),
}
CONSTANTS = {
    "to": np.array([-1, 1, 4]),
    "map": np.array([-1, 4, 1, 1]),
    "two": np.array([2]),
    "scale": np.float32(1 / 256),
    "zero": np.uint8(0),
    "least": np.int8(-128),
}


@pytest.mark.parametrize("name", SQUASHERS)
def test_a_final_squashing_is_stepped_over(name, logits):
    text, output = SQUASHERS[name]
    found = explain(ending(text, output, **CONSTANTS), X, target=1)
    expected = explain(cam_net(), X, target=1)
    np.testing.assert_allclose(found.raw, expected.raw, atol=1e-6)
    np.testing.assert_allclose(found.score, logits[:, 1], rtol=1e-4, atol=1e-6)
    chances = 1 / (1 + np.exp(-logits[:, 1])) if name.startswith("Sigmoid") else softmax(logits)[:, 1]
    np.testing.assert_allclose(found.probability, chances, atol=5e-3 if "quantised" in name else 1e-5)
    assert found.manifest["output"]["name"] == "y"
    assert found.manifest["output"]["stepped_over"] == re.match("(Reshape, )?(\\w+)", name)[2]


def test_without_a_squashing_the_output_itself_is_differentiated():
    found = explain(cam_net(), X[:1])
    assert found.manifest["output"] == {
        "name": "logits",
        "differentiated": "logits",
        "stepped_over": None,
    }


def test_a_softmax_in_the_middle_is_not_stepped_over():
    model = ending("p = Softmax (logits) y = Mul (p, p)", "float[N,4] y")
    found = explain(model, X[:1], target=0)
    assert found.manifest["output"]["stepped_over"] is None
    p = softmax(run_plainly(cam_net(), {"x": X[:1]})["logits"].astype(np.float64))
    assert found.score[0] == pytest.approx(p[0, 0] ** 2, rel=1e-4)


def test_a_single_logit_behind_a_sigmoid_is_class_zero(logits):
    weights = {"first": np.array([0]), "one": np.array([1]), "axis": np.array([1])}
    model = ending("s = Slice (logits, first, one, axis) y = Sigmoid (s)", "float[N,1] y", **weights)
    expected = explain(cam_net(), X, target=0)
    for target in (None, 0, "y[0,0]"):
        found = explain(model, X, target=target)
        np.testing.assert_allclose(found.raw, expected.raw, atol=1e-6)
        np.testing.assert_allclose(found.score, logits[:, 0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.probability, 1 / (1 + np.exp(-logits[:, 0])), rtol=1e-5)
    with pytest.raises(TargetError, match="no one axis of classes"):
        explain(model, X, target=1)


@pytest.mark.parametrize("target", [None, 0, "y[0]"])
def test_an_output_of_one_number_for_each_picture(target, logits):
    model = ending("y = Gather <axis = 1> (logits, first)", "float[N] y", first=np.array(2))
    found = explain(model, X, target=target)
    np.testing.assert_allclose(found.raw, explain(cam_net(), X, target=2).raw, atol=1e-6)
    np.testing.assert_allclose(found.score, logits[:, 2], rtol=1e-4, atol=1e-6)
    with pytest.raises(TargetError, match="no one axis of classes"):
        explain(model, X, target=1)


@pytest.mark.parametrize("batch", ["1", "N"])
def test_an_output_without_a_batch_axis_is_the_answer_for_one_picture(batch, logits):
    model = ending("p = Softmax (logits) y = Reshape (p, all)", "float[4] y", all=np.array([4]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    if batch == "N":
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    found = explain(model, X, target=["top1", 1, "y[3]", "2 vs 0"])
    best = int(logits[0].argmax())
    assert found.target == (best, 1, "y[3]", "class 2 vs class 0")
    expected = [logits[0, best], logits[1, 1], logits[2, 3], logits[3, 2] - logits[3, 0]]
    np.testing.assert_allclose(found.score, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.probability[1], softmax(logits)[1, 1], rtol=1e-4)
    np.testing.assert_allclose(found.raw[1], explain(cam_net(), X[1:2], target=1).raw[0], atol=1e-6)
    assert [len(entries) for entries in found.manifest["top5"]] == [4] * 4


def test_scores_that_lie_flat_within_a_model_of_one_picture(logits):
    text = "f = Reshape (logits, all) p = Softmax <axis = 0> (f) y = Reshape (p, one)"
    model = ending(text, "float[1,4] y", all=np.array([4]), one=np.array([1, 4]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    found = explain(model, X, target=2)
    assert found.manifest["output"]["differentiated"] == "f"
    np.testing.assert_allclose(found.score, logits[:, 2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.raw, explain(cam_net(), X, target=2).raw, atol=1e-6)


def test_rows_of_detections_without_a_batch_axis_are_named_by_their_own_numbers():
    model = ending("rows = Reshape (c2, to)", "float[80,5] rows", to=np.array([80, 5]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    plain = [run_plainly(model, {"x": x[None]})["rows"] for x in X]
    found = explain(model, X, target="rows[17,3]", layer="r1")
    np.testing.assert_allclose(found.score, [rows[17, 3] for rows in plain], rtol=1e-5)
    for target, message in (
        ("top1", r"'rows\[0,0\]'"),
        ("rows[80,0]", "axis 0: 0 to 79"),
        ("rows[0,0,0]", "2 numbers"),
    ):
        with pytest.raises(TargetError, match=message):
            explain(model, X, target=target)


def test_one_number_for_the_whole_batch_is_no_score_of_a_picture():
    model = ending("y = ReduceSum <keepdims = 0> (logits)", "float y")
    with pytest.raises(ShapeError, match="can hold scores"):
        explain(model, X)
    with pytest.raises(ShapeError, match="one number for the whole batch"):
        explain(model, X, output="y")
    both = ending("y = ReduceSum <keepdims = 0> (logits)", "float y, float[N,4] logits")
    assert explain(both, X[:1]).manifest["output"]["name"] == "logits"


OPSET_7 = """
    (float[1,3,8,10] x, float[6,3,3,3] w1, float[6] b1, float[4,6,1,1] w4) => (float[1,4,1,1] probs) {
        c1 = Conv <pads = [1,1,1,1], kernel_shape = [3,3]> (x, w1, b1)
        r1 = Relu (c1)
        c4 = Conv <kernel_shape = [1,1]> (r1, w4)
        features = Relu (c4)
        pooled = GlobalAveragePool (features)
        probs = Softmax <axis = 1> (pooled)
    }
"""


def opset_7_net():
    weights = {name: cam_weights()[name] for name in ("w1", "b1")}
    weights["w4"] = np.random.default_rng(4).normal(0, 0.5, (4, 6, 1, 1)).astype(np.float32)
    return net(OPSET_7, weights, opset=7)


def test_a_four_dimensional_softmax_of_an_old_opset():
    model = opset_7_net()
    found = explain(model, X, target=["top1", 1, 2, "3 vs 0"])
    plain = [run_plainly(model, {"x": x[None]}, ["pooled", "features"]) for x in X]
    pooled = np.stack([one["pooled"].reshape(4) for one in plain]).astype(np.float64)
    assert found.target == (int(pooled[0].argmax()), 1, 2, "class 3 vs class 0")
    expected = [pooled[0].max(), pooled[1, 1], pooled[2, 2], pooled[3, 3] - pooled[3, 0]]
    np.testing.assert_allclose(found.score, expected, rtol=1e-5)
    np.testing.assert_allclose(found.probability[1], softmax(pooled)[1, 1], rtol=1e-5)
    features = np.stack([one["features"][0] for one in plain])
    np.testing.assert_allclose(found.raw[1], features[1, 1] / 80, rtol=1e-4, atol=1e-7)
    assert found.manifest["output"]["stepped_over"] == "Softmax"
    assert [len(entries) for entries in found.manifest["top5"]] == [4] * 4


TWO_OUTPUTS = "embedding = Identity (flat) probs = Softmax (logits)"


def test_the_first_output_that_looks_like_scores_is_chosen():
    model = ending(TWO_OUTPUTS, "float[N,5] embedding, float[N,4] probs")
    assert explain(model, X[:1]).manifest["output"]["name"] == "probs"
    found = explain(model, X[:1], target=2, output="embedding")
    assert found.manifest["output"]["name"] == "embedding"
    flat = run_plainly(cam_net(), {"x": X[:1]}, ["flat"])["flat"]
    np.testing.assert_allclose(found.score, flat[:, 2], rtol=1e-5)
    found = explain(model, X[:1], target="embedding[0,3]")
    np.testing.assert_allclose(found.score, flat[:, 3], rtol=1e-5)
    with pytest.raises(SelectorError, match="no output 'prob'; did you mean 'probs'"):
        explain(model, X[:1], output="prob")
    with pytest.raises(TargetError, match="targets on several outputs"):
        explain(model, X[:2], target=["embedding[0,3]", "probs[0,1]"])


@pytest.mark.parametrize(
    ("text", "outputs", "expected"),
    [
        ("mask = Greater (logits, logits)", "bool[N,4] mask, float[N,4] logits", "logits"),
        ("best = ArgMax <axis = 1, keepdims = 0> (logits)", "int64[N] best, float[N,4] logits", "logits"),
        ("maps = Identity (features)", "float[N,5,8,10] maps, float[N,4] logits", "logits"),
        ("maps = Softmax <axis = 1> (features)", "float[N,4] logits, float[N,5,8,10] maps", "maps"),
        ("maps = Identity (features)", "float[N,5,8,10] maps", "maps"),
    ],
)
def test_which_output_looks_like_scores(text, outputs, expected):
    assert find_scores(load(ending(text, outputs))).output == expected


def test_outputs_without_numbers_hold_no_scores():
    with pytest.raises(ShapeError, match="can hold scores"):
        find_scores(load(ending("mask = Greater (logits, logits)", "bool[N,4] mask")))


def test_an_output_of_integers_that_nothing_leads_back_from_is_refused():
    best = "best = ArgMax <axis = 1, keepdims = 0> (logits)"
    with pytest.raises(ShapeError, match=r"none of the outputs best int64\[N\] can hold scores"):
        explain(ending(best, "int64[N] best"), X)
    small = f"{best} mask = Cast <to = 2> (best)"
    assert find_scores(load(ending(small, "uint8[N] mask, float[N,4] logits"))).output == "logits"
    with pytest.raises(ShapeError, match="'best' does not hold floats"):
        explain(ending(small, "uint8[N] mask, float[N,4] logits"), X, output="mask")


def test_several_axes_need_an_element_and_the_message_shows_one():
    model = ending("maps = Identity (c2)", "float[N,5,8,10] maps")
    for target in (0, "top1", "tabby"):
        with pytest.raises(TargetError, match=r"no one axis of classes.*--target 'maps\[0,0,0,0\]'"):
            explain(model, X, target=target)
    found = explain(model, X, target="maps[0,2,3,4]", layer="r1")
    plain = run_plainly(cam_net(), {"x": X}, ["c2", "r1"])
    np.testing.assert_allclose(found.score, plain["c2"][:, 2, 3, 4], rtol=1e-5)
    # One 3x3 kernel reads the layer around that place.
    weights = cam_weights()["w2"][2].sum(axis=(1, 2)) / 80
    np.testing.assert_allclose(
        found.raw, np.einsum("k,nkhw->nhw", weights, plain["r1"]), rtol=1e-4, atol=1e-6
    )


def test_classes_at_many_places_are_taken_where_they_score_best():
    model = ending("maps = Softmax <axis = 1> (c2)", "float[N,5,8,10] maps")
    found = explain(model, X[:1], target=2, layer="r1")
    plain = run_plainly(cam_net(), {"x": X[:1]}, ["c2"])["c2"][0].astype(np.float64)
    chances = np.exp(plain) / np.exp(plain).sum(axis=0)
    row, column = np.unravel_index(chances[2].argmax(), (8, 10))
    assert found.score[0] == pytest.approx(plain[2, row, column], rel=1e-5)
    assert found.probability[0] == pytest.approx(chances[2].max(), rel=1e-5)
    assert found.manifest["target"][0]["label"] == f"class 2 at maps[0,2,{row},{column}]"


TWO_HEADS = """
    (float[N,3,8,8] x) => (float[N,20,4] boxes) {
        stem = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b1)
        trunk = Relu (stem)
        near = Conv <pads = [1,1,1,1]> (trunk, wa)
        near_features = Relu (near)
        near_scores = Conv (near_features, wc)
        down = Conv <pads = [1,1,1,1], strides = [2,2]> (trunk, wb)
        far_features = Relu (down)
        far_scores = Conv (far_features, wd)
        n1 = Reshape (near_scores, rows)
        n2 = Transpose <perm = [0,2,1]> (n1)
        f1 = Reshape (far_scores, rows)
        f2 = Transpose <perm = [0,2,1]> (f1)
        boxes = Concat <axis = 1> (n2, f2)
    }
"""


def two_heads():
    rng = np.random.default_rng(6)
    shapes = {
        "w1": (6, 3, 3, 3),
        "b1": (6,),
        "wa": (5, 6, 3, 3),
        "wb": (7, 6, 3, 3),
        "wc": (4, 5, 1, 1),
        "wd": (4, 7, 1, 1),
    }
    weights = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    return net(TWO_HEADS, {**weights, "rows": np.array([0, 4, -1])}), weights


@pytest.mark.parametrize(
    ("element", "layer", "kernel"), [((5, 2), "near_features", "wc"), ((17, 1), "far_features", "wd")]
)
@pytest.mark.parametrize("route", ["auto", "numeric"])
def test_the_default_layer_is_that_of_the_head_which_the_element_comes_from(element, layer, kernel, route):
    model, weights = two_heads()
    x = noise(2, 3, 8, 8)
    place, channel = element
    found = explain(model, x, target=f"boxes[0,{place},{channel}]", gradient=route)
    assert found.layer == layer
    features = run_plainly(model, {"x": x}, [layer])[layer]
    maps = np.einsum("k,nkhw->nhw", weights[kernel][channel, :, 0, 0], features) / features[0, 0].size
    np.testing.assert_allclose(found.raw, maps, atol=1e-6 if route == "auto" else 2e-3)


def test_elements_of_both_heads_in_one_explanation_keep_their_own_layers():
    model, _ = two_heads()
    found = explain(model, noise(2, 3, 8, 8), target=["boxes[0,17,1]", "boxes[0,5,2]"])
    assert [one.layers[0].name for one in found.evidence] == ["far_features", "near_features"]
    assert [one.shape for one in found.raw] == [(2, 2), (4, 4)]
    assert [layer["name"] for layer in found.manifest["layer"]] == ["far_features", "near_features"]
    assert found.heatmap.shape == (2, 8, 8)


def test_layers_that_hold_the_scores_themselves_are_no_default():
    model = load(two_heads()[0])
    found = default_layers(model, find_scores(model))
    assert [layer.name for layer in found] == ["far_features", "near_features"]


def test_the_five_likeliest_classes_are_in_order_with_their_names():
    found = explain(samples.sample_model(), samples.sample_picture())
    [entries] = found.manifest["top5"]
    assert [entry["index"] for entry in entries[:2]] == [285, 282]
    assert entries[0]["label"] == "Egyptian cat"
    assert entries[0]["probability"] == pytest.approx(0.51, abs=0.01)
    chances = [entry["probability"] for entry in entries]
    assert chances == sorted(chances, reverse=True)
    assert found.probability[0] == chances[0]


def scores_like(squashed=None, class_axis=1, shape=("N", 4)):
    found = find_scores(load(cam_net()))
    return replace(found, squashed=squashed, class_axis=class_axis, shape=shape)


def test_probabilities_of_extreme_scores_stay_numbers():
    for values in ([1e30, 0, 0, 0], [-1e30, 0, 1e4, 1e4], [np.nan] * 4, [np.inf, 0, 0, 0], [-np.inf] * 4):
        found = probabilities(np.array(values), scores_like())
        assert np.isfinite(found).all()
        assert 0 <= found.min() <= found.max() <= 1
    np.testing.assert_allclose(probabilities(np.array([0.0, 0.0]), scores_like()), [0.5, 0.5])


def test_probabilities_are_left_alone_where_they_are_some():
    values = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(probabilities(values, scores_like()), values)
    np.testing.assert_allclose(probabilities(np.log(values), scores_like("LogSoftmax")), values)
    np.testing.assert_array_equal(probabilities(values * 2, scores_like("Sigmoid")), values * 2)


def test_equal_scores_come_in_the_order_of_their_classes():
    values = np.zeros(6)
    assert [entry["index"] for entry in top(values, scores_like(shape=("N", 6)), None)] == [0, 1, 2, 3, 4]
    assert resolve("top1", scores_like(shape=("N", 6)), values, None).index == 0
