"""A session runs what it is given, and names what does not fit."""

import gc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnxruntime
import pytest

from onnxviz.errors import DeviceError, ModelError, SelectorError, ShapeError
from onnxviz.graph.model import load
from onnxviz.runtime import session as session_module
from onnxviz.runtime.devices import Device, why_no_cuda
from onnxviz.runtime.session import Session

HEADER = '<ir_version: 10, opset_import: ["": 21, "custom": 1]>'

Array = npt.NDArray[Any]


def parse(graph: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + graph)


def session(graph: str) -> Session:
    return Session(parse(graph), "cpu")


@pytest.fixture(scope="module")
def affine() -> Session:
    return session(
        "g (float[N, 3] x, int64[1] n) => (float[N, 3] y, float[N, 3] z) { k = Cast <to = 1> (n) "
        "y = Mul(x, k) z = Add(x, k) }"
    )


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_run_answers_every_output_by_name(affine: Session) -> None:
    found = affine.run({"x": X, "n": np.array([2])})
    assert list(found) == ["y", "z"]
    np.testing.assert_array_equal(found["y"], X * 2)
    np.testing.assert_array_equal(found["z"], X + 2)


def test_outputs_are_chosen_by_name_and_in_order(affine: Session) -> None:
    feeds = {"x": X, "n": [2]}
    assert list(affine.run(feeds, ["z", "y", "z"])) == ["z", "y"]
    np.testing.assert_array_equal(affine.run(feeds, ["z"])["z"], X + 2)


def test_a_session_tells_its_device_inputs_and_outputs(affine: Session) -> None:
    assert affine.device == Device("cpu")
    assert [str(where) for where in affine.inputs] == ["x float32[N,3]", "n int64[1]"]
    assert [where.name for where in affine.outputs] == ["y", "z"]


def test_a_session_takes_a_path_a_proto_and_a_model(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    onnx.save(proto, tmp_path / "neg.onnx")
    for given in (proto, load(proto), tmp_path / "neg.onnx", str(tmp_path / "neg.onnx")):
        assert Session(given, "cpu").run({"x": [1.0, -2.0]})["y"].tolist() == [-1, 2]


def test_weights_on_disk_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "model folder"
    folder.mkdir()
    weights = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    proto = parse("g (float[N, 3] x) => (float[N, 40] y) { y = MatMul(x, w) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    assert (folder / "m.bin").stat().st_size >= weights.nbytes
    model = load(folder / "m.onnx")
    assert model.weights_folder is not None
    np.testing.assert_allclose(Session(model, "cpu").run({"x": X})["y"], X @ weights, rtol=1e-5)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"x": X}, "no array was given for the input 'n'; the model takes x float32[N,3], n int64[1]"),
        ({"X": X, "n": [1]}, "no input 'X'; did you mean 'x'? (inputs: 'x', 'n')"),
        ({"x": X, "n": [1], "extra": [1]}, "no input 'extra' (inputs: 'x', 'n')"),
    ],
)
def test_inputs_are_checked_by_name(affine: Session, feeds: dict[str, Any], words: str) -> None:
    with pytest.raises(SelectorError) as caught:
        affine.run(feeds)
    assert str(caught.value) == words


