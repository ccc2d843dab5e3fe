"""What a file is and how it is built, read from the file; weights outside its folder are not followed."""

import hashlib
import warnings

import numpy as np
import onnx
import pytest
from auditing.exports import photographs, plain, quantised
from onnx import TensorProto, helper, numpy_helper

import onnxviz
from onnxviz.auditing.identity import RawFile, identity
from onnxviz.auditing.stages import stages
from onnxviz.auditing.structure import structure, structure_findings
from onnxviz.auditing.weights import Filters, filters, weight_health
from onnxviz.errors import ModelError
from onnxviz.samples import sample_model


def test_identity_is_what_the_file_says(tmp_path):
    model = plain(opset=13)
    model.producer_name, model.producer_version = "pytorch", "2.9"
    model.doc_string = "A net.\nLicense: Apache-2.0"
    entry = model.metadata_props.add()
    entry.key, entry.value = "licence", "MIT"
    onnx.save(model, tmp_path / "net.onnx")
    found = identity(RawFile.of(tmp_path / "net.onnx"), onnxviz.load(tmp_path / "net.onnx"), "cpu")
    data = (tmp_path / "net.onnx").read_bytes()
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert found["bytes"] == len(data)
    assert (found["ir_version"], found["opset"], found["producer"]) == (8, {"ai.onnx": 13}, "pytorch 2.9")
    assert found["operators"] == {
        "BatchNormalization": 3, "Conv": 3, "Relu": 3, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1,
    }  # fmt: skip
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 3, 32, 32]}]
    assert found["outputs"] == [{"name": "scores", "dtype": "float32", "shape": ["N", 10]}]
    sizes = [12 * 27, 12 * 9, 20 * 12, 4 * 12, 4 * 12, 4 * 20, 200, 10]
    assert found["parameters"] == sum(sizes)
    assert found["macs"] == 256 * (12 * 27 + 12 * 9 + 20 * 12) + 200
    assert found["quantisation"] == {
        "scheme": "none", "weights": ["float32"], "activations": ["float32"], "per_channel": False,
    }  # fmt: skip
    assert found["licences"] == ["licence: MIT", "License: Apache-2.0"]
    assert found["device"] == "cpu"
    assert found["versions"]["onnxviz"] == onnxviz.__version__


@pytest.mark.parametrize(("operators", "scheme"), [(False, "QDQ"), (True, "QOperator")])
def test_the_scheme_of_quantisation_is_told(tmp_path, operators, scheme):
    onnx.save(plain(fold=True), tmp_path / "net.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised(tmp_path / "net.onnx", tmp_path / "int8.onnx", photographs(tmp_path / "p", 4), operators)
    found = identity(RawFile.of(tmp_path / "int8.onnx"), onnxviz.load(tmp_path / "int8.onnx"), "cpu")
    assert found["quantisation"]["scheme"] == scheme
    assert "int8" in found["quantisation"]["weights"]
    assert found["quantisation"]["per_channel"]
    assert found["domains"] == (["com.microsoft"] if operators else [])


def test_a_model_in_memory_has_an_identity_too():
    found = onnxviz.audit(plain(), device="cpu")["identity"]
    assert found["path"] is None
    assert found["sha256"] == hashlib.sha256(plain().SerializeToString()).hexdigest()


def codes(model, folder):
    onnx.save(model, folder / "net.onnx")
    return {one.code: one for one in structure_findings(RawFile.of(folder / "net.onnx"))}


def test_a_clean_file_has_no_findings(tmp_path):
    assert codes(plain(), tmp_path) == {}


def test_what_is_odd_in_a_file_is_told(tmp_path):
    model = plain(opset=11)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((5, 5), np.float32), "spare"))
    for name in ("stem.w", "dense.w"):
        array = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    model.graph.node.append(helper.make_node("Odd", ["scores"], ["odd"], domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    found = codes(model, tmp_path)
    told = {code: (one.severity, one.value) for code, one in found.items()}
    assert told == {
        "opset-age": ("info", 11), "unused-initializer": ("info", 1), "weights-as-inputs": ("warning", 2),
        "dynamic-dimension": ("info", 1), "custom-operator": ("warning", 1),
    }  # fmt: skip
    assert "spare" in found["unused-initializer"].detail
    assert "100 bytes" in found["unused-initializer"].detail
    assert "image[2]" in found["dynamic-dimension"].detail
    assert "acme: Odd" in found["custom-operator"].detail


def test_the_checker_is_asked(tmp_path):
    model = plain()
    model.graph.node[0].op_type = "Cnov"
    found = codes(model, tmp_path)
    assert found["checker"].severity == "error"
    assert "Cnov" in found["checker"].detail


def outside(folder, location):
    model = plain()
    tensor = next(t for t in model.graph.initializer if t.name == "stem.w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("none.bin", "missing"),
        ("../secret.bin", "outside"),
        ("{}/secret.bin", "absolute"),
        ("link.bin", "outside"),
    ],
)
def test_weights_elsewhere_are_errors_and_are_not_followed(tmp_path, location, why):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4 * 12 * 27)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = outside(folder, location.format(tmp_path))
    found = onnxviz.audit(path, device="cpu")
    assert found["verdict"] == "fail"
    [one] = [one for one in found["findings"] if one["code"] == "external-data"]
    assert why in one["detail"]
    assert "stem.w" in one["detail"]
    assert "not-loadable" in {one["code"] for one in found["findings"]}
    assert found["structure"]["external_data"] == [location.format(tmp_path)]
    assert found["identity"]["bytes"] == path.stat().st_size
    assert found["structure"]["optimised_nodes"] is None


