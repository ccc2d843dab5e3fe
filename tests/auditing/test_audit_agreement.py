"""Figures of agreement against plain onnxruntime and numpy; runs counted; kernels kept; engines alike."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from auditing.exports import FEED, changed, channels_last, feed, photographs, plain, quantised
from onnx import helper, numpy_helper

import onnxviz
from onnxviz.auditing.drift import likeness
from onnxviz.auditing.matching import match
from onnxviz.auditing.outputs import class_scores, paired
from onnxviz.auditing.probing import look
from onnxviz.auditing.stages import stages
from onnxviz.auditing.subject import subject
from onnxviz.auditing.sums import Flip, Sums, Worst, merge, pack, unpack
from onnxviz.auditing.truth import true_classes
from onnxviz.auditing.watch import alone, closer, watched
from onnxviz.errors import ImageError, SelectorError, ShapeError
from onnxviz.runtime.optimised import optimised
from onnxviz.vision.images import prepare


@pytest.fixture(name="files", scope="module")
def _files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement")
    pictures = photographs(folder / "pictures")
    onnx.save(plain(), folder / "reference.onnx")
    onnx.save(plain(fold=True), folder / "folded.onnx")
    onnx.save(channels_last(), folder / "last.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised(folder / "folded.onnx", folder / "int8.onnx", pictures)
    return folder


def audited(files, model, **options):
    given = {"images": files / "pictures", "reference": files / "reference.onnx", "explain": 0, **options}
    return onnxviz.audit(files / model, device="cpu", **given)


def arrays(pictures):
    """The pictures as the audit feeds them: a quantiser's rounding shows the last bit of a float."""
    made = subject(onnxviz.load(plain()), None, {}, None, "cpu").query
    found = prepare(sorted(pictures.glob("*.png")), made.where, made.preprocess).array
    assert np.abs(found - np.concatenate(list(map(feed, sorted(pictures.glob("*.png")))))).max() < 1e-6
    return found