def test_unknown_outputs_are_refused(affine: Session) -> None:
    with pytest.raises(SelectorError, match=r"no output 'yy'; did you mean 'y'\? \(outputs: 'y', 'z'\)"):
        affine.run({"x": X, "n": [1]}, ["yy"])
    with pytest.raises(SelectorError, match="no requested output 'z'"):
        affine.run({"x": X, "n": [1]}, ["y"], on_device=["z"])


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones(3, np.float32), r"the input 'x' is \[N,3\], but \[3\] was given"),
        (np.ones((2, 4), np.float32), r"the input 'x' is \[N,3\], but \[2,4\] was given"),
        ([[1.0], [1.0, 2.0]], "the input 'x' was given what is not one array"),
        (np.ones((2, 3), np.int64), "the input 'x' takes float32, but int64 was given"),
        (np.ones((2, 3), np.uint8), "the input 'x' takes float32, but uint8 was given"),
        (np.ones((2, 3), bool), "the input 'x' takes float32, but bool was given"),
        (np.full((2, 3), "a"), "the input 'x' takes float32, but str"),
        (np.full((2, 3), 1e300), "the input 'x' takes float32, and values beyond its range were given"),
    ],
)
def test_arrays_are_checked_against_the_input(affine: Session, x: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        affine.run({"x": x, "n": [1]})


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (np.array([1.0]), "the input 'n' takes int64, but float64 was given"),
        (np.array([True]), "the input 'n' takes int64, but bool was given"),
        (np.array([2**64 - 1], np.uint64), "the input 'n' takes int64, but uint64 was given"),
    ],
)
def test_numbers_of_another_kind_are_refused(affine: Session, n: Array, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        affine.run({"x": X, "n": n})


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("float", np.float16),
        ("float", np.float64),
        ("float", ml_dtypes.bfloat16),
        ("double", np.float32),
        ("float16", np.float64),
        ("int64", np.int8),
        ("int64", np.uint64),
        ("uint8", np.int64),
        ("int32", np.int64),
        ("float", ">f4"),
        ("double", ">f8"),
        ("int32", ">i4"),
    ],
)
def test_arrays_are_converted_where_that_loses_nothing(wanted: str, given: Any) -> None:
    runner = session(f"g ({wanted}[3] x) => (float[3] y) {{ y = Cast <to = 1> (x) }}")
    assert runner.run({"x": np.array([0, 3, 100]).astype(given)})["y"].tolist() == [0, 3, 100]


@pytest.mark.parametrize(
    ("wanted", "x"),
    [
        ("float16", np.ones(1, np.float32)),
        ("bfloat16", np.ones(1, np.float16)),
        ("uint8", np.array([256])),
        ("uint8", np.array([-1])),
        ("bool", np.array([1])),
        ("string", np.array([1.0])),
    ],
)
def test_arrays_are_not_converted_where_that_could_lose(wanted: str, x: Array) -> None:
    with pytest.raises(ShapeError, match=f"takes .*, but {x.dtype.name} was given"):
        session(f"g ({wanted}[1] x) => ({wanted}[1] y) {{ y = Identity(x) }}").run({"x": x})


@pytest.mark.parametrize(
    "element",
    [
        "float16",
        "bfloat16",
        "float8e4m3fn",
        "float8e5m2",
        "double",
        "bool",
        "uint8",
        "int8",
        "int16",
        "uint32",
    ],
)
@pytest.mark.parametrize("n", [0, 2])
def test_every_element_type_goes_in_and_comes_out(element: str, n: int) -> None:
    runner = session(f"g ({element}[N] x) => ({element}[N] y) {{ y = Identity(x) }}")
    x = np.array([0, 1])[:n].astype(runner.inputs[0].dtype)
    y = runner.run({"x": x})["y"]
    assert y.dtype == x.dtype
    assert y.tobytes() == x.tobytes()
    kept = runner.run({"x": x}, on_device=["y"])["y"]
    assert kept.shape() == [n]
    assert runner.run({"x": kept})["y"].tobytes() == x.tobytes()


@pytest.mark.parametrize("x", [np.array(["a", "bc"]), np.array(["a", "bc"], object), ["a", "bc"]])
def test_text_goes_in_and_comes_out(x: Any) -> None:
    runner = session("g (string[2] x) => (string[2] y) { y = Identity(x) }")
    assert runner.run({"x": x})["y"].tolist() == ["a", "bc"]


def test_text_cannot_stay_on_the_device() -> None:
    runner = session("g (string[2] x) => (string[2] y) { y = Identity(x) }")
    with pytest.raises(DeviceError, match="non-string"):
        runner.run({"x": ["a", "b"]}, on_device=["y"])


def test_a_scalar_and_strided_arrays_are_taken() -> None:
    runner = session("g (float x, float[N, M] a) => (float[N, M] y) { y = Add(x, a) }")
    a = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (a[::2, ::3], a.T, a[::-1]):
        np.testing.assert_array_equal(runner.run({"x": 1.0, "a": view})["y"], view + 1)
    assert runner.run({"x": 1.0, "a": a})["y"].flags.c_contiguous


