import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cli.bench import listing, onnxviz, onnxviz_process, the_error
from methods.nets import cam_weights, net, run_plainly

import onnxviz as package
from onnxviz import samples
from onnxviz.cli import _COMMANDS
from onnxviz.methods.attribution.table import METHODS
from onnxviz.methods.query import ask
from onnxviz.views.heatmaps import place as place_map

pytestmark = pytest.mark.usefixtures("place")

LEAVES = [
    *(name for name in _COMMANDS if name != "export"),
    *("export expose", "export gradient", "export explain"),
]


def test_the_help_lists_every_command():
    result = onnxviz("--help")
    assert result.exit_code == 0
    for name in _COMMANDS:
        assert f"\n  {name} " in result.stdout
    assert "Examples:" in result.stdout
    assert onnxviz("-h").stdout == result.stdout


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_helps_with_an_example(name):
    result = onnxviz(*name.split(), "--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "Example" in result.stdout or name == "doctor"
    assert f"  onnxviz {name}" in result.stdout or name == "doctor"
    assert result.stdout.startswith("Usage: ")


def test_the_help_of_explain_lists_the_methods():
    text = " ".join(onnxviz("explain", "--help").stdout.split())
    for method in METHODS:
        assert method in text


def test_the_help_of_a_group_lists_its_commands():
    result = onnxviz("export", "--help")
    assert result.exit_code == 0
    assert "expose" in result.stdout
    assert "gradient" in result.stdout


def test_the_version():
    assert onnxviz("--version").stdout == f"onnxviz, version {package.__version__}\n"


def test_inspect_shows_the_layers():
    result = onnxviz("inspect", "model.onnx")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("model.onnx  opset 18")
    assert "input   x float32[N,3,24,32]" in lines
    assert "output  logits float32[N,4]" in lines
    weights = sum(array.size for array in cam_weights().values())
    assert any(line.startswith(f"7 layers, {weights} parameters, ") for line in lines)
    [row] = [line for line in lines if " c2 " in line]
    assert row.split()[:6] == ["2", "c2", "Conv", "[N,5,24,32]", "270", "207,360"]
    assert "5×5 every 1 from -2" in row


def test_inspect_as_json():
    result = onnxviz("inspect", "model.onnx", "--json")
    found = json.loads(result.stdout)
    assert set(found) >= {"inputs", "outputs", "layers", "model"}
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 3, 24, 32]}]
    assert [layer["name"] for layer in found["layers"]] == [
        "c1", "r1", "c2", "features", "pooled", "flat", "logits",
    ]  # fmt: skip
    assert found["layers"][2] == {
        "index": 2,
        "name": "c2",
        "tensor": "c2",
        "op": "Conv",
        "module": None,
        "shape": ["N", 5, 24, 32],
        "params": 270,
        "macs": 207360,
        "receptive_field": {"size": [5, 5], "stride": [1, 1], "offset": [-2, -2]},
    }