def plainly(path, pictures):
    """What onnxruntime alone answers."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": arrays(pictures)})[0].astype(np.float64)


def softmax(rows):
    shifted = np.exp(rows - rows.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_agreement_equals_one_computed_by_hand(files):
    found = audited(files, "int8.onnx", explain=0)
    ours, theirs = (plainly(files / name, files / "pictures") for name in ("int8.onnx", "reference.onnx"))
    said = found["agreement"]
    p, q = softmax(theirs), softmax(ours)
    assert said["pictures"] == 24
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    assert said["top1"] == same.mean() < 1
    kl = (p * np.log(p / q)).sum(axis=1)
    assert said["kl"] == pytest.approx(kl.mean(), rel=1e-5)
    assert said["kl_max"] == pytest.approx(kl.max(), rel=1e-5)
    assert said["max_abs"] == pytest.approx(np.abs(ours - theirs).max(), rel=1e-6)
    assert said["mean_abs"] == pytest.approx(np.abs(ours - theirs).mean(), rel=1e-6)
    assert said["relative_l2"] == pytest.approx(
        np.linalg.norm(ours - theirs) / np.linalg.norm(theirs), rel=1e-6
    )
    five = [set(np.argsort(-rows, kind="stable")[:5]) for rows in (*theirs, *ours)]
    overlap = [len(a & b) / 5 for a, b in zip(five[:24], five[24:], strict=True)]
    assert said["top5"] == pytest.approx(np.mean(overlap))
    flipped = np.nonzero(~same)[0]
    assert {flip["number"] for flip in said["flips"]} == set(flipped)
    assert said["flip_count"] == len(flipped)
    margins = [flip["margin"] for flip in said["flips"]]
    assert margins == sorted(margins, reverse=True)
    first = said["flips"][0]
    row = p[first["number"]]
    assert first["margin"] == pytest.approx(row[first["reference"]] - row[first["audited"]], abs=1e-6)
    worst = said["worst"][0]
    assert worst["number"] == int(kl.argmax())
    assert worst["kl"] == pytest.approx(kl.max(), rel=1e-5)
    assert said["noise"] == {
        "top1": 1.0, "top5": 1.0, "kl": 0.0, "max_abs": 0.0, "mean_abs": 0.0, "relative_l2": 0.0,
        "pictures": 4,
    }  # fmt: skip


def inner(path, tensors, pictures):
    """Inner tensors for all pictures, by plain onnx and onnxruntime."""
    model = onnx.load(path)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [found.astype(np.float64) for found in session.run(tensors, {"image": arrays(pictures)})]


def test_layers_equal_those_computed_by_hand(files):
    found = audited(files, "int8.onnx", explain=0)
    model = onnx.load(files / "int8.onnx")
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for layer in found["layers"]:
        if layer["name"] == "dense":
            continue
        [codes] = inner(files / "int8.onnx", [layer["tensor"]], files / "pictures")
        [theirs] = inner(files / "reference.onnx", [layer["reference_tensor"]], files / "pictures")
        stem = layer["tensor"].removesuffix("_QuantizeLinear_Output")
        ours = (codes - float(weights[f"{stem}_zero_point"])) * float(weights[f"{stem}_scale"])
        noise, signal = ((ours - theirs) ** 2).sum(), (theirs**2).sum()
        assert layer["sqnr_db"] == pytest.approx(10 * np.log10(signal / noise), abs=0.01)
        assert (
            layer["relative_l2"]
            == layer["accumulated_error"]
            == pytest.approx((noise / signal) ** 0.5, rel=1e-3)
        )
        cosine = (ours * theirs).sum() / np.sqrt((ours**2).sum() * signal)
        assert layer["cosine"] == pytest.approx(cosine, abs=1e-5)
        channels = ((ours - theirs) ** 2).sum(axis=(0, 2, 3)) / (theirs**2).sum(axis=(0, 2, 3))
        worst = layer["worst_channels"][0]
        assert worst["channel"] == int(channels.argmax())
        assert worst["sqnr_db"] == pytest.approx(-10 * np.log10(channels.max()), abs=0.02)
        assert layer["noise_db"] == 200
    by_level = sorted(found["layers"], key=lambda layer: layer["sqnr_db"])
    assert found["lowest"] == [layer["name"] for layer in by_level]


def test_a_layer_alone_is_fed_the_references_activations(files):
    """The first layer's error stays its own; later layers are better alone than behind all others."""
    found = audited(files, "int8.onnx", explain=0)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["stem"]["own_error"] == pytest.approx(layers["stem"]["accumulated_error"], rel=1e-6)
    for name in ("depthwise", "pointwise", "pool"):
        assert 0 < layers[name]["own_error"] < layers[name]["accumulated_error"]
    # By hand: the reference's output of one layer through the next one's weights and quantisers.
    model = onnx.load(files / "int8.onnx")
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    before, after = inner(files / "reference.onnx", ["depthwise/relu", "pointwise/relu"], files / "pictures")

    def coded(x, name):
        scale, zero = float(weights[f"{name}_scale"]), float(weights[f"{name}_zero_point"])
        return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale

    kernel = weights["pointwise.w_quantized"] * weights["pointwise.w_scale"][:, None, None, None]
    bias = weights["pointwise.b_quantized"] * weights["pointwise.b_quantized_scale"]
    made = (
        np.einsum("ncyx,oc->noyx", coded(before, "depthwise/relu"), kernel[:, :, 0, 0]) + bias[:, None, None]
    )
    made = coded(np.maximum(made, 0), "pointwise/relu")
    error = np.linalg.norm(made - after) / np.linalg.norm(after)
    assert layers["pointwise"]["own_error"] == pytest.approx(error, rel=1e-2)


def test_quantised_layers_keep_their_deployed_kernels_while_measured(files):
    model, reference = onnxviz.load(files / "int8.onnx"), onnxviz.load(files / "reference.onnx")
    deployed = optimised(files / "int8.onnx", "cpu").operators
    own = stages(model)
    audited = subject(model, None, {}, None, "cpu")
    other = subject(reference, None, {}, None, "cpu")
    pictures = [feed(file)[0] for file in sorted((files / "pictures").iterdir())[:2]]
    matches = match(look(audited, pictures, None).probes, look(other, pictures, None).probes)
    pairs = [each.pair for each in matches]
    assert len(pairs) == 5
    for what in (watched(model, own), closer(model, own, pairs, reference), alone(model, pairs, reference)):
        found = optimised(what.model.serialize(), "cpu").operators
        for kernel in ("com.microsoft::QLinearConv", "QLinearConv"):
            assert found.get(kernel, 0) == deployed.get(kernel, 0)
        assert found.get("Conv", 0) == found.get("FusedConv", 0) == 0
        assert any(name.endswith("QLinearConv") for name in found)


