"""What is installed, which device would be used, and what is wrong.

Imports nothing heavy: it must be able to say that onnxruntime cannot be imported.
"""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata

from onnxviz.errors import DeviceError, OnnxvizError

_PACKAGES = (
    "onnxviz",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "numpy",
    "scipy",
    "Pillow",
    "matplotlib",
    "click",
    "rich",
)


@dataclass(frozen=True)
class Diagnosis:
    """What `examine` found.

    Attributes:
        versions: Of onnxviz and the packages it stands on (None: not installed).
        python: The version of Python.
        platform: The operating system and machine.
        runtimes: The installed distributions that bring the `onnxruntime` package, with versions.
        providers: What the installed onnxruntime was built for.
        device: What `auto` takes; None when nothing runs.
        why_no_cuda: Why CUDA is not used and what to do; None when it is.
        cpu_works: Whether a one-node model gave the right answer on the CPU.
        problems: What is wrong and how to put it right; empty when all is well.
    """

    versions: Mapping[str, str | None]
    python: str
    platform: str
    runtimes: Mapping[str, str]
    providers: tuple[str, ...]
    device: str | None
    why_no_cuda: str | None
    cpu_works: bool
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The same as JSON can hold it."""
        return {**asdict(self), "providers": list(self.providers), "problems": list(self.problems)}


def examine() -> Diagnosis:
    """Look at the installation and run a one-node model; never raises for what it finds."""
    runtimes = _runtimes()
    versions = {name: _version(name) for name in _PACKAGES}
    versions["onnxruntime"] = ", ".join(sorted(set(runtimes.values()))) or None
    problems = [
        f"{name} is not installed; python3 -m pip install {name}"
        for name, version in versions.items()
        if version is None and name != "onnxviz"  # a source tree on the path is as good
    ]
    if len(runtimes) > 1:
        problems.append(
            f"{' and '.join(runtimes)} are installed together and overwrite each other's files; "
            f"python3 -m pip uninstall -y {' '.join(runtimes)}, then python3 -m pip install onnxviz"
        )
    providers: tuple[str, ...] = ()
    device, reason, cpu_works = None, None, False
    try:
        from onnxviz.runtime.devices import resolve, why_no_cuda
        from onnxviz.runtime.library import onnxruntime

        providers = tuple(onnxruntime.get_available_providers())
        reason, device = why_no_cuda(), str(resolve("auto"))
        if reason is not None and _gpus():
            problems.append(f"there is a GPU, and it is not used: {reason}")
        cpu_works = _runs_on_cpu()
    except (OnnxvizError, ImportError) as err:
        failure = " ".join(str(err).split())
        problems.append(failure)
        if device is None:
            reason = failure
    if device is not None and not cpu_works:
        problems.append("a one-node model gave no right answer on the CPU; reinstall onnxruntime")
    return Diagnosis(
        versions,
        platform.python_version(),
        platform.platform(),
        runtimes,
        providers,
        device,
        reason,
        cpu_works,
        tuple(problems),
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _runtimes() -> dict[str, str]:
    """Every distribution that brings `onnxruntime`: onnxruntime, onnxruntime-gpu, onnxruntime-directml ..."""
    names = sorted(set(metadata.packages_distributions().get("onnxruntime", ())))
    return {name: metadata.version(name) for name in names}


def _gpus() -> int:
    from onnxviz.runtime.devices import count_gpus

    try:
        return count_gpus()
    except DeviceError:
        return 0


def _runs_on_cpu() -> bool:
    """Whether a model of one Relu, made here, loads and gives the right answer on the CPU."""
    from onnx import TensorProto, helper

    from onnxviz.runtime.session import Session

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "trial", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found = Session(model, "cpu").run({"x": [-1.0, 0.0, 2.0]})["y"]
    return bool((found == [0, 0, 2]).all())