def test_inspect_selects_layers():
    found = json.loads(onnxviz("inspect", "model.onnx", "--layer", "Conv", "--layer", "6", "--json").stdout)
    assert [layer["name"] for layer in found["layers"]] == ["c1", "c2", "logits"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["activations", "model.onnx", "cat.png"],
        ["kernels", "model.onnx"],
        ["explain", "model.onnx", "cat.png"],
    ],
)
def test_commands_that_draw_write_the_default_folder_and_replace_it(place, arguments):
    folder = place / "onnxviz-out" / arguments[0]
    assert onnxviz(*arguments).exit_code == 0
    first = listing(folder)
    assert "manifest.json" in first
    assert any(name.endswith(".png") for name in first)
    assert f"{arguments[0]}.npz" in first
    stamp = (folder / "manifest.json").stat().st_mtime_ns
    assert onnxviz(*arguments, *(["--layer", "c1"] if arguments[0] != "explain" else [])).exit_code == 0
    assert (folder / "manifest.json").stat().st_mtime_ns > stamp
    if arguments[0] != "explain":
        assert len(listing(folder)) < len(first)
    assert set(listing(place)) - set(listing(folder)) >= {"model.onnx", "cat.png"}
    assert [path for path in listing(place) if path.startswith((".", "onnxviz-out/."))] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "model.onnx"],
        ["activations", "model.onnx", "cat.png"],
        ["kernels", "model.onnx"],
        ["explain", "model.onnx", "cat.png"],
        ["explain", "model.onnx", "cat.png", "--method", "guided-backprop"],
        ["deconv", "model.onnx", "cat.png"],
        ["export", "expose", "model.onnx", "--layer", "Conv", "-o", "out.onnx"],
        ["export", "gradient", "model.onnx", "--of", "logits", "--wrt", "x", "-o", "out.onnx"],
        ["doctor"],
    ],
)
def test_json_is_one_document_on_stdout_and_nothing_else(arguments):
    result = onnxviz(*arguments, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert isinstance(document, dict)
    assert all(line.startswith("Warning: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ["activations", "model.onnx", "cat.png", "--preprocess", "unit"],
        ["activations", "plain.onnx", "cat.png"],
        ["kernels", "model.onnx"],
        ["explain", "plain.onnx", "cat.png", "--method", "deconvnet"],
        ["deconv", "plain.onnx", "cat.png"],
        ["explain", "model.onnx", "cat.png"],
        ["export", "expose", "model.onnx", "--layer", "Conv", "-o", "out.onnx"],
    ],
)
def test_quiet_says_nothing_on_stderr(arguments):
    model = onnx.load("model.onnx")
    del model.metadata_props[:]
    onnx.save(model, "plain.onnx")
    loud, quiet = onnxviz(*arguments), onnxviz(*arguments, "-q")
    assert loud.exit_code == quiet.exit_code == 0
    assert loud.stderr != ""
    assert quiet.stderr == ""
    assert quiet.stdout == loud.stdout


def test_a_guess_is_announced_on_stderr():
    model = onnx.load("model.onnx")
    del model.metadata_props[:]
    onnx.save(model, "plain.onnx")
    for command in ("activations", "deconv", "explain"):
        result = onnxviz(command, "plain.onnx", "cat.png", "--json")
        assert "Warning: preprocessing: guess: imagenet" in result.stderr
        assert json.loads(result.stdout)["preprocess"]["source"].startswith("guess: imagenet")


def test_explain_tells_the_classes_and_the_score():
    result = onnxviz("explain", "model.onnx", "cat.png", "dog.png", "--target", "Tabby", "--target", "top2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["cat.png", "dog.png"]
    assert sum("grad-cam for tabby: score" in line for line in lines) == 2
    assert sum("grad-cam for" in line for line in lines) == 6
    assert "output logits; device" in result.stderr
    assert "layer features (Relu): the last activation with places" in result.stderr
    assert "6 maps drawn in onnxviz-out" in result.stderr


def test_the_json_of_explain_is_its_manifest_and_the_place(place):
    result = onnxviz("explain", "model.onnx", "cat.png", "--json", "--out", "here", "--seed", "5")
    found = json.loads(result.stdout)
    written = json.loads((place / "here" / "manifest.json").read_text("utf-8"))
    assert found["out"] == "here"
    assert {key: found[key] for key in found if key != "out"} == {
        key: written[key] for key in written if key != "files"
    }
    assert found["seed"] == 5


def test_the_numbers_of_the_kernels_are_in_the_document():
    found = json.loads(onnxviz("kernels", "model.onnx", "--layer", "c2", "--json").stdout)
    assert list(found["kernels"]) == ["c2"]
    assert found["kernels"]["c2"]["shape"] == [5, 6, 3, 3]
    np.testing.assert_allclose(found["kernels"]["c2"]["values"], cam_weights()["w2"], rtol=1e-6)


def test_the_values_of_the_kernels_are_told():
    result = onnxviz("kernels", "model.onnx", "--layer", "c1")
    w1 = cam_weights()["w1"]
    assert result.stdout.split() == [
        "0", "c1", "[6,", "3,", "3,", "3]", f"{w1.min():.4g}", "to", f"{w1.max():.4g},",
        "mean", f"{w1.mean():.4g},", "standard", "deviation", f"{w1.std():.4g}",
    ]  # fmt: skip


def test_activations_take_a_folder_channels_a_scale_and_a_strip(place):
    (place / "pictures").mkdir()
    for name in ("cat.png", "dog.png"):
        (place / name).rename(place / "pictures" / name)
    result = onnxviz(
        "activations", "model.onnx", "pictures", "--layer", "c*", "--channels", "strongest:2",
        "--scale", "std", "--strip", "1", "--out", "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["shapes"] == {"c1": [2, 6, 24, 32], "c2": [2, 5, 24, 32]}
    written = json.loads((place / "out" / "manifest.json").read_text("utf-8"))
    assert written["channels"] == "strongest:2"
    assert written["scale"] == "std"
    assert {"000-c1.png", "002-c2.png", "strip-channel-1.png"} <= set(written["files"])
    assert [Path(name).name for name in found["pictures"]] == ["cat.png", "dog.png"]


def test_another_size_another_colormap_and_the_opacity(place):
    model = onnx.load("model.onnx")
    result = onnxviz(
        "explain", "model.onnx", "cat.png", "--size", "36x20", "--colormap", "viridis", "--alpha", "0.3",
        "--batch", "1", "--out", "small",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    with np.load(place / "small" / "explain.npz") as arrays:
        assert arrays["heatmap"].shape == (1, 36, 20)
    assert model.graph.input[0].type.tensor_type.shape.dim[2].dim_value == 24
    assert onnxviz("explain", "model.onnx", "cat.png", "--out", "plain").exit_code == 0
    name = next(path.name for path in (place / "plain").glob("*-overlay.png"))
    assert (place / "plain" / name).read_bytes() != (place / "small" / name).read_bytes()


def test_other_inputs_come_from_files():
    text = """
        (float[N,3,24,32] x, float[N,3,1,1] gain) => (float[N,4] y) {
            s = Mul (x, gain) c = Conv (s, w1) r = Relu (c) y = ReduceMean <keepdims = 0> (r, axes)
        }
    """
    w1 = np.random.default_rng(0).normal(0, 0.1, (4, 3, 3, 3)).astype(np.float32)
    onnx.save(net(text, {"w1": w1, "axes": np.array([2, 3])}), "two.onnx")
    np.save("gain.npy", np.full((1, 3, 1, 1), 2, np.float32))
    result = onnxviz(
        "explain", "two.onnx", "cat.png", "--input", "gain=gain.npy", "--preprocess", "unit", "--target", "1",
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    pixels = ask("two.onnx", "cat.png", "unit", {"gain": np.load("gain.npy")}).pictures.array
    expected = run_plainly("two.onnx", {"x": pixels, "gain": np.load("gain.npy")})["y"]
    assert json.loads(result.stdout)["score"] == [pytest.approx(float(expected[0, 1]), rel=1e-5)]


def test_a_users_folder_is_written_only_when_told_to(place):
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("years of work")
    before = listing()
    for arguments in (
        ["activations", "model.onnx", "cat.png"],
        ["kernels", "model.onnx"],
        ["deconv", "model.onnx", "cat.png"],
        ["explain", "model.onnx", "cat.png"],
    ):
        result = onnxviz(*arguments, "--out", "mine")
        assert "mine holds files; add --overwrite" in the_error(result)
        assert listing() == before
        assert onnxviz(*arguments, "--out", "mine", "--overwrite").exit_code == 0
        assert (place / "mine" / "thesis.txt").read_text() == "years of work"
        assert (place / "mine" / "manifest.json").exists()
        for path in (place / "mine").iterdir():
            if path.name != "thesis.txt":
                path.unlink()


def test_an_empty_folder_may_be_named(place):
    (place / "empty").mkdir()
    assert onnxviz("kernels", "model.onnx", "--out", "empty").exit_code == 0
    assert (place / "empty" / "manifest.json").exists()


def plain_session(path):
    onnx.checker.check_model(path, full_check=True)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_an_exposed_model_runs_in_plain_onnxruntime():
    result = onnxviz(
        "export", "expose", "model.onnx", "--layer", "Conv", "--layer", "pooled", "-o", "exposed.onnx"
    )
    assert result.exit_code == 0, result.stderr
    assert "written to exposed.onnx" in result.stderr
    session = plain_session("exposed.onnx")
    assert [value.name for value in session.get_outputs()] == ["c1", "c2", "pooled"]
    x = np.random.default_rng(0).standard_normal((2, 3, 24, 32), np.float32)
    expected = run_plainly("model.onnx", {"x": x}, ["c1", "c2", "pooled"])
    for name, array in zip(["c1", "c2", "pooled"], session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(array, expected[name], atol=1e-6)


def test_an_exposed_model_keeps_its_outputs_when_told_to():
    arguments = ["export", "expose", "model.onnx", "--layer", "c2", "--keep-outputs", "-o", "exposed.onnx"]
    document = json.loads(onnxviz(*arguments, "--json").stdout)
    assert document["outputs"] == ["logits", "c2"]
    assert [value.name for value in plain_session("exposed.onnx").get_outputs()] == ["logits", "c2"]


def test_a_gradient_model_runs_in_plain_onnxruntime():
    arguments = ["export", "gradient", "model.onnx", "--of", "logits", "--wrt", "features", "--wrt", "w3"]
    document = json.loads(onnxviz(*arguments, "-o", "gradient.onnx", "--json").stdout)
    assert document["gradients"] == {"features": "features_grad", "w3": "w3_grad"}
    assert document["cotangent"] == "logits_grad"
    assert document["inputs"] == ["x", "logits_grad"]
    session = plain_session("gradient.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, 24, 32), np.float32)
    seed = np.zeros((2, 4), np.float32)
    seed[0, 1] = seed[1, 3] = 1
    found = session.run(["features_grad", "w3_grad"], {"x": x, "logits_grad": seed})
    w3 = cam_weights()["w3"]
    expected = np.broadcast_to(w3[[1, 3]][:, :, None, None] / (24 * 32), (2, 5, 24, 32))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    pooled = run_plainly("model.onnx", {"x": x}, ["flat"])["flat"]
    np.testing.assert_allclose(found[1], seed.T @ pooled, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rules", ["gradient", "guided-backprop", "deconvnet"])
def test_a_gradient_model_of_another_rule_set(place, rules):
    arguments = ["export", "gradient", "model.onnx", "--of", "logits", "--wrt", "x", "--rules", rules]
    assert onnxviz(*arguments, "-o", "gradient.onnx").exit_code == 0
    session = plain_session("gradient.onnx")
    pixels = ask("model.onnx", "cat.png").pictures.array
    seed = np.eye(4, dtype=np.float32)[[2]]
    [found] = session.run(["x_grad"], {"x": pixels, "logits_grad": seed})
    method = rules
    assert onnxviz("explain", "model.onnx", "cat.png", "--method", method, "--target", 2).exit_code == 0
    with np.load(place / "onnxviz-out" / "explain" / "explain.npz") as arrays:
        np.testing.assert_allclose(arrays["raw"], found, rtol=1e-4, atol=1e-8)


def test_the_exported_gradient_of_the_sample_model(tmp_path):
    out = tmp_path / "gradient.onnx"
    model = samples.sample_model()
    assert onnxviz("export", "gradient", model, "--of", "logits", "--wrt", "input", "-o", out).exit_code == 0
    session = plain_session(str(out))
    pixels = ask(model, samples.sample_picture()).pictures.array
    seed = np.zeros((1, 1000), np.float32)
    seed[0, 285] = 1
    [slopes] = session.run(["input_grad"], {"input": pixels, "logits_grad": seed})
    step = 0.005 * np.sign(slopes)
    up, down = (run_plainly(model, {"input": pixels + s * step})["logits"][0, 285] for s in (1, -1))
    assert (up - down) / 2 == pytest.approx(float((slopes * step).sum()), rel=0.02)


def test_doctor_tells_the_versions_and_the_device():
    result = onnxviz("doctor")
    assert result.exit_code == 0
    assert f"{'onnx':18} {onnx.__version__}" in result.stdout
    assert "device auto takes" in result.stdout
    found = json.loads(onnxviz("doctor", "--json").stdout)
    assert found["device"] in ("cpu", "cuda:0")
    assert found["cpu_works"] is True


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnx_ir"])
def test_doctor_starts_where_a_package_does_not(missing):
    start = f"import sys; sys.modules[{missing!r}] = None; from onnxviz.cli import main; main()"
    for form in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", start, "doctor", *form], capture_output=True, text=True, check=True
        )
        assert f"import of {missing} halted" in done.stdout
    assert json.loads(done.stdout)["problems"]
    failed = subprocess.run(
        [sys.executable, "-c", start, "kernels" if missing != "onnxruntime" else "activations", "model.onnx"]
        + (["cat.png"] if missing == "onnxruntime" else []),
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("Error: ")
    assert "onnxviz doctor" in failed.stderr
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_that_a_pipe_cannot_carry_are_escaped(encoding):
    Path("cat.png").rename("日本-é.png")
    environment = {"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    result = onnxviz_process("explain", "model.onnx", "日本-é.png", "--json", env=environment)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["pictures"] == ["日本-é.png"]
    written = json.loads(Path("onnxviz-out/explain/manifest.json").read_text("utf-8"))
    assert written["pictures"] == ["日本-é.png"]
    result = onnxviz_process("inspect", "model.onnx", env=environment)
    assert result.returncode == 0, result.stderr
    result = onnxviz_process("inspect", "日本.onnx", env={**environment, "PYTHONIOENCODING": "cp1252"})
    assert result.returncode == 2
    assert result.stderr.startswith(r"Error: cannot read the model \u65e5\u672c.onnx: ")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode here")
def test_a_file_name_that_is_no_unicode():
    name = b"a\xffb.png".decode(errors="surrogateescape")
    Path("cat.png").rename(name)
    result = onnxviz("explain", "model.onnx", name)
    assert result.exit_code == 0, result.stderr
    written = json.loads(Path("onnxviz-out/explain/manifest.json").read_text("utf-8"))
    assert written["pictures"] == [name]


def test_the_demo_answers_every_question(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = onnxviz("demo", "--device", "cpu")
    assert result.exit_code == 0, result.output
    questions = [line.partition(":")[0] for line in result.stdout.splitlines()]
    expected = [
        "inspect",
        "kernels",
        "activations",
        "strongest",
        "explain",
        "saliency",
        "methods",
        "deconv",
        "maximize",
        "export",
    ]
    assert questions == expected
    assert "Egyptian cat" in result.stdout
    folder = tmp_path / "onnxviz-out" / "demo"
    assert len(list(folder.rglob("*.png"))) > 30
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["answers"] == result.stdout.splitlines()
    assert all((folder / name).is_file() for name in manifest["files"])
    assert {path.name for path in folder.iterdir()} == {
        *("kernels", "activations", "strongest", "explain", "saliency", "methods", "deconv", "maximize"),
        *("explained.onnx", "manifest.json"),
    }  # fmt: skip
    assert (folder / "methods" / "comparison.png").exists()
    assert [value.name for value in package.load(folder / "explained.onnx").outputs] == ["logits", "heatmap"]


def test_a_command_as_a_process_of_its_own(place):
    result = onnxviz_process("explain", "model.onnx", "cat.png", "--json", cwd=place)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["top5"][0][0]["index"] in range(4)
    assert result.stderr == ""


def test_a_failing_process_says_one_line(place):
    result = onnxviz_process("explain", "missing.onnx", "cat.png", cwd=place)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: cannot read the model missing.onnx: ")
    assert result.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error(place):
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from onnxviz.cli import main; main()",
            "inspect",
            str(samples.sample_model()),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=place,
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert errors == b""


def test_explain_by_several_methods_compares_them_with_a_random_map(place):
    result = onnxviz("explain", "model.onnx", "cat.png", "dog.png", "--method", "grad-cam,gradient", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["method"] == ["grad-cam", "gradient", "random"]
    assert [(entry["method"], entry["picture"]) for entry in found["maps"]] == [
        (name, picture) for name in ("grad-cam", "gradient", "random") for picture in (0, 1)
    ]
    folder = place / "onnxviz-out" / "explain"
    assert (folder / "comparison.png").exists()
    with np.load(folder / "explain.npz") as arrays:
        for method in ("grad-cam", "gradient"):
            alone = package.explain("model.onnx", ["cat.png", "dog.png"], method)
            np.testing.assert_allclose(arrays[f"{method}/raw"], alone.raw, rtol=1e-5)
            np.testing.assert_allclose(arrays[f"{method}/heatmap"], alone.heatmap, atol=1e-6)
    written = json.loads((folder / "manifest.json").read_text())["files"]
    assert written.keys() == {name for name in listing(folder) if name != "manifest.json"}


def test_explain_takes_the_settings_of_a_method():
    arguments = ["explain", "model.onnx", "cat.png", "--method", "integrated-gradients"]
    result = onnxviz(*arguments, "--set", "steps=4", "--set", "baseline=white", "--json")
    found = json.loads(result.stdout)
    assert found["settings"] == {"steps": 4, "baseline": "white"}
    [entry] = found["maps"]
    assert entry["completeness"]["delta"] == pytest.approx(
        abs(entry["completeness"]["sum"] - entry["completeness"]["difference"])
    )
    said = onnxviz(*arguments).stdout
    assert "sums to" in said
    assert "(delta " in said
    line = the_error(onnxviz(*arguments, "--set", "step=4"))
    assert "has no setting 'step'; did you mean 'steps'" in line
    assert "write NAME=VALUE" in the_error(onnxviz(*arguments, "--set", "steps"))


def test_explain_lists_the_methods_with_their_settings():
    result = onnxviz("explain", "--list-methods")
    assert result.exit_code == 0
    for name, method in METHODS.items():
        [line] = [line for line in result.stdout.splitlines() if line.startswith(f"{name} ")]
        assert method.cost in line
        assert all(f"{key}={value}" in line for key, value in method.settings.items())


def test_a_folder_of_pictures_streams_and_a_bad_one_is_passed_over(place, monkeypatch):
    from onnxviz.methods import stream

    folder = place / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(7):
        package_picture(rng).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"no picture")
    monkeypatch.setattr(stream, "AT_ONCE", 2)
    asked = []
    whole = stream.ask
    monkeypatch.setattr(stream, "ask", lambda *given: asked.append(len(given[1])) or whole(*given))
    result = onnxviz("explain", "model.onnx", "many", "--target", "0", "--target", "3", "--json")
    assert result.exit_code == 0, result.stderr
    assert asked == [2, 2, 2, 1]
    found = json.loads(result.stdout)
    names = [Path(name).name for name in found["pictures"]]
    assert names == ["0.png", "1.png", "2.png", "4.png", "5.png", "6.png"]
    assert [entry["picture"] for entry in found["maps"]] == [n for n in range(6) for _ in range(2)]
    assert any("passed over" in warning and "3.png" in warning for warning in found["warnings"])
    alone = package.explain("model.onnx", [str(folder / name) for name in names], target=3)
    with np.load(place / "onnxviz-out" / "explain" / "explain.npz") as arrays:
        np.testing.assert_allclose(arrays["raw"][1::2], alone.raw, rtol=1e-5)
    assert [entry["label"] for entry in found["target"]][1] == alone.evidence[0].target.text


def test_a_folder_without_one_good_picture(place):
    folder = place / "none"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no picture")
    (folder / "b.png").write_bytes(b"no picture")
    assert "not one of the pictures can be read" in the_error(onnxviz("explain", "model.onnx", "none"))
    assert not (place / "onnxviz-out").exists()


def package_picture(rng):
    from PIL import Image

    return Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))


def test_export_explain_writes_a_file_that_plain_onnxruntime_runs(place):
    result = onnxviz("export", "explain", "model.onnx", "--fold-preprocess", "-o", "explained.onnx", "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["inputs"] == ["image", "target"]
    assert said["outputs"] == ["logits", "heatmap"]
    session = onnxruntime.InferenceSession("explained.onnx", providers=["CPUExecutionProvider"])
    from PIL import Image

    picture = np.asarray(Image.open("cat.png"))[None]
    logits, heatmap = session.run(None, {"image": picture, "target": np.array([3])})
    expected = package.explain("model.onnx", "cat.png", target=3)
    assert heatmap.shape == (1, 48, 64)
    laid = place_map(expected.heatmap[0], expected.pictures.boxes[0], (48, 64))
    np.testing.assert_allclose(heatmap[0], np.clip(laid, 0, 1), atol=1e-5)
    assert logits[0, 3] == pytest.approx(expected.score[0], rel=1e-4)
    refused = the_error(onnxviz("export", "explain", "model.onnx", "--method", "rise", "-o", "no.onnx"))
    assert "rise is no single graph" in refused
    assert not (place / "no.onnx").exists()
