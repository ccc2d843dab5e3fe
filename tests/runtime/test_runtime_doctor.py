"""The doctor tells what is installed and what is wrong with it."""

import json
import platform
from importlib import metadata

import onnxruntime
import pytest

from onnxviz.errors import DeviceError
from onnxviz.runtime import devices, doctor
from onnxviz.runtime.doctor import examine


def test_a_sound_installation_has_no_problems(capfd: pytest.CaptureFixture[str]) -> None:
    found = examine()
    assert found.problems == ()
    assert found.cpu_works
    assert found.device in ("cpu", "cuda:0")
    assert (found.device == "cuda:0") == (found.why_no_cuda is None)
    assert found.providers == tuple(onnxruntime.get_available_providers())
    assert capfd.readouterr() == ("", "")


def test_versions_are_those_installed() -> None:
    found = examine()
    assert found.python == platform.python_version()
    for name in ("onnx", "onnx-ir", "numpy", "scipy", "Pillow", "matplotlib", "click", "rich"):
        assert found.versions[name] == metadata.version(name)
    assert list(found.runtimes.values()) == [onnxruntime.__version__] == [found.versions["onnxruntime"]]


def test_the_diagnosis_is_json() -> None:
    found = examine()
    told = json.loads(json.dumps(found.to_dict()))
    assert told["problems"] == []
    assert told["providers"] == list(found.providers)
    assert told["versions"]["numpy"] == metadata.version("numpy")
    assert told["cpu_works"] is True


def test_two_runtimes_in_one_folder_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_runtimes", lambda: {"onnxruntime": "1.30.0", "onnxruntime-gpu": "1.31.1"})
    found = examine()
    assert found.versions["onnxruntime"] == "1.30.0, 1.31.1"
    (problem,) = found.problems
    assert "onnxruntime and onnxruntime-gpu are installed together" in problem
    assert "pip uninstall -y onnxruntime onnxruntime-gpu, then" in problem


def test_every_distribution_that_brings_onnxruntime_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = {
        "onnxruntime": ["onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-gpu"],
        "numpy": ["numpy"],
    }
    monkeypatch.setattr(metadata, "packages_distributions", lambda: brought)
    monkeypatch.setattr(metadata, "version", lambda name: f"version of {name}")
    assert doctor._runtimes() == {
        "onnxruntime-directml": "version of onnxruntime-directml",
        "onnxruntime-gpu": "version of onnxruntime-gpu",
    }


def test_a_missing_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str | None:
        return None if name in ("rich", "onnxviz") else "1.0"

    monkeypatch.setattr(doctor, "_version", version)
    found = examine()
    assert found.versions["rich"] is None
    assert found.problems == ("rich is not installed; python3 -m pip install rich",)


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert doctor._version("no-such-distribution-of-onnxviz") is None


@pytest.mark.parametrize(("gpus", "problems"), [(0, 0), (1, 1)])
def test_a_gpu_that_is_not_used_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, gpus: int, problems: int
) -> None:
    monkeypatch.setattr(devices, "why_no_cuda", lambda: "no libraries")
    monkeypatch.setattr(devices, "count_gpus", lambda: gpus)
    found = examine()
    assert (found.device, found.why_no_cuda) == ("cpu", "no libraries")
    assert list(found.problems) == ["there is a GPU, and it is not used: no libraries"] * problems


def test_a_machine_without_a_driver_has_no_idle_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> int:
        raise DeviceError("no driver")

    monkeypatch.setattr(devices, "count_gpus", absent)
    assert doctor._gpus() == 0


def test_a_wrong_answer_on_the_cpu_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_runs_on_cpu", lambda: False)
    found = examine()
    assert not found.cpu_works
    assert found.problems == ("a one-node model gave no right answer on the CPU; reinstall onnxruntime",)
