"""Which device a session runs on; never another than the one asked for."""

import contextlib
import ctypes
import functools
import io
import os
import re
import sys
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from onnx import TensorProto, helper

from onnxviz.errors import DeviceError
from onnxviz.runtime.failures import plainly
from onnxviz.runtime.library import captured_stderr, onnxruntime

CUDA_PROVIDER = "CUDAExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"

_GET_CUDA = 'python3 -m pip install "onnxviz[cuda]"'
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@dataclass(frozen=True)
class Device:
    """A device that can be had: `str()` is "cpu" or "cuda:0"."""

    kind: Literal["cpu", "cuda"]
    index: int = 0

    def __str__(self) -> str:
        """The name that `resolve` takes."""
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"

    @property
    def providers(self) -> list[str | tuple[str, dict[str, str]]]:
        """ONNX Runtime's provider list, with options.

        On CUDA, TF32 is off (it would change float32 results by 1e-3) and convolutions take the algorithm
        that cuDNN's heuristics name: the exhaustive search, ONNX Runtime's default, times every candidate on
        the first run and may settle on another one each time.
        """
        if self.kind == "cpu":
            return [CPU_PROVIDER]
        options = {"device_id": str(self.index), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        return [(CUDA_PROVIDER, options), CPU_PROVIDER]


def resolve(device: str) -> Device:
    """The device that "auto", "cpu", "cuda" or "cuda:N" names; "auto" is CUDA where it works, else the CPU.

    Raises:
        DeviceError: The name is none of these, or CUDA was asked for and cannot be had.
    """
    if device == "cpu":
        return Device("cpu")
    if device == "auto":
        return Device("cuda") if why_no_cuda() is None else Device("cpu")
    asked = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", device)
    if asked is None:
        raise DeviceError(f"no device {device!r}; choose auto, cpu, cuda or cuda:N (cuda:0 is the first GPU)")
    index = int(asked[1] or "0")
    reason = why_no_cuda(index)
    if reason is not None:
        raise DeviceError(f"{device} cannot be had: {reason}")
    return Device("cuda", index)


def why_no_cuda(index: int = 0) -> str | None:
    """Why CUDA device `index` cannot be used, and what to do about it; None when it can. Prints nothing.

    The answer is kept for the life of the process. The last question is a real run: of one convolution,
    since ONNX Runtime may start without cuDNN and fail at the first one.
    """
    return _reason(index)


@functools.cache
def _reason(index: int) -> str | None:
    return _not_built() or _no_gpu(index) or _no_session(index)


def count_gpus() -> int:
    """The number of CUDA devices that the driver offers to this process.

    Raises:
        DeviceError: There is no driver, or it does not start.
    """
    try:
        driver = _load_driver()
    except OSError:
        raise DeviceError(
            f"there is no NVIDIA driver here ({_DRIVER} cannot be loaded); "
            "CUDA needs an NVIDIA GPU and its driver"
        ) from None
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        raise DeviceError(f"the NVIDIA driver finds no usable GPU (CUDA error {status}){_visible()}")
    return count.value


def _not_built() -> str | None:
    providers = onnxruntime.get_available_providers()
    if CUDA_PROVIDER in providers:
        return None
    return (
        f"this onnxruntime was built without CUDA (it has {', '.join(providers)}); on 64-bit x86 Linux and "
        f"Windows: python3 -m pip uninstall -y onnxruntime, then {_GET_CUDA}"
    )


def _no_gpu(index: int) -> str | None:
    try:
        count = count_gpus()
    except DeviceError as err:
        return str(err)
    if index < count:
        return None
    there = f"there are {count} GPUs, cuda:0 to cuda:{count - 1}" if count > 1 else f"there is {count} GPU"
    return f"no GPU has the index {index}; {there}{_visible()}"


def _no_session(index: int) -> str | None:
    missing = _preload_libraries()
    failure = _trial_run(index)
    if failure is None:
        return None
    if missing is not None:
        return f"the CUDA libraries cannot be loaded ({missing}); {_GET_CUDA}"
    return (
        f"a trial run on cuda:{index} failed ({failure}); this onnxruntime needs a driver for CUDA "
        f"{onnxruntime.cuda_version} and the libraries that come with {_GET_CUDA}"
    )


def _load_driver() -> Any:
    return ctypes.CDLL(_DRIVER)


def _visible() -> str:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if chosen is None else f"; CUDA_VISIBLE_DEVICES is {chosen!r}"


def _preload_libraries() -> str | None:
    """Load the CUDA and cuDNN libraries of the NVIDIA wheels; the first complaint, None when there is none.

    A complaint alone decides nothing: ONNX Runtime finds libraries in places where this does not look.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), captured_stderr(), warnings.catch_warnings(action="ignore"):
        onnxruntime.preload_dlls()
    complaints = [line for line in said.getvalue().splitlines() if line.startswith("Failed to load ")]
    return complaints[0].partition(": ")[2] if complaints else None


def _trial_run(index: int) -> str | None:
    """Run one convolution on the device; why it did not run there, None when it did."""
    picture = np.full((1, 1, 3, 3), 2, np.float32)
    with captured_stderr() as said, warnings.catch_warnings(action="ignore"):
        try:
            session = onnxruntime.InferenceSession(
                _convolution(), quiet_options(), Device("cuda", index).providers, enable_fallback=False
            )
            provider = session.get_providers()[0]
            if provider == CUDA_PROVIDER:
                session.run(None, {"x": picture, "w": picture})
                return None
        except Exception as err:  # ONNX Runtime's exceptions share no base
            return plainly(err)
    cause = re.search(r"with error: (.+)", said.getvalue())
    return f"onnxruntime chose {provider}" if cause is None else cause[1].strip()


def quiet_options() -> Any:
    """Session options that log nothing: warnings would clutter stderr, and errors come as exceptions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def _convolution() -> bytes:
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"x": [1, 1, 3, 3], "w": [1, 1, 3, 3], "y": [1, 1, 1, 1]}.items()
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "trial", tensors[:2], tensors[2:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())
