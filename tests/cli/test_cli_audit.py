import json
from pathlib import Path

import onnx
import pytest
from auditing.exports import changed, photographs, plain
from cli.bench import listing, onnxviz, onnxviz_process

OPTIONS = ("--device", "cpu", "--explain", "0")


@pytest.fixture(autouse=True)
def _exports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs(Path("photos"), 8)
    onnx.save(plain(), "reference.onnx")
    onnx.save(plain(fold=True), "good.onnx")
    onnx.save(changed(plain(fold=True), "stem.w", lambda array: array.fill(float("nan"))), "bad.onnx")


def audit(*arguments):
    return onnxviz("audit", *arguments, *OPTIONS)


def test_a_good_file_passes_and_its_gates_hold():
    result = audit("good.onnx", "reference.onnx", "--images", "photos", "--fail-on", "agreement.top1<0.98")
    assert result.exit_code == 0, result.output
    assert result.stdout == "pass\n"
    assert set(listing("onnxviz-out/audit")) == {"audit.json", "junit.xml", "manifest.json", "report.html"}
    assert "report.html" in result.stderr


def test_a_failed_gate_is_the_exit_code():
    result = audit("bad.onnx", "reference.onnx", "--images", "photos", "--fail-on", "counts.error>0")
    assert result.exit_code == 1, result.output
    assert result.stdout.startswith("fail\n  The gate counts.error>0 fails")
    missing = audit("good.onnx", "--images", "photos", "--fail-on", "agreement.top1<0.5")
    assert missing.exit_code == 1
    assert "not measured" in missing.stdout


def test_without_gates_nothing_fails_but_the_verdict():
    result = audit("bad.onnx", "reference.onnx", "--images", "photos")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("fail\n")
    assert "counts.error>0" in result.stderr


def test_json_is_audit_json_and_nothing_else():
    result = audit("good.onnx", "reference.onnx", "--images", "photos", "--json")
    said = json.loads(result.stdout)
    assert said == json.loads(Path("onnxviz-out/audit/audit.json").read_text("utf-8"))
    assert {"verdict", "gates", "identity", "agreement", "layers", "drift", "findings"} <= set(said)


def test_a_policy_and_a_baseline():
    Path("audit.toml").write_text(
        'fail-on = ["baseline.new[*].severity==error"]\n[severity]\nnan-weight = "info"\n'
    )
    first = audit("good.onnx", "reference.onnx", "--images", "photos", "--out", "first")
    assert first.exit_code == 0, first.output
    result = audit(
        "bad.onnx", "reference.onnx", "--images", "photos", "--policy", "audit.toml",
        "--baseline", "first/audit.json", "--json",
    )  # fmt: skip
    assert result.exit_code == 1, result.output
    said = json.loads(result.stdout)
    assert {one["code"] for one in said["baseline"]["new"]} >= {"nan-weight", "nan-activation"}
    assert {one["severity"] for one in said["findings"] if one["code"] == "nan-weight"} == {"info"}
    assert {"path": "agreement.top1", "before": 1.0, "now": said["agreement"]["top1"], "worse": True} in said[
        "baseline"
    ]["changes"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["none.onnx"], "cannot read the model none.onnx"),
        (["photos/000.png"], "not an ONNX model"),
        (["good.onnx", "none.onnx", "--images", "photos"], "cannot read the model none.onnx"),
        (["good.onnx", "reference.onnx"], "--images"),
        (["good.onnx", "--images", "none"], "no such file"),
        (["good.onnx", "--fail-on", "agreement.top1"], "write one such as"),
        (["good.onnx", "--fail-on", "agremeent.top1<1"], "did you mean 'agreement'"),
        (["good.onnx", "--policy", "none.toml"], "cannot read the policy"),
        (["good.onnx", "--baseline", "photos/000.png"], "not a JSON file"),
        (["good.onnx", "--images", "photos", "--method", "grad-kam", "--explain", "1"], "grad-cam"),
        (["good.onnx", "--images", "photos", "--preprocess", "imagnet"], "did you mean 'imagenet'"),
        (["good.onnx", "--images", "photos", "--output", "score"], "did you mean 'scores'"),
        (["good.onnx", "--images", "photos", "--labels", "none.txt"], "none.txt"),
    ],
)
def test_misuse_exits_with_2_and_one_line(arguments, why):
    result = onnxviz("audit", *arguments, "--device", "cpu")
    assert result.exit_code == 2, result.output
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert why in result.stderr
    assert not Path("onnxviz-out").exists()


def test_a_folder_that_holds_files_is_kept():
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("notes")
    result = audit("good.onnx", "--out", "mine")
    assert result.exit_code == 2
    assert listing("mine") == {"notes.txt": 5}


def test_the_process_exits_with_its_code():
    done = onnxviz_process("audit", "bad.onnx", "--fail-on", "counts.nan-weight>0", "-q", "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "fail"