def test_two_layouts_and_two_feeds_are_compared(files, tmp_path):
    """Channels last in [-1, 1] against channels first with mean and std: each file is fed its own way."""
    model = channels_last(feed={**FEED, "scale": 1 / 127.5, "mean": [1.0] * 3, "std": [1.0] * 3})
    # What the other way of feeding takes away is put into the graph: (x + 1) / 2, then mean and std.
    mean, std = (np.array(FEED[key], np.float32) for key in ("mean", "std"))
    model.graph.initializer.extend(
        [numpy_helper.from_array(1 / (2 * std), "gain"), numpy_helper.from_array((0.5 - mean) / std, "shift")]
    )
    for node in model.graph.node:
        if node.name == "t0":
            node.input[0] = "fed"
    model.graph.node.insert(0, helper.make_node("Add", ["gained", "shift"], ["fed"], name="shifted"))
    model.graph.node.insert(0, helper.make_node("Mul", ["image", "gain"], ["gained"], name="scaled"))
    onnx.save(model, tmp_path / "last.onnx")
    found = audited(files, tmp_path / "last.onnx", explain=0)
    assert found["agreement"]["top1"] == 1
    assert found["agreement"]["relative_l2"] < 1e-5
    assert [one for one in found["findings"] if one["severity"] != "info"] == []
    assert {layer["reference"] for layer in found["layers"]} == {
        "stem",
        "depthwise",
        "pointwise",
        "pool",
        "dense",
    }


def test_runs_are_counted_and_few(files):
    found = audited(files, "int8.onnx", explain=0)
    passes = found["passes"]
    assert passes["audited"]["answers"] == passes["audited"]["layers"] == 24
    assert passes["reference"]["answers"] == 24
    for who in ("audited", "reference"):
        assert passes[who]["total"] == sum(n for why, n in passes[who].items() if why != "total")
    assert passes["explanations"] == 0


def test_every_picture_goes_through_each_file_a_bounded_number_of_times(files, tmp_path):
    photographs(tmp_path / "many", count=150, seed=2)
    found = onnxviz.audit(
        files / "int8.onnx", tmp_path / "many", files / "reference.onnx", explain=0, device="cpu"
    )
    for who in ("audited", "reference"):
        # What is done to a fixed number of pictures weighs little in a thousand: 16 in all ways, 4 twice.
        fixed = sum(found["passes"][who].get(why, 0) for why in ("first look", "preprocessing"))
        assert (found["passes"][who]["total"] - fixed) / 150 <= 2.7
        assert fixed <= 260


def test_a_picture_that_cannot_be_read_is_passed_over(files, tmp_path):
    photographs(tmp_path / "some", count=9)
    (tmp_path / "some" / "000.png").write_bytes(b"no picture")
    (tmp_path / "some" / "005.png").write_bytes(b"")
    said = []
    found = onnxviz.audit(
        files / "folded.onnx",
        tmp_path / "some",
        files / "reference.onnx",
        explain=2,
        device="cpu",
        notify=said.append,
    )
    assert found["pictures"]["count"] == 7
    assert [one["number"] for one in found["pictures"]["failed"]] == [0, 5]
    assert sum(text.startswith("passed over") for text in said) == 2
    assert found["drift"]["pictures"] == 2
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="not one"):
        onnxviz.audit(files / "folded.onnx", tmp_path / "none", device="cpu")


def test_a_fixed_batch_is_filled_and_the_filling_not_counted(files, tmp_path):
    model = plain(fold=True)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 5
    onnx.save(model, tmp_path / "five.onnx")
    found = audited(files, tmp_path / "five.onnx", explain=0)
    assert found["agreement"]["pictures"] == 24
    assert found["agreement"]["top1"] == 1
    assert found["findings"] == []
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, tmp_path / "three.onnx")
    with pytest.raises(ShapeError, match="3 and 5"):
        onnxviz.audit(
            tmp_path / "five.onnx", files / "pictures", tmp_path / "three.onnx", explain=0, device="cpu"
        )


