"""ONNX Runtime's messages, as it writes them, come out as one plain line."""

import onnxruntime
import pytest

from onnxviz.errors import DeviceError, ModelError, OnnxvizError, ShapeError
from onnxviz.runtime.failures import creation_failed, plainly, run_failed

CUDA_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
    "Name:'conv1' Status Message: /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:129 "
    "std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, "
    "const char*, SUCCTYPE, const char*, const char*, int) [with ERRTYPE = cudaError; bool THRW = true; "
    "SUCCTYPE = cudaError; std::conditional_t<THRW, void, common::Status> = void] "
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=box ; file=/x/cuda_allocator.cc ; line=47 ; "
    "expr=cudaMalloc((void**)&p, size);"
)


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Type Error: Type parameter (T) of Optype (Add) differs.",
            "Type Error: Type parameter (T) of Optype (Add) differs",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/graph/model.cc:256 "
            "onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::PathString&) "
            "Unsupported model IR version: 99, max supported IR version: 13\n",
            "Unsupported model IR version: 99, max supported IR version: 13",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : D:\\a\\_work\\1\\s\\onnxruntime\\core\\graph\\model.cc:256 "
            "onnxruntime::Model::Model Unsupported (yet) version",
            "Unsupported (yet) version",
        ),
        (
            "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_ortvalue.cc:291 "
            "onnxruntime::python::addOrtValueMethods(pybind11::module&)::<lambda(pybind11::array&, int32_t)> "
            "Items size in the incoming array: 4",
            "Items size in the incoming array: 4",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. Name:'n1' "
            "Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/math/element_wise_ops.h:563 "
            "void onnxruntime::BroadcastIterator::Init(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest "
            "was false. Attempting to broadcast an axis by a dimension other than 1. 2 by 3\n",
            "Add (node 'n1'): Attempting to broadcast an axis by a dimension other than 1. 2 by 3",
        ),
        (
            "Non-zero status code returned while running Relu node. Name:'' Status Message: bad\nluck",
            "Relu: bad luck",
        ),
        (CUDA_MEMORY, "Conv (node 'conv1'): CUDA failure 2: out of memory"),
    ],
)
def test_a_message_loses_its_places_and_keeps_its_words(message: str, plain: str) -> None:
    assert plainly(RuntimeError(message)) == plain


def test_a_message_without_end_is_cut() -> None:
    text = plainly(RuntimeError("word " * 1000))
    assert len(text) <= 400
    assert text.endswith(" ...")


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Fatal error: custom:Foo(-1) is not a registered function/op",
            ModelError,
            "no operator Foo of the domain 'custom'",
        ),
        (
            '[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model. In Node, ("n1", Foo, "", '
            '-1) : ("x": tensor(float),) -> ("y": tensor(float),) , Error No Op registered for Foo with '
            "domain_version of 21",
            ModelError,
            "no operator Foo (node 'n1') of the domain 'ai.onnx'",
        ),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Identity(23) "
            "node with name 'n1'",
            ModelError,
            "no operator Identity (node 'n1') of the domain 'ai.onnx'",
        ),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for com.x:Foo(1) "
            "node with name ''",
            ModelError,
            "no operator Foo of the domain 'com.x'",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : ONNX Runtime only *guarantees* support. Opset 99 is under "
            "development. Current official support for domain ai.onnx is till opset 26.",
            ModelError,
            "domain ai.onnx is till opset 26; export it for an older opset, or upgrade onnxruntime",
        ),
        (
            "Node (n1) Op (Add) [ShapeInferenceError] Incompatible dimensions",
            ModelError,
            "Node (n1) Op (Add)",
        ),
        ("std::bad_alloc", DeviceError, "m.onnx does not fit into the memory of cuda:0"),
        ("CUDA failure 999: unknown error", DeviceError, "m.onnx cannot be prepared on cuda:0"),
    ],
)
def test_a_model_that_is_not_taken(message: str, kind: type[OnnxvizError], words: str) -> None:
    error = creation_failed("m.onnx", "cuda:0", RuntimeError(message))
    assert type(error) is kind
    assert words in str(error)
    assert str(error).startswith("m.onnx")


def test_an_unknown_operator_says_which_onnxruntime_and_what_to_do() -> None:
    error = creation_failed("m.onnx", "cpu", RuntimeError("custom:Foo(-1) is not a registered function/op"))
    assert f"onnxruntime {onnxruntime.__version__} has no operator" in str(error)
    assert "export the model with standard operators" in str(error)


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (CUDA_MEMORY, DeviceError, "cuda:0 ran out of memory"),
        ("Failed to allocate memory for requested buffer of size 4", DeviceError, "use a smaller batch"),
        ("CUDNN failure 3: CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH", DeviceError, "the run on cuda:0 failed"),
        ("Invalid rank for input: x Got: 2 Expected: 1", ShapeError, "the inputs do not fit the model"),
        ("indices element out of data bounds, idx=9", ShapeError, "idx=9"),
        ("something else", DeviceError, "the run on cuda:0 failed: something else"),
    ],
)
def test_a_run_that_fails(message: str, kind: type[OnnxvizError], words: str) -> None:
    error = run_failed("cuda:0", RuntimeError(message))
    assert type(error) is kind
    assert words in str(error)
    assert "\n" not in str(error)
