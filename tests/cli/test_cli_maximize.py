import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.bench import listing, onnxviz, the_error
from PIL import Image

from onnxviz.methods.ascent.run import Run

pytestmark = pytest.mark.usefixtures("place")

SHORT = ("--steps", 3, "--device", "cpu")


def manifest(folder="onnxviz-out/maximize"):
    return json.loads(Path(folder, "manifest.json").read_text())


def numbers(folder="onnxviz-out/maximize"):
    with np.load(Path(folder, "maximized.npz")) as held:
        return {name: held[name] for name in held.files}


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_channels_are_drawn_each_alone_and_on_a_sheet():
    result = onnxviz(
        "maximize", "model.onnx", "--layer", "c2", "--channels", "0,3", "--recipe", "hvass", *SHORT
    )
    assert result.exit_code == 0, result.output
    assert set(listing("onnxviz-out/maximize")) == {
        "000-c2_0.png", "001-c2_3.png", "curves.png", "grid.png", "manifest.json", "maximized.npz",
    }  # fmt: skip
    said = manifest()
    assert said["recipe"]["name"] == "hvass"
    assert said["recipe"]["steps"] == 3
    assert said["channels"] == [0, 3]
    assert said["gradient"] == "graph"
    losses = numbers()["losses"]
    assert losses.shape == (2, 3)
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == ["c2 0", "c2 3"]
    assert f"{losses[0][0]:.4g} to {losses[0][-1]:.4g}" in result.stdout
    image = pixels("onnxviz-out/maximize/000-c2_0.png")
    assert image.shape == (24, 32, 3)
    assert (image.min(), image.max()) == (0, 255)  # from the smallest number to the largest


def test_sorted_by_the_last_loss_and_only_the_best_on_the_sheet():
    asked = ("maximize", "model.onnx", "--layer", "c2", "--channels", "all", "--recipe", "chollet", *SHORT)
    result = onnxviz(*asked, "--sort", "--most", 2, "--crop", "8x8", "--columns", 2, "--out", "a")
    last = numbers("a")["losses"][:, -1]
    order = [int(line.split()[1]) for line in result.stdout.splitlines()]
    assert order == np.argsort(-last, kind="stable").tolist()
    whole = onnxviz(*asked, "--out", "b")
    assert whole.exit_code == 0
    small, large = (pixels(f"{folder}/grid.png") for folder in "ab")
    assert len(small) < len(large)


def test_classes_by_name_with_the_classic_report():
    result = onnxviz(
        "maximize", "model.onnx", "--target", "tabby", "--recipe", "hvass", *SHORT, "--report", "--json"
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["target"] == ["tabby"]
    lines = Path("onnxviz-out/maximize/report.txt").read_text().splitlines()
    assert [line.split("Iteration: ")[1].split(",")[0] for line in lines] == ["0", "1", "2"]
    for word in ("Predicted class-name:", "score:", "Gradient min:", "max:", "stepsize:", "Loss:"):
        assert word in lines[0]
    assert float(lines[2].split("Loss: ")[1]) == pytest.approx(said["loss_last"][0], rel=1e-5)


def test_settings_override_the_recipe_and_copies_are_numbered():
    result = onnxviz(
        "maximize", "model.onnx", "--objective", "channel(c1, 1) - 0.5 * channel(c1, 2)", "--copies", 2,
        "--recipe", "lucid", "--steps", 2, "--transforms", "jitter:2,blur:1", "--no-decorrelate",
        "--rate", 0.1,
        "--tv", 0.5, "--l1", 0.1, "--batch", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    said = manifest()["recipe"]
    assert (said["transforms"], said["decorrelate"], said["rate"]) == (["jitter:2", "blur:1"], False, 0.1)
    assert [line.split("  ")[0][-2:] for line in result.stdout.splitlines()] == ["#0", "#1"]
    assert list(manifest()["stability"]) == ["channel(c1, 1) - 0.5 * channel(c1, 2)"]


def test_deepdream_from_a_photograph():
    result = onnxviz(
        "maximize", "model.onnx", "--layer", "c1", "--recipe", "deepdream", "--start", "cat.png", "--steps", 1
    )
    assert result.exit_code == 0, result.output
    assert numbers()["losses"].shape == (1, 4)


def test_the_recipes_are_listed():
    result = onnxviz("maximize", "--list-recipes")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert {"chollet", "hvass", "yosinski", "lucid", "maco", "deepdream"} <= set(lines)
    assert "steps=512" in lines["lucid"]
    assert "transforms=pad:12,jitter:8" in lines["lucid"]


def test_stopped_and_resumed(monkeypatch):
    asked = (
        "maximize",
        "model.onnx",
        "--layer",
        "c2",
        "--channels",
        "0,1",
        "--batch",
        1,
        "--recipe",
        "hvass",
    )
    onnxviz(*asked, *SHORT, "--out", "whole")
    steps = Run._steps

    def stopping(self):
        for number, _ in enumerate(steps(self)):
            yield
            if number == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_steps", stopping)
        stopped = onnxviz(*asked, *SHORT, "--out", "part")
    assert stopped.exit_code == 130
    assert "--resume goes on" in stopped.stderr
    assert manifest("part")["finished"] is False
    assert Path("part/resume.npz").exists()
    resumed = onnxviz(*asked, *SHORT, "--out", "part", "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert not Path("part/resume.npz").exists()
    whole, part = numbers("whole"), numbers("part")
    assert all(np.array_equal(whole[name], part[name]) for name in whole)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_writes_what_is_done():
    """A real signal to a real process, as soon as it says that it climbs."""
    code = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
from onnxviz.methods.ascent.run import Run
from onnxviz.cli import main
steps = Run._steps
def stopping(self):
    for number, _ in enumerate(steps(self)):
        yield
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
Run._steps = stopping
main()
"""
    asked = [
        "maximize",
        "model.onnx",
        "--layer",
        "c2",
        "--channels",
        "0",
        "--recipe",
        "hvass",
        "--steps",
        "500",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *asked], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert np.isnan(numbers()["losses"]).any()
    assert Path("onnxviz-out/maximize/resume.npz").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--layer", "c9"), "did you mean"),
        (("--layer", "c2", "--channels", "99"), "channels 0 to 4"),
        (("--target", "wolf"), "wolf"),
        (("--objective", "chanel(c2, 1)"), "did you mean 'channel'"),
        (("--layer", "c2", "--start", "gone.png"), "gone.png"),
        (("--layer", "c2", "--resume"), "leave --resume out"),
        (("--layer", "c2", "--transforms", "wobble:1"), "no transform 'wobble:1'"),
        (("--layer", "c2", "--recipe", "lucid", "--blur", "1"), "--image pixels"),
        (("--layer", "c2", "--decay", "2"), "--decay"),
        (("--layer", "c2", "--recipe", "hvas"), "--recipe"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(asked, message):
    before = listing()
    result = onnxviz("maximize", "model.onnx", *asked)
    assert message in the_error(result)
    assert listing() == before


def test_a_broken_rest_is_refused():
    Path("mine").mkdir()
    Path("mine/resume.npz").write_bytes(b"not an archive")
    result = onnxviz("maximize", "model.onnx", "--layer", "c2", "--out", "mine", "--resume")
    assert "leave --resume out" in the_error(result)


def test_a_folder_of_others_is_not_touched():
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep me")
    result = onnxviz("maximize", "model.onnx", "--layer", "c2", "--out", "mine", *SHORT)
    assert "mine" in the_error(result)
    assert Path("mine/notes.txt").read_text() == "keep me"