def test_a_file_that_answers_something_else_is_said_to(files, tmp_path):
    model = plain(fold=True)
    model.graph.output.append(helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, ["N", 20]))
    onnx.save(model, tmp_path / "two.onnx")
    found = audited(files, tmp_path / "two.onnx", explain=0)
    assert [(one["code"], one["severity"]) for one in found["findings"]] == [("outputs-differ", "error")]
    assert list(found["agreement"]["outputs"]) == ["scores"]


def test_a_model_without_classes_is_compared_by_its_outputs(tmp_path):
    """An image in, an image out."""
    rng = np.random.default_rng(0)
    kernel = (rng.standard_normal((3, 3, 3, 3)) * 0.3).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "k"], ["picture"], name="blur", pads=[1, 1, 1, 1])],
        "net",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, ["N", 3, 16, 16])],
        [numpy_helper.from_array(kernel, "k")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    worse = changed(model, "k", lambda array: array * 1.05)
    found = onnxviz.audit(
        worse, photographs(tmp_path / "p", 6), model, preprocess="unit", explain=2, device="cpu"
    )
    said = found["agreement"]
    assert said["top1"] is said["kl"] is None
    assert said["relative_l2"] == pytest.approx(0.05, rel=1e-3)
    assert [one["code"] for one in found["findings"]] == ["layer-diverges"]
    assert found["layers"][0]["gain"] == pytest.approx(1.05, rel=1e-4)
    assert found["preprocessing"]["variants"] == []


# Ray warns of settings of its own.
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")
def test_ray_gives_the_same_report(files, tmp_path):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install onnxviz[ray]")
    pictures = photographs(tmp_path / "many", count=150, seed=2)
    here = audited(files, "int8.onnx", images=pictures)
    root = Path(onnxviz.__file__).parents[1]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        runtime_env={"env_vars": {"PYTHONPATH": str(root)}},
    )
    try:
        there = audited(files, "int8.onnx", images=pictures, engine="ray")
    finally:
        ray.shutdown()
    for found in (here, there):
        for key in ("seconds", "settings"):
            del found[key]
    assert json.dumps(here, sort_keys=True) == json.dumps(there, sort_keys=True)


def test_no_engine_of_that_name(files):
    with pytest.raises(SelectorError, match="'rai'; did you mean 'ray'"):
        onnxviz.audit(files / "folded.onnx", files / "pictures", engine="rai")
    with pytest.raises(SelectorError, match="--images"):
        onnxviz.audit(files / "folded.onnx", reference=files / "reference.onnx")


def test_sums_are_the_same_however_the_pictures_are_divided():
    def part(number):
        return Sums(
            {"sum:a": np.array([1.0, number]), "max:b": np.array([number]), "min:c": np.array(-number)},
            (Flip(number, f"p{number}", 1, 2, 0.1 * number, 0.5),),
            (Worst(number, f"p{number}", 0.2 * number, 3.0),),
            {number: ("name", "why")} if number == 2 else {},
        )

    one, two, three = map(part, (1, 2, 3))
    whole = merge(merge(one, two), three)
    again = merge(one, merge(two, three))
    for found in (whole, again, unpack(pack(whole)), merge(whole, Sums()), merge(Sums(), whole)):
        assert found.arrays["sum:a"].tolist() == [3, 6]
        assert found.arrays["max:b"].tolist() == [3]
        assert found.number("min:c") == -3
        assert [flip.number for flip in found.flips] == [3, 2, 1]
        assert [each.number for each in found.worst] == [3, 2, 1]
        assert found.failed == {2: ("name", "why")}
    assert whole.get("sum:other") is None
    assert whole.number("sum:other") == 0


def test_folders_tell_classes_by_name_index_or_order():
    labels = ["tabby, tabby cat", "golden retriever", "zebra"]
    named = true_classes(["a/tabby/1.png", "a/golden_retriever/2.png", "a/sofa/3.png"], labels, 3)
    assert named == (0, 1, -1)
    assert true_classes(["a/2/1.png", "a/7/2.png"], None, 3) == (2, -1)
    assert true_classes(["a/n03/1.png", "a/n01/2.png", "a/n02/1.png"], None, 3) == (2, 0, 1)
    assert true_classes(["a/n03/1.png", "a/n01/2.png"], None, 3) == (-1, -1)
    assert true_classes([np.zeros((2, 2, 3), np.uint8)], labels, 3) == (-1,)


