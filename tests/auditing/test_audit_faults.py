"""Planted faults are found under their own code, at the right layer; clean exports raise none."""

import warnings

import numpy as np
import onnx
import pytest
from auditing.exports import (
    FEED,
    MEAN,
    changed,
    channels_last,
    halved,
    photographs,
    plain,
    quantised,
    tensor,
    weights,
)  # fmt: skip
from onnx import numpy_helper

import onnxviz

INFO = {"opset-age", "custom-operator", "unused-range", "unmatched-layer"}


@pytest.fixture(name="files", scope="module")
def _files(tmp_path_factory):
    """The reference, its pictures, and quantised files of it."""
    folder = tmp_path_factory.mktemp("exports")
    pictures = photographs(folder / "pictures")
    onnx.save(plain(), folder / "reference.onnx")
    onnx.save(plain(fold=True), folder / "folded.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tool's own
        quantised(folder / "folded.onnx", folder / "qdq.onnx", pictures)
        quantised(folder / "folded.onnx", folder / "qoperator.onnx", pictures, operators=True)
    return folder


def audited(files, model, reference="reference.onnx", **options):
    if isinstance(model, onnx.ModelProto):
        onnx.save(model, files / "audited.onnx")
        model = "audited.onnx"
    reference = None if reference is None else files / reference
    return onnxviz.audit(
        files / model, files / "pictures", reference, device="cpu", **{"explain": 0, **options}
    )


def told(found):
    """The findings that speak against a file: (code, layer, channel)."""
    return [
        (one["code"], one["layer"], one["channel"]) for one in found["findings"] if one["severity"] != "info"
    ]


CLEAN = {
    "itself": lambda _: plain(),
    "BatchNormalization folded": lambda _: plain(fold=True),
    "opset raised": lambda _: onnx.version_converter.convert_version(plain(), 21),
    "an old opset": lambda _: plain(opset=11),
    "other names": lambda _: plain(fold=True, names="export/"),
    "channels last": lambda _: channels_last(),
    "float16": lambda _: halved(plain(fold=True)),
    "QDQ": lambda files: onnx.load(files / "qdq.onnx"),
    "QOperator": lambda files: onnx.load(files / "qoperator.onnx"),
}


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_export_raises_nothing(files, name):
    found = audited(files, CLEAN[name](files))
    assert told(found) == []
    assert {one["code"] for one in found["findings"]} <= INFO
    assert found["verdict"] == "pass"
    assert found["agreement"]["top1"] >= 0.9
    assert [layer["reference"] for layer in found["layers"]] == [
        "stem",
        "depthwise",
        "pointwise",
        "pool",
        "dense",
    ]
    assert found["unmatched"]["reference"] == []
    assert found["first_break"] is None


@pytest.mark.parametrize("name", ["channels last", "QDQ", "QOperator"])
def test_layers_are_matched_either_way_round(files, name):
    onnx.save(CLEAN[name](files), files / "other.onnx")
    found = audited(files, "reference.onnx", "other.onnx")
    assert told(found) == []
    assert [layer["name"] for layer in found["layers"]] == ["stem", "depthwise", "pointwise", "pool", "dense"]
    assert {layer["matched_by"] for layer in found["layers"]} == {"numbers"}


def zeroed(array):
    array[4] = 0


def poisoned(array):
    array[6, 1] = np.nan


def doubled(array):
    array[9] = array[3]


def wrong_fold(key, change):
    values = weights()
    kernel, norm = values["pointwise"]
    values["pointwise"] = (kernel, {**norm, key: change(norm[key])})
    return plain(values, fold=True)


def permuted():
    order = np.arange(10)
    order[[2, 5, 7]] = order[[5, 7, 2]]
    model = changed(plain(fold=True), "dense.w", lambda array: array[order])
    return changed(model, "dense.b", lambda array: array[order])


FAULTS = {
    "a channel zeroed": (
        lambda: changed(plain(fold=True), "pointwise.w", zeroed),
        ("dead-channel", "pointwise", 4),
    ),
    "a channel zeroed before a depthwise filter": (
        lambda: changed(changed(plain(fold=True), "stem.w", zeroed), "stem.b", zeroed),
        ("dead-channel", "stem", 4),
    ),
    "a filter twice": (
        lambda: changed(changed(plain(fold=True), "pointwise.w", doubled), "pointwise.b", doubled),
        ("duplicate-filter", "pointwise", 9),
    ),
    "BGR for RGB": (lambda: plain(feed={**FEED, "color": "BGR"}), ("preprocessing", "stem", None)),
    "BGR for RGB in the weights": (
        lambda: changed(plain(fold=True), "stem.w", lambda array: array[:, ::-1]),
        ("preprocessing", "stem", None),
    ),
    "a swapped mean": (
        lambda: plain(feed={**FEED, "mean": list(MEAN[::-1])}),
        ("preprocessing", "stem", None),
    ),
    "folded without the mean": (
        lambda: wrong_fold("mean", np.zeros_like),
        ("batchnorm-fold", "pointwise", None),
    ),
    "folded with the variance for its root": (
        lambda: wrong_fold("var", np.square),
        ("batchnorm-fold", "pointwise", None),
    ),
    "a weight changed": (
        lambda: changed(
            plain(), "pointwise.w", lambda array: array * np.where(np.arange(12) < 6, 1.5, 1)[:, None, None]
        ),
        ("layer-diverges", "pointwise", None),
    ),
    "classes permuted": (permuted, ("classes-permuted", "dense", None)),
    "a float16 overflow": (
        lambda: changed(halved(plain(fold=True)), "pointwise.w", lambda array: array * np.float16(2e4)),
        ("infinite-activation", "pointwise", None),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_at_its_layer_and_nothing_else_is(files, name):
    plant, expected = FAULTS[name]
    assert told(audited(files, plant())) == [expected]


def test_a_nan_weight_is_found_and_the_first_layer_that_it_breaks(files):
    found = audited(files, changed(plain(fold=True), "pointwise.w", poisoned))
    assert told(found) == [("nan-weight", "pointwise", 6), ("nan-activation", "pointwise", 6)]
    assert found["verdict"] == "fail"
    assert found["first_break"] == "pointwise"
    by_name = {layer["name"]: layer for layer in found["layers"]}
    assert by_name["pointwise"]["sqnr_db"] is None
    assert by_name["depthwise"]["sqnr_db"] > 100


def scaled(files, name, factor):
    model = onnx.load(files / "qdq.onnx")
    return changed(model, name, lambda array: array * np.float32(factor))


@pytest.mark.parametrize("factor", [10, 0.1])
@pytest.mark.parametrize(
    ("scale", "layer"),
    [
        ("depthwise/relu_scale", "depthwise"),
        ("pointwise.w_scale", "pointwise"),
        ("image_scale", "image_QuantizeLinear"),
    ],
)
def test_a_scale_ten_times_off_is_found_at_its_layer(files, scale, layer, factor):
    found = told(audited(files, scaled(files, scale, factor)))
    assert found == [("quantisation-scale", layer, None)]


def test_a_quantised_file_fed_wrongly_names_its_first_layer(files):
    found = audited(files, "qdq.onnx", preprocess={**FEED, "color": "BGR"}, reference_preprocess=FEED)
    assert told(found) == [("preprocessing", "stem", None)]


def test_a_scale_that_is_read_otherwise_than_written_is_found_without_pictures(files):
    model = onnx.load(files / "qdq.onnx")
    wrong = numpy_helper.to_array(tensor(model, "stem/relu_scale")) * np.float32(2)
    model.graph.initializer.append(numpy_helper.from_array(wrong, "wrong"))
    reader = next(
        n for n in model.graph.node if n.op_type == "DequantizeLinear" and "stem/relu_scale" in n.input
    )
    reader.input[1] = "wrong"
    onnx.save(model, files / "audited.onnx")
    found = onnxviz.audit(files / "audited.onnx", device="cpu")
    [one] = [one for one in found["findings"] if one["code"] == "quantisation-scale"]
    assert (one["layer"], round(one["value"], 3)) == ("stem", 2.0)
    assert [each[:2] for each in told(audited(files, model))] == [("quantisation-scale", "stem")]


def test_what_the_reference_has_too_is_no_finding_but_is_told(files):
    both = changed(plain(fold=True), "pointwise.w", zeroed)
    onnx.save(both, files / "zeroed.onnx")
    found = audited(files, both, "zeroed.onnx")
    assert told(found) == []
    [layer] = [each for each in found["health"]["layers"] if each["name"] == "pointwise"]
    assert layer["dead"] == 1
    assert layer["inherited"] == ["dead-channel 4"]
    assert layer["by_channel"][4]["flags"] == ["dead"]
    assert ("dead-channel", "pointwise", 4) in told(audited(files, both, None))


def test_without_pictures_the_weights_are_read(files):
    onnx.save(changed(plain(fold=True), "pointwise.w", poisoned), files / "audited.onnx")
    found = onnxviz.audit(files / "audited.onnx", device="cpu")
    assert told(found) == [("nan-weight", "pointwise", 6)]
    assert found["pictures"] is None
    assert found["agreement"] is None
    assert found["passes"] == {"audited": {}, "reference": {}, "explanations": 0}


def test_a_wrong_preprocessing_is_told_by_labels_alone(files, tmp_path):
    """Folders named after what the right preprocessing answers: the wrong one is told by accuracy."""
    from auditing.exports import feed
    from onnxruntime import InferenceSession

    session = InferenceSession(str(files / "reference.onnx"), providers=["CPUExecutionProvider"])
    for file in sorted((files / "pictures").iterdir()):
        answer = int(session.run(None, {"image": feed(file)})[0].argmax())
        (tmp_path / "by" / str(answer)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "by" / str(answer) / file.name).write_bytes(file.read_bytes())
    right = onnxviz.audit(files / "reference.onnx", tmp_path / "by", device="cpu", explain=0)
    assert told(right) == []
    assert right["pictures"]["labelled"] == 24
    assert right["preprocessing"]["variants"][0]["accuracy"] == 1
    wrong = onnxviz.audit(
        files / "reference.onnx",
        tmp_path / "by",
        device="cpu",
        explain=0,
        preprocess={**FEED, "mean": FEED["std"], "std": FEED["mean"]},
    )
    assert ("preprocessing", "stem", None) in told(wrong)
    [one] = [one for one in wrong["findings"] if one["code"] == "preprocessing"]
    assert one["severity"] == "error"
    assert "pictures right" in one["detail"]
