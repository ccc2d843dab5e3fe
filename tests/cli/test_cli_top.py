import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.bench import listing, onnxviz, the_error
from PIL import Image

pytestmark = pytest.mark.usefixtures("place")

ASKED = ("top", "model.onnx", "photos", "--layer", "features", "--device", "cpu")


@pytest.fixture(autouse=True)
def _photos(place):
    rng = np.random.default_rng(0)
    for number in range(12):
        path = place / "photos" / ("a", "b")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(path)


def document(name, folder="onnxviz-out/top"):
    return json.loads(Path(folder, name).read_text())


def test_sheets_pages_and_numbers():
    result = onnxviz(*ASKED, "--channels", "1,3", "-k", 4, "--pages")
    assert result.exit_code == 0, result.output
    assert set(listing("onnxviz-out/top")) == {
        "003-features.png", "channel-0001.png", "channel-0003.png", "manifest.json", "statistics.json",
        "top.json", "top.npz",
    }  # fmt: skip
    channels = document("top.json")["channels"]
    assert [one["channel"] for one in channels] == [1, 3]
    values = [picture["value"] for picture in channels[0]["pictures"]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 4
    assert result.stdout.splitlines()[0].split() == [
        "1", f"{values[0]:.4g}", channels[0]["pictures"][0]["path"],
    ]  # fmt: skip
    spread = document("statistics.json")
    assert spread["pictures"] == 12
    assert len(spread["channels"]) == 5
    assert {"mean", "quantiles", "share_of_zeros", "share_of_dead_pictures"} <= set(spread["channels"][0])
    assert document("manifest.json")["projections"] is True
    assert not Path("onnxviz-out/top.partial.npz").exists()


def test_json_and_patterns_and_no_projections():
    result = onnxviz(
        "top", "model.onnx", "photos/a/*.png", "--layer", "features", "--channels", "0", "--no-projections",
        "--json", "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["pictures"]["count"] == 6
    assert all("photos/a/" in one["path"] for one in said["channels"][0]["pictures"])


def test_a_broken_picture_is_reported_and_passed_over():
    Path("photos/a/02.png").write_bytes(b"no picture")
    result = onnxviz(*ASKED, "--channels", "0")
    assert result.exit_code == 0, result.output
    assert "passed over" in result.stderr
    assert "02.png" in result.stderr
    assert document("manifest.json")["pictures"]["failed"][0]["name"].endswith("02.png")


KILLED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
from onnxviz.cli import main
from onnxviz.methods.top import job
from onnxviz.methods.top.ledger import Ledger
job.CHUNK = 3
enter, seen = Ledger.enter, []
def dying(self, chunk, summary):
    enter(self, chunk, summary)
    self.write()
    seen.append(chunk)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.{signal})
Ledger.enter = dying
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -9), ("SIGINT", 130)])
def test_a_killed_run_goes_on_to_the_same_answer(name, code, monkeypatch):
    whole = onnxviz(*ASKED, "--channels", "all", "--no-projections", "--out", "whole")
    assert whole.exit_code == 0, whole.output
    killed = subprocess.run(
        [
            *(sys.executable, "-c", KILLED.format(signal=name)),
            *map(str, (*ASKED, "--channels", "all", "--no-projections", "--out", "cut")),
        ],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert killed.returncode == code
    assert "Traceback" not in killed.stderr
    assert not Path("cut").exists()
    assert Path("cut.partial.npz").exists()
    monkeypatch.setattr("onnxviz.methods.top.job.CHUNK", 3)
    again = onnxviz(*ASKED, "--channels", "all", "--no-projections", "--out", "cut")
    assert again.exit_code == 0, again.output
    assert "going on after 6 of 12 pictures" in again.stderr
    assert not Path("cut.partial.npz").exists()
    for file in ("top.json", "statistics.json", "top.npz"):
        assert Path("cut", file).read_bytes() == Path("whole", file).read_bytes()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("top", "model.onnx", "void", "--layer", "features"), "void"),
        (("top", "model.onnx", "photos", "--layer", "feature"), "did you mean 'features'"),
        (("top", "model.onnx", "photos", "--layer", "features", "--channels", "77"), "channels 0 to 4"),
        (("top", "model.onnx", "photos/*.webp", "--layer", "features"), "no file matches"),
        (("top", "model.onnx", "photos", "--layer", "features", "--engine", "rax"), "--engine"),
        (("top", "model.onnx", "photos"), "--layer"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(asked, message):
    before = {name: size for name, size in listing().items() if not name.endswith(".partial.npz")}
    result = onnxviz(*asked, "--device", "cpu") if "--engine" not in asked else onnxviz(*asked)
    assert message in the_error(result)
    after = {name: size for name, size in listing().items() if not name.endswith(".partial.npz")}
    assert {name for name in after if not name.startswith("onnxviz-out")} == set(before)


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = onnxviz(*ASKED, "--engine", "ray")
    assert 'pip install "onnxviz[ray]"' in the_error(result)