def test_likeness_of_maps_is_what_it_says():
    one = np.zeros((10, 20), np.float32)
    one[2:4, 4:14] = 1  # a tenth of the places
    same = likeness(one, one)
    assert same == {"spearman": pytest.approx(1), "ssim": pytest.approx(1), "iou": 1, "centre_shift": 0}
    moved = likeness(one, np.roll(one, 5, axis=1))
    assert moved["iou"] == pytest.approx(10 / 30)
    assert moved["centre_shift"] == pytest.approx(5 / np.hypot(10, 20))
    assert moved["spearman"] == pytest.approx(np.corrcoef(one.ravel(), np.roll(one, 5, axis=1).ravel())[0, 1])
    assert np.isnan(likeness(one, np.ones_like(one))["spearman"])
    smooth = np.exp(-((np.arange(10)[:, None] - 4) ** 2 + (np.arange(20) - 9) ** 2) / 20).astype(np.float32)
    assert likeness(np.repeat(np.repeat(smooth, 2, 0), 2, 1), smooth)["spearman"] > 0.99


def test_stages_end_where_a_runtime_fuses(files):
    found = {
        stage.name: [layer.op for layer in stage.members]
        for stage in stages(onnxviz.load(files / "reference.onnx"))
    }
    assert found == {
        "stem": ["Conv", "BatchNormalization", "Relu"],
        "depthwise": ["Conv", "BatchNormalization", "Relu"],
        "pointwise": ["Conv", "BatchNormalization", "Relu"],
        "pool": ["GlobalAveragePool"],
        "dense": ["Gemm"],
    }
    quantised_ = {
        s.name: [layer.op for layer in s.members] for s in stages(onnxviz.load(files / "int8.onnx"))
    }
    assert quantised_["stem"] == ["Conv", "QuantizeLinear"]
    assert quantised_["image_QuantizeLinear"] == ["QuantizeLinear"]


def test_outputs_are_paired_by_classes_names_and_numbers():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 4)), rng.random((3, 4))
    found, differ = paired({"x": a, "y": b, "z": a[:, :2]}, {"one": b, "two": a}, None, None)
    assert found.pairs == {"x": "two", "y": "one"}
    assert [one.detail[:10] for one in differ] == ["output 'z'"]
    assert paired({"x": a, "y": b}, {"y": a, "x": b}, None, None)[0].pairs == {"x": "x", "y": "y"}
    assert class_scores(onnxviz.load(plain())).output == "scores"


def test_explanations_of_the_same_file_do_not_drift(files):
    found = audited(files, "folded.onnx", explain=3)
    drift = found["drift"]
    assert drift["pictures"] == 3
    assert drift["spearman"]["least"] > 0.999
    assert drift["iou"]["least"] > 0.99
    assert drift["centre_shift"]["greatest"] < 1e-3
    assert (drift["layer"], drift["reference_layer"]) == ("pointwise_relu", "pointwise_relu")
    assert [one["image"] for one in drift["worst"]] == ["drift-0.png", "drift-1.png", "drift-2.png"]
    check = found["sanity"]["gradient"]
    assert check["applies"]
    assert check["relative_error"] < 0.02
    assert len(found["sanity"]["randomisation"]["layers"]) == 4
    assert 0 <= found["faithfulness"]["better"] <= 1
    assert found["passes"]["explanations"] > 3


def test_a_quantised_gradient_is_not_compared(files):
    found = audited(files, "int8.onnx", explain=1)
    check = found["sanity"]["gradient"]
    assert not check["applies"]
    assert check["rules"] == "straight-through"
    assert found["drift"]["spearman"]["median"] > 0.9


def test_a_wrong_gradient_is_a_finding(files, monkeypatch):
    from onnxviz.auditing import sanity

    right = sanity._difference
    monkeypatch.setattr(sanity, "_difference", lambda *args: 1.5 * right(*args))
    found = onnxviz.audit(files / "folded.onnx", files / "pictures", explain=1, device="cpu")
    assert ("gradient-check", "error") in [(one["code"], one["severity"]) for one in found["findings"]]


def test_a_method_that_does_not_suit_the_file_is_left_out_and_said_so(files):
    found = onnxviz.audit(
        files / "folded.onnx",
        files / "pictures",
        files / "reference.onnx",
        explain=1,
        method="attention-rollout",
        device="cpu",
    )
    assert found["drift"] is None
    assert any("explanations were left out" in text for text in found["warnings"])