def test_sizes_that_do_not_fit_each_other_are_a_shape_error() -> None:
    runner = session("g (float[N] x, float[M] z) => (float[K] y) { [sum] y = Add(x, z) }")
    with pytest.raises(ShapeError) as caught:
        runner.run({"x": np.ones(2), "z": np.ones(3)})
    assert "Add (node 'sum'): " in str(caught.value)
    assert "2 by 3" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_memory_that_is_not_there_is_a_device_error() -> None:
    runner = session("g (int64[1] n) => (float[K] y) { y = ConstantOfShape(n) }")
    with pytest.raises(DeviceError, match="cpu ran out of memory"):
        runner.run({"n": [2**60]})


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("g (float[1] x) => (float[1] y) { y = custom.Foo(x) }", "no operator Foo .*domain 'custom'"),
        ("g (float[2] x, float[3] z) => (float[2] y) { [sum] y = Add(x, z) }", r"\(sum\)"),
        ("g (float[1] x, int64[1] z) => (float[1] y) { [sum] y = Add(x, z) }", r"\(sum\)"),
    ],
)
def test_a_model_that_onnxruntime_cannot_use_is_a_model_error(graph: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        session(graph)
    assert "\n" not in str(caught.value)


def test_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(parse("g (float[1] x) => (float[1] y) { y = custom.Foo(x) }"), path)
    with pytest.raises(ModelError) as caught:
        Session(path, "cpu")
    assert str(caught.value).startswith(f"{path}: ")


def test_a_quiet_fall_to_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fallen:
        def __init__(self, *_: Any, enable_fallback: bool) -> None:
            assert enable_fallback is False

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(session_module, "resolve", lambda _: Device("cuda"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", Fallen)
    with pytest.raises(DeviceError, match="cuda:0 was asked for, but onnxruntime chose CPUExecutionProvider"):
        session("g (float[1] x) => (float[1] y) { y = Neg(x) }")


def test_values_on_the_device_equal_the_plain_route(affine: Session) -> None:
    plain = affine.run({"x": X, "n": [3]})
    mixed = affine.run({"x": X, "n": [3]}, on_device=["y"])
    assert isinstance(mixed["y"], onnxruntime.OrtValue)
    np.testing.assert_array_equal(mixed["y"].numpy(), plain["y"])
    np.testing.assert_array_equal(mixed["z"], plain["z"])
    again = affine.run({"x": mixed["y"], "n": np.array([3])}, ["z"])
    np.testing.assert_array_equal(again["z"], plain["y"] + 3)


def test_a_value_on_the_device_outlives_its_session() -> None:
    runner = session("g (float[N] x) => (float[N] y) { y = Add(x, x) }")
    kept = runner.run({"x": np.arange(1000.0)}, on_device=["y"])["y"]
    array = runner.run({"x": kept})["y"]
    del runner
    gc.collect()
    np.testing.assert_array_equal(kept.numpy(), np.arange(1000) * 2)
    np.testing.assert_array_equal(array, np.arange(1000) * 4)


def test_a_value_on_the_device_is_checked_too(affine: Session) -> None:
    value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ones((2, 4), np.float32))
    with pytest.raises(ShapeError, match=r"the input 'x' is \[N,3\], but \[2,4\] was given"):
        affine.run({"x": value, "n": [1]})
    value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ones((2, 3), np.float64))
    with pytest.raises(ShapeError, match="data type"):
        affine.run({"x": value, "n": [1]})


def test_an_output_that_is_an_input_does_not_share_its_memory() -> None:
    runner = session("g (float[N] x) => (float[N] x, float[N] y) { y = Neg(x) }")
    for on_device in ((), ("x",), ("y",)):
        x = np.arange(3, dtype=np.float32)
        found = runner.run({"x": x}, on_device=on_device)
        x[:] = 9
        answer = found["x"].numpy() if "x" in on_device else found["x"]
        assert answer.tolist() == [0, 1, 2]


@pytest.mark.skipif(why_no_cuda() is not None, reason="needs CUDA")
def test_cuda_and_the_cpu_agree() -> None:
    proto = parse("g (float[N, 3, 16, 16] x) => (float[N, 8, 14, 14] y) { c = Conv(x, w) y = Relu(c) }")
    random = np.random.default_rng(0)
    weights = random.normal(size=(8, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    x = random.normal(size=(2, 3, 16, 16)).astype(np.float32)
    on_cpu = Session(proto, "cpu").run({"x": x})["y"]
    runner = Session(proto, "cuda")
    np.testing.assert_allclose(runner.run({"x": x})["y"], on_cpu, rtol=1e-4, atol=1e-5)
    kept = runner.run({"x": x}, on_device=["y"])["y"]
    assert kept.device_name() == "cuda"
    np.testing.assert_allclose(kept.numpy(), on_cpu, rtol=1e-4, atol=1e-5)
