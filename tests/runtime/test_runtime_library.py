"""onnxruntime arrives quietly, and says plainly when it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import onnxviz
from onnxviz.runtime.library import captured_stderr

ROOT = Path(onnxviz.__file__).parents[1]


def run_python(code: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, [*folders, ROOT]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def fake_onnxruntime(folder: Path, code: str) -> Path:
    package = folder / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text(code, encoding="utf-8")
    return folder


def test_a_run_on_any_machine_prints_nothing() -> None:
    done = run_python("""
import numpy, onnx.parser
from onnxviz.runtime.devices import resolve, why_no_cuda
from onnxviz.runtime.session import Session
resolve("auto")
model = onnx.parser.parse_model('''<ir_version: 8, opset_import: ["": 18]>
  g (float[N] x) => (float[N] y) <float[1] unused = {1.0}> { y = Add(x, x) }''')
assert Session(model).run({"x": numpy.ones(2, numpy.float32)})["y"].tolist() == [2, 2]
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failed_run_speaks_by_its_exception_alone() -> None:
    done = run_python("""
import numpy, onnx.parser
from onnxviz.errors import ShapeError
from onnxviz.runtime.session import Session
model = onnx.parser.parse_model('''<ir_version: 8, opset_import: ["": 18]>
  g (float[N] x, float[M] z) => (float[K] y) { y = Add(x, z) }''')
try:
    Session(model, "cpu").run({"x": numpy.ones(2), "z": numpy.ones(3)})
except ShapeError:
    print("ShapeError")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ShapeError\n", "")


def test_native_writes_are_captured_and_stderr_is_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as said:
        os.write(2, b"native\n\xff\n")
    os.write(2, b"after\n")
    assert said.getvalue().splitlines() == ["native", "\ufffd"]
    assert capfd.readouterr().err == "after\n"


def test_stderr_comes_back_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), captured_stderr():
        raise KeyError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_a_program_without_stderr_can_still_capture() -> None:
    done = run_python("""
import os, sys
os.close(2)
sys.stderr = None
from onnxviz.runtime.library import captured_stderr
with captured_stderr() as said:
    pass
print(repr(said.getvalue()))
""")
    assert (done.returncode, done.stdout) == (0, "''\n")


def test_warnings_at_import_are_dropped_and_all_else_is_passed_on(tmp_path: Path) -> None:
    folder = fake_onnxruntime(
        tmp_path,
        r"""
import os
os.write(2, b"\x1b[0;93m2026-01-01 [W:onnxruntime:Default, device_discovery.cc:1 F] no vendor\n\x1b[m\n")
os.write(2, b"\x1b[1;31msomething else\x1b[m\n")
InferenceSession = None
""",
    )
    done = run_python("import onnxviz.runtime.library", folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "\x1b[1;31msomething else\x1b[m\n")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ImportError('DLL load failed')", "onnxruntime cannot be imported (DLL load failed)"),
        ("", "onnxruntime is only half installed"),
    ],
)
def test_a_broken_onnxruntime_is_a_device_error(tmp_path: Path, code: str, words: str) -> None:
    done = run_python(
        """
from onnxviz.errors import DeviceError
try:
    import onnxviz.runtime.session
except DeviceError as err:
    print(err)
""",
        fake_onnxruntime(tmp_path, code),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(words)


def test_the_doctor_speaks_even_when_onnxruntime_does_not(tmp_path: Path) -> None:
    done = run_python(
        """
from onnxviz.runtime.doctor import examine
found = examine()
print(found.device, found.cpu_works, found.providers)
print(*found.problems, sep="\\n")
""",
        fake_onnxruntime(tmp_path, "raise ImportError('DLL load failed')"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "None False ()"
    assert any(line.startswith("onnxruntime cannot be imported (DLL load failed)") for line in lines[1:])
