"""A folder to run commands in, and what they said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from click.testing import CliRunner
from methods.nets import CAM_NET, cam_weights, net
from PIL import Image

from onnxviz.cli import main

LABELS = json.dumps(["red fox, Vulpes vulpes", "crane", "Crane, digger", "tabby, tabby cat"])
PREPROCESS = json.dumps({"scale": 1 / 255})


def fill(folder):
    """A small model, a picture and a few more files."""
    metadata = {"onnxviz.labels": LABELS, "onnxviz.preprocess": PREPROCESS}
    onnx.save(net(CAM_NET.format(shape="N,3,24,32"), cam_weights(), metadata=metadata), folder / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "cat.png")
    Image.fromarray(pixels[::-1]).save(folder / "dog.png")


def onnxviz(*arguments):
    """Run a command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def onnxviz_process(*arguments, cwd=None, env=None):
    """Run a command as users do."""
    return subprocess.run(
        [sys.executable, "-c", "from onnxviz.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        cwd=cwd,
        env={**os.environ, "PYTHONUTF8": "1", **(env or {})},
        check=False,
    )


def listing(folder="."):
    """Every file and folder below, with the files' sizes."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size if path.is_file() else None
        for path in Path(folder).rglob("*")
    }


def the_error(result):
    """The one line that a failed command says, after the usage where there is one."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    usage = [line for line in lines[:-1] if line.strip()]
    assert all(line.startswith(("Usage: ", "Try ")) for line in usage), result.stderr
    assert lines[-1].startswith("Error: "), result.stderr
    return lines[-1]
