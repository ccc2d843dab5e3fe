"""The device is the one asked for, or an error that says why not."""

import ctypes
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from onnxviz.errors import DeviceError
from onnxviz.runtime import devices
from onnxviz.runtime.devices import Device, count_gpus, resolve, why_no_cuda


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    devices._reason.cache_clear()
    yield
    devices._reason.cache_clear()


@pytest.fixture(autouse=True)
def _all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with CUDA; each keyword takes away one thing."""

    def build(
        built: bool = True, gpus: int = 2, missing: str | None = None, trial: str | None = None
    ) -> None:
        providers = ["CUDAExecutionProvider"] * built + ["CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        monkeypatch.setattr(devices, "_load_driver", lambda: driver(gpus))
        monkeypatch.setattr(devices, "_preload_libraries", lambda: missing)
        monkeypatch.setattr(devices, "_trial_run", lambda _: trial)

    return build


def driver(gpus: int, status: int = 0) -> SimpleNamespace:
    def count(reference: Any) -> int:
        reference._obj.value = gpus
        return 0

    return SimpleNamespace(cuInit=lambda _: status, cuDeviceGetCount=count)


def test_a_device_is_written_as_it_is_asked_for() -> None:
    assert [str(Device("cpu")), str(Device("cuda")), str(Device("cuda", 3))] == ["cpu", "cuda:0", "cuda:3"]


def test_cpu_runs_on_the_cpu_alone() -> None:
    assert Device("cpu").providers == ["CPUExecutionProvider"]


def test_cuda_runs_without_tf32_and_with_settled_algorithms() -> None:
    assert Device("cuda", 1).providers == [
        (
            "CUDAExecutionProvider",
            {"device_id": "1", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
        ),
        "CPUExecutionProvider",
    ]


@pytest.mark.parametrize(
    "name", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:0 ", "cuda:٣", "", "CUDA"]
)
def test_any_other_name_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(DeviceError, match="choose auto, cpu, cuda or cuda:N"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("auto", Device("cuda")),
        ("cuda", Device("cuda")),
        ("cuda:1", Device("cuda", 1)),
        ("cpu", Device("cpu")),
    ],
)
def test_where_cuda_works_the_name_decides(machine: Machine, name: str, device: Device) -> None:
    machine()
    assert why_no_cuda() is None
    assert resolve(name) == device


@pytest.mark.parametrize(
    ("lacks", "reason", "remedy"),
    [
        ({"built": False}, "built without CUDA", "python3 -m pip uninstall -y onnxruntime"),
        ({"gpus": 0}, "there is 0 GPU", ""),
        (
            {"missing": "libcublas.so.13: cannot open", "trial": "chose CPU"},
            "libraries cannot be loaded (libcublas.so.13: cannot open)",
            'pip install "onnxviz[cuda]"',
        ),
        ({"trial": "driver too old"}, "a trial run on cuda:0 failed (driver too old)", "needs a driver"),
    ],
)
def test_cuda_that_cannot_be_had_is_an_error_and_auto_takes_the_cpu(
    machine: Machine, lacks: dict[str, Any], reason: str, remedy: str
) -> None:
    machine(**lacks)
    assert resolve("auto") == Device("cpu")
    with pytest.raises(DeviceError) as caught:
        resolve("cuda")
    assert str(caught.value).startswith("cuda cannot be had: ")
    assert reason in str(caught.value)
    assert remedy in str(caught.value)


def test_libraries_found_elsewhere_are_good_enough(machine: Machine) -> None:
    machine(missing="cublas64_13.dll: not on the search path", trial=None)
    assert why_no_cuda() is None


def test_an_index_beyond_the_gpus_is_refused_by_count(machine: Machine) -> None:
    machine(gpus=2)
    with pytest.raises(DeviceError, match=r"no GPU has the index 2; there are 2 GPUs, cuda:0 to cuda:1"):
        resolve("cuda:2")
    assert resolve("cuda:1") == Device("cuda", 1)


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(devices, "_load_driver", absent)
    with pytest.raises(DeviceError, match="there is no NVIDIA driver here"):
        count_gpus()


def test_a_driver_that_does_not_start_says_its_number_and_what_hides_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(devices, "_load_driver", lambda: driver(0, status=100))
    with pytest.raises(DeviceError, match=r"CUDA error 100\); CUDA_VISIBLE_DEVICES is ''"):
        count_gpus()


def test_the_driver_is_loaded_as_a_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(name: str) -> SimpleNamespace:
        loaded.append(name)
        return driver(5)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert count_gpus() == 5
    assert loaded in (["libcuda.so.1"], ["nvcuda.dll"])


def test_the_answer_is_asked_for_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    asked: list[int] = []
    monkeypatch.setattr(devices, "_trial_run", asked.append)
    for _ in range(3):
        resolve("auto")
        resolve("cuda")
        resolve("cuda:1")
    assert asked == [0, 1]


def test_preloading_tells_the_first_library_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def preload() -> None:
        print("Failed to load libcublasLt.so.13: libcublasLt.so.13: cannot open shared object file")
        print("Failed to load libcublas.so.13: libcublas.so.13: cannot open shared object file")
        os.write(2, b"red text\n")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    assert devices._preload_libraries() == "libcublasLt.so.13: cannot open shared object file"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    assert devices._preload_libraries() is None
    assert capfd.readouterr() == ("", "")


class FakeSession:
    """An InferenceSession that takes, refuses or fails on CUDA."""

    provider = "CUDAExecutionProvider"
    refusal = b""
    failure: Exception | None = None

    def __init__(self, model: bytes, options: Any, providers: list[Any], enable_fallback: bool) -> None:
        assert model
        assert providers == Device("cuda", 1).providers
        assert options.log_severity_level == 4
        assert enable_fallback is False
        os.write(2, self.refusal)

    def get_providers(self) -> list[str]:
        return [self.provider, "CPUExecutionProvider"]

    def run(self, outputs: None, feeds: dict[str, Any]) -> None:
        assert outputs is None
        assert set(feeds) == {"x", "w"}
        if self.failure is not None:
            raise self.failure


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, None),
        ({"provider": "CPUExecutionProvider"}, "onnxruntime chose CPUExecutionProvider"),
        (
            {
                "provider": "CPUExecutionProvider",
                "refusal": b"[E:onnxruntime:Default] Failed to load x.so with error: libcudnn.so.9: none\n",
            },
            "libcudnn.so.9: none",
        ),
        (
            {"failure": RuntimeError("[ONNXRuntimeError] : 11 : EP_FAIL : CUDNN failure 1001")},
            "CUDNN failure 1001",
        ),
    ],
)
def test_the_trial_run_tells_what_happened_and_prints_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    answer: str | None,
) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", type("Fake", (FakeSession,), changed))
    assert devices._trial_run(1) == answer
    assert capfd.readouterr() == ("", "")


def test_the_trial_model_runs_and_convolves() -> None:
    session = onnxruntime.InferenceSession(
        devices._convolution(), devices.quiet_options(), ["CPUExecutionProvider"]
    )
    picture = np.full((1, 1, 3, 3), 2, np.float32)
    assert session.run(None, {"x": picture, "w": picture})[0].tolist() == [[[[36.0]]]]


def test_this_machine_gives_an_answer_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    reason = why_no_cuda()
    assert (resolve("auto").kind == "cuda") == (reason is None)
    assert capfd.readouterr() == ("", "")