def test_what_is_no_model_is_misuse(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"no model at all")
    with pytest.raises(ModelError, match="not an ONNX model"):
        onnxviz.audit(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="cannot read"):
        onnxviz.audit(tmp_path / "none.onnx")


def test_a_file_that_the_runtime_refuses_gets_a_report(tmp_path):
    model = plain()
    model.graph.node.append(helper.make_node("Odd", ["scores"], ["odd"], domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.output.append(helper.make_tensor_value_info("odd", TensorProto.FLOAT, ["N", 10]))
    onnx.save(model, tmp_path / "net.onnx")
    found = onnxviz.audit(tmp_path / "net.onnx", device="cpu")
    assert found["verdict"] == "fail"
    assert {"not-loadable", "custom-operator"} <= {one["code"] for one in found["findings"]}


def test_what_the_runtime_makes_of_a_file_is_told(tmp_path):
    onnx.save(plain(), tmp_path / "net.onnx")
    found = structure(RawFile.of(tmp_path / "net.onnx"), "cpu")
    assert found["nodes"] == 12
    # Conv, BatchNormalization and Relu became one; what changes the layout came in.
    assert found["optimised_nodes"] == sum(found["optimised"].values()) < found["nodes"]
    assert not {"BatchNormalization", "Relu"} & set(found["optimised"])
    assert list(found["providers"]) == ["CPUExecutionProvider"]
    assert found["fallback"] == []


def test_the_filters_of_the_sample_are_read():
    model = onnxviz.load(sample_model())
    found = {stage.name: filters(model, stage) for stage in stages(model)}
    assert found["conv1"].weights.shape == (64, 27)
    assert found["maxpool1"] is None
    health = weight_health(model, stages(model)[0])
    assert (health.count, health.nan, health.infinite) == (64 * 27 + 64, 0, 0)


def test_doubles_are_of_one_group_and_not_zero():
    rows = np.array([[1.0, 2], [1, 2], [0, 0], [0, 0], [1, 2], [1, 3]])
    assert Filters(rows, np.zeros(6)).doubles() == {1: 0, 4: 0}
    assert Filters(rows, np.array([0.0, 1, 0, 0, 0, 0])).doubles() == {4: 0}
    assert Filters(rows, np.zeros(6), group=3).doubles() == {1: 0}
    assert Filters(rows, np.zeros(6)).zero.tolist() == [False, False, True, True, False, False]


def test_the_health_of_weights_is_counted():
    def odd(array):
        flat = array.reshape(-1)
        flat[:3] = [np.nan, np.inf, 1e-40]
        flat[3:13] = 0
        flat[20] = 1000

    from auditing.exports import changed

    model = onnxviz.load(changed(plain(fold=True), "stem.w", odd))
    health = weight_health(model, stages(model)[0])
    assert (health.nan, health.infinite, health.denormal, health.outliers) == (1, 1, 1, 1)
    assert health.zero == pytest.approx(10 / health.count)
    assert health.highest == 1000
