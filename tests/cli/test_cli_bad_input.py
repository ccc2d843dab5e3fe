import json
import os
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from cli.bench import listing, onnxviz, onnxviz_process, the_error
from methods.nets import net
from onnx import numpy_helper

from onnxviz import samples
from onnxviz.cli import options
from onnxviz.errors import ShapeError
from onnxviz.methods import activations as activations_room
from onnxviz.methods import save
from onnxviz.methods.attribution import question
from onnxviz.runtime import devices

pytestmark = pytest.mark.usefixtures("place")

ACTIVATIONS = ["activations", "model.onnx", "cat.png"]
EXPLAIN = ["explain", "model.onnx", "cat.png"]
GRADIENT = ["export", "gradient", "model.onnx", "-o", "out.onnx"]


def refused(arguments, *parts):
    """Run a command that must say one line with these parts and leave nothing behind."""
    before = listing()
    result = onnxviz(*arguments)
    line = the_error(result)
    for part in parts:
        assert part in line, line
    assert listing() == before
    return line


def with_model(file):
    """Every command that takes a model, given this one."""
    return [
        ["inspect", file],
        ["inspect", file, "--json"],
        ["activations", file, "cat.png"],
        ["kernels", file],
        ["deconv", file, "cat.png"],
        ["explain", file, "cat.png"],
        ["export", "expose", file, "--layer", "Conv", "-o", "out.onnx"],
        ["export", "gradient", file, "--of", "y", "--wrt", "x", "-o", "out.onnx"],
    ]


@pytest.mark.parametrize("which", range(8))
def test_a_model_that_is_missing(which):
    refused(with_model("missing.onnx")[which], "missing.onnx", "No such file")


@pytest.mark.parametrize("which", range(8))
def test_a_model_that_is_a_folder(which):
    Path("folder.onnx").mkdir()
    refused(with_model("folder.onnx")[which], "folder.onnx", "directory")


@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize("content", ["text", "empty", "picture", "noise", "other protobuf"])
def test_a_model_that_is_no_onnx(which, content):
    data = {
        "text": b"this is not a model\n" * 40,
        "empty": b"",
        "picture": Path("cat.png").read_bytes(),
        "noise": np.random.default_rng(0).bytes(5000),
        "other protobuf": numpy_helper.from_array(np.zeros(4)).SerializeToString(),
    }[content]
    Path("other.onnx").write_bytes(data)
    refused(with_model("other.onnx")[which], "other.onnx", "not an ONNX model")


@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_a_model_that_is_truncated(which, part):
    data = Path("model.onnx").read_bytes()
    Path("half.onnx").write_bytes(data[: int(len(data) * part)])
    refused(with_model("half.onnx")[which], "half.onnx")


def test_a_truncated_sample_model():
    data = samples.sample_model().read_bytes()
    Path("half.onnx").write_bytes(data[: len(data) // 2])
    refused(["explain", "half.onnx", "cat.png"], "half.onnx is not an ONNX model, or it is truncated")


@pytest.mark.parametrize(
    "arguments",
    [
        [*ACTIVATIONS, "--layer"],
        ["kernels", "model.onnx", "--layer"],
        [*EXPLAIN, "--layer"],
        ["inspect", "model.onnx", "--layer"],
        ["export", "expose", "model.onnx", "-o", "out.onnx", "--layer"],
    ],
)
@pytest.mark.parametrize(
    ("selector", "part"),
    [
        ("featurs", "did you mean 'features'"),
        ("99", "no layer 99: this model has layers 0 to 6"),
        ("-1", "no layer -1"),
        ("zzz*", "no layer 'zzz*'"),
        ("", "no layer ''"),
    ],
)
def test_a_layer_that_does_not_exist(arguments, selector, part):
    refused([*arguments, selector], part)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([*ACTIVATIONS, "--channels", "0,99"], ["no channel 99 in layer 'c1'", "0 to 5"]),
        ([*ACTIVATIONS, "--channels", "5"], ["no channel 5 in layer 'c2'", "0 to 4"]),
        ([*ACTIVATIONS, "--channels", "3-1"], ["backwards"]),
        ([*ACTIVATIONS, "--channels", "best"], ["cannot read channels 'best'"]),
        ([*ACTIVATIONS, "--channels", "strongest:0"], ["strongest:0"]),
        ([*ACTIVATIONS, "--strip", "6"], ["no layer here has a channel 6"]),
        ([*ACTIVATIONS, "--strip", "-1"], ["--strip"]),
        ([*ACTIVATIONS, "--scale", "best"], ["--scale", "layer"]),
    ],
)
def test_channels_that_do_not_exist(arguments, parts):
    refused(arguments, *parts)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("4", ["no class 4", "classes 0 to 3"]),
        ("-1", ["no class -1"]),
        ("--1", ["'--1'"]),
        ("²", ["no class is called '²'"]),
        ("9" * 5000, ["no class is called"]),
        ("tabbi", ["no class is called 'tabbi'", "did you mean 'tabby'"]),
        ("crane", ["'crane' names several classes", "1 (crane)", "2 (Crane, digger)"]),
        ("", ["no class is called ''"]),
        ("top0", ["'top0'", "4 classes"]),
        ("top5", ["'top-5'", "4 classes"]),
        ("top99999999", ["'top99999999' is more than 1000"]),
        ("top1000000000", ["no class is called"]),
        ("0 vs 9", ["no class 9"]),
        ("0 vs 1 vs 2", ["more than two"]),
        ("logits[0,9]", ["out of range on axis 1", "0 to 3"]),
        ("logits[0]", ["needs 2 numbers", "logits[0,0]"]),
        ("logits[1,0]", ["first index is the batch"]),
        ("boxes[0,0]", ["no output 'boxes'"]),
        ("logits[0,1\t2]", ["logits"]),
    ],
)
def test_a_target_that_does_not_exist(target, parts):
    refused([*EXPLAIN, f"--target={target}"], *parts)


def test_targets_on_several_outputs():
    refused([*EXPLAIN, "--target", "logits[0,0]", "--target", "boxes[0,0]"], "targets on several outputs")


@pytest.mark.parametrize("command", ["activations", "explain"])
def test_a_picture_that_is_none(command):
    Path("notes.png").write_text("no picture")
    Path("half.png").write_bytes(Path("cat.png").read_bytes()[:2000])
    Path("empty").mkdir()
    for file, part in (
        ("notes.png", "not a picture in a format"),
        ("half.png", "cannot be read as a picture"),
        ("model.onnx", "not a picture in a format"),
        ("missing.png", "missing.png: no such file"),
        ("empty", "empty: there is no picture in this folder"),
    ):
        refused([command, "model.onnx", "cat.png", file], file, part)


@pytest.mark.parametrize("command", ["activations", "explain"])
def test_no_picture_at_all(command):
    refused([command, "model.onnx"], "IMAGE")


def test_a_method_that_does_not_exist():
    refused([*EXPLAIN, "--method", "gradcam"], "no method 'gradcam'", "did you mean 'grad-cam'")
    refused([*EXPLAIN, "--method", ""], "no method ''", "grad-cam")
    refused([*EXPLAIN, "--method", "Grad-CAM"], "no method 'Grad-CAM'", "did you mean 'grad-cam'")
    refused([*EXPLAIN, "--gradient", "exact"], "--gradient", "numeric")
    refused([*EXPLAIN, "--method", "gradient", "--gradient", "numeric"], "leave out --gradient numeric")


def mlp():
    text = """
        (float[N,3,8,8] x) => (float[N,4] y) {
            f = Flatten (x) h = Gemm (f, w1) r = Relu (h) y = Gemm (r, w2)
        }
    """
    rng = np.random.default_rng(0)
    weights = {"w1": rng.standard_normal((192, 5), np.float32), "w2": rng.standard_normal((5, 4), np.float32)}
    onnx.save(net(text, weights), "mlp.onnx")


def test_grad_cam_of_a_model_without_places():
    mlp()
    line = refused(["explain", "mlp.onnx", "cat.png"], "no layer with feature maps", "--method gradient")
    assert "'y'" in line
    refused(["explain", "mlp.onnx", "cat.png", "--layer", "r"], "'r' has no feature maps")
    refused(["activations", "mlp.onnx", "cat.png"], "no layer 'Conv'")
    refused(["kernels", "mlp.onnx"], "no layer 'Conv'")
    assert onnxviz("inspect", "mlp.onnx").exit_code == 0
    for method in ("gradient", "input-x-gradient"):
        result = onnxviz("explain", "mlp.onnx", "cat.png", "--method", method, "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["layer"] == []
    assert onnxviz("activations", "mlp.onnx", "cat.png", "--layer", "all").exit_code == 0


def test_an_operator_that_onnxruntime_does_not_know():
    text = """
        (float[N,3,24,32] x) => (float[N,4,24,32] y) {
            c1 = Conv <pads = [1,1,1,1]> (x, w) z = com.acme.Frobnicate (c1) y = Relu (z)
        }
    """
    model = net(text, {"w": np.ones((4, 3, 3, 3), np.float32)})
    model.opset_import.add(domain="com.acme", version=1)
    model.graph.node[1].name = "the_one"
    onnx.save(model, "custom.onnx")
    result = onnxviz("inspect", "custom.onnx", "--json")
    assert result.exit_code == 0
    assert [layer["op"] for layer in json.loads(result.stdout)["layers"]] == ["Conv", "Frobnicate", "Relu"]
    assert onnxviz("kernels", "custom.onnx", "--out", "kernels").exit_code == 0
    for command in ("explain", "activations"):
        refused([command, "custom.onnx", "cat.png"], "custom.onnx", "Frobnicate", "com.acme")
    export = ["export", "expose", "custom.onnx", "--layer", "Conv", "-o", "front.onnx"]
    assert onnxviz(*export).exit_code == 0
    onnx.checker.check_model("front.onnx", full_check=True)
    pull = ["export", "gradient", "custom.onnx", "--of", "y", "--wrt", "c1", "-o", "out.onnx"]
    refused(pull, "com.acme::Frobnicate", "the_one")


@pytest.mark.parametrize("shape", ["N,10", "N,3,8", "N,3,8,8,8", ""])
def test_a_model_that_takes_no_picture(shape):
    onnx.save(net(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}", {}), "plain.onnx")
    assert onnxviz("inspect", "plain.onnx").exit_code == 0
    for command in ("explain", "activations"):
        refused([command, "plain.onnx", "cat.png"], "no input takes pictures", "x float32")


def test_a_picture_does_not_fill_five_channels():
    onnx.save(net("(float[N,5,8,8] x) => (float[N,5,8,8] y) { y = Relu (x) }", {}), "five.onnx")
    refused(["explain", "five.onnx", "cat.png"], "5 channels")


def test_a_model_with_an_input_that_was_not_given():
    text = "(float[N,3,8,8] x, float[N,1] gain) => (float[N,3,8,8] y) { y = Relu (x) }"
    onnx.save(net(text, {}), "two.onnx")
    refused(
        ["activations", "two.onnx", "cat.png", "--layer", "all"], "also needs 'gain'", "--input NAME=FILE.npy"
    )


DRAWING = [ACTIVATIONS, EXPLAIN, ["kernels", "model.onnx"], ["demo", "--device", "cpu"]]


@pytest.mark.parametrize("arguments", DRAWING)
def test_a_file_in_the_way_of_the_folder(arguments):
    Path("taken").write_text("mine")
    Path("onnxviz-out").write_text("mine too")
    refused([*arguments, "--out", "taken"], "taken", "file")
    refused([*arguments, "--out", "taken", "--overwrite"], "taken", "file")
    refused([*arguments, "--out", "taken/below"], "taken", "file")
    refused(arguments, "onnxviz-out", "file")


@pytest.mark.parametrize("arguments", DRAWING)
@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_that_is_no_place_for_results(arguments, out):
    refused([*arguments, "--out", out, "--overwrite"], "will not replace")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is writable here")
def test_a_folder_that_may_not_be_written():
    Path("locked").mkdir(mode=0o500)
    refused([*EXPLAIN, "--out", "locked/out"], "locked/out", "choose a place that you may write to")


@pytest.mark.parametrize("command", ["activations", "explain"])
@pytest.mark.parametrize(
    ("preprocess", "parts"),
    [
        ("imagnet", ["imagnet: neither a file nor a preset", "did you mean 'imagenet'"]),
        ("bad.toml", ["bad.toml: not a TOML file"]),
        ("key.toml", ["key.toml: unknown key 'scael'", "did you mean 'scale'"]),
        ("value.toml", ["value.toml: std must not hold 0"]),
        ("size.toml", ["size.toml: size is [8, 8] but input 'x' takes [24,32]"]),
        ("grey.toml", ["grey.toml: color L does not fill input 'x' of 3 channels"]),
        ("cat.png", ["cat.png: not a TOML file"]),
        (".", [".: cannot be read"]),
    ],
)
def test_a_preprocessing_that_cannot_be_used(command, preprocess, parts):
    Path("bad.toml").write_text("scale = [")
    Path("key.toml").write_text("scael = 2")
    Path("value.toml").write_text("std = [0.0]")
    Path("size.toml").write_text("size = [8, 8]")
    Path("grey.toml").write_text('color = "L"')
    refused([command, "model.onnx", "cat.png", "--preprocess", preprocess], *parts)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("gain", ["cannot read --input 'gain'", "NAME=FILE.npy"]),
        ("=x.npy", ["cannot read --input"]),
        ("gain=", ["cannot read --input"]),
        ("gain=missing.npy", ["--input gain", "missing.npy", "No such file"]),
        ("gain=cat.png", ["--input gain", "cat.png is not a .npy file"]),
        ("gain=empty.npy", ["--input gain", "empty.npy is not a .npy file"]),
        ("gain=several.npz", ["several.npz holds several arrays"]),
        ("gain=objects.npy", ["objects.npy is not a .npy file of numbers"]),
        ("gain=.", ["--input gain"]),
        ("gain=good.npy", ["no input 'gain' in this model", "x float32[N,3,24,32]"]),
    ],
)
def test_an_input_that_cannot_be_used(given, parts):
    np.save("good.npy", np.zeros(3))
    np.save("objects.npy", np.array([{}, None], object))
    np.savez("several.npz", a=np.zeros(3), b=np.zeros(3))
    Path("empty.npy").write_bytes(b"")
    refused([*EXPLAIN, "--input", given], *parts)


def test_an_input_of_the_wrong_shape():
    text = """
        (float[N,3,24,32] x, float[2,2] gain) => (float[N,3,24,32] y) {
            m = ReduceMax <keepdims = 0> (gain) y = Mul (x, m)
        }
    """
    onnx.save(net(text, {}), "two.onnx")
    np.save("gain.npy", np.zeros(3, np.float32))
    refused(
        ["activations", "two.onnx", "cat.png", "--layer", "y", "--input", "gain=gain.npy"],
        "'gain' is [2,2], but [3] was given",
    )


@pytest.mark.parametrize(
    "size", ["224", "0x5", "axb", "3x4x5", "-3x4", "x", "²x2", "1.5x2", "", "99999x99999", "9999999999x1"]
)
def test_a_size_that_is_none(size):
    refused([*EXPLAIN, f"--size={size}"], "--size", "HEIGHTxWIDTH")


def test_a_size_that_the_graph_does_not_take():
    mlp()
    refused(
        ["explain", "mlp.onnx", "cat.png", "--method", "gradient", "--size", "16x12"],
        "cannot be run at size 16x12",
    )


@pytest.mark.parametrize("arguments", [ACTIVATIONS, EXPLAIN, ["kernels", "model.onnx"]])
def test_a_colormap_that_does_not_exist(arguments):
    refused([*arguments, "--colormap", "virdis"], "virdis", "viridis")


@pytest.mark.parametrize("option", [["--batch", "0"], ["--batch", "x"], ["--alpha", "1.5"], ["--seed", "x"]])
def test_numbers_out_of_their_range(option):
    refused([*EXPLAIN, *option], option[0])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["inspct", "model.onnx"], ["no command 'inspct'", "did you mean 'inspect'"]),
        (["zzz"], ["no command 'zzz'", "onnxviz --help"]),
        (["export", "expos"], ["expos"]),
        (["--nonsense"], ["--nonsense"]),
        ([*EXPLAIN, "--nonsense"], ["--nonsense"]),
        (["inspect"], ["MODEL"]),
        (["inspect", "model.onnx", "more"], ["more"]),
        (["export", "expose", "model.onnx", "-o", "out.onnx"], ["--layer"]),
        (["export", "expose", "model.onnx", "--layer", "Conv"], ["-o"]),
    ],
)
def test_a_command_line_that_cannot_be_read(arguments, parts):
    refused(arguments, *parts)


@pytest.mark.parametrize("arguments", [ACTIVATIONS, EXPLAIN, ["demo"]])
def test_a_device_that_cannot_be_had(arguments, monkeypatch):
    monkeypatch.setattr(devices, "why_no_cuda", lambda _index=0: "there is no GPU in this room")
    refused([*arguments, "--device", "cuda"], "cuda cannot be had: there is no GPU in this room")
    refused([*arguments, "--device", "cuda:7"], "cuda:7 cannot be had")
    refused([*arguments, "--device", "nonsense"], "no device 'nonsense'; choose auto, cpu, cuda or cuda:N")
    refused([*arguments, "--device", "CPU"], "no device 'CPU'")


@pytest.mark.skipif(devices.why_no_cuda() is None, reason="there is a GPU")
def test_cuda_on_a_machine_without_it_says_why():
    refused([*EXPLAIN, "--device", "cuda"], "cuda cannot be had: ")


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "below/../../outside.bin"])
def test_weights_outside_the_folder_of_the_model(location):
    model = onnx.load("model.onnx")
    [tensor] = [tensor for tensor in model.graph.initializer if tensor.name == "w1"]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    Path("inner").mkdir()
    Path("outside.bin").write_bytes(np.zeros(162, np.float32).tobytes())
    Path("inner/model.onnx").write_bytes(model.SerializeToString())
    for arguments in with_model("inner/model.onnx"):
        refused(arguments, "'w1'", "outside the model's folder")


def test_weights_that_are_missing():
    model = onnx.load("model.onnx")
    onnx.save(model, "split.onnx", save_as_external_data=True, location="split.bin", size_threshold=0)
    Path("split.bin").unlink()
    for arguments in with_model("split.onnx"):
        refused(arguments, "split.bin")


@pytest.mark.parametrize("command", ["activations", "explain", "kernels"])
def test_weights_that_are_too_short(command):
    onnx.save(
        onnx.load("model.onnx"),
        "split.onnx",
        save_as_external_data=True,
        location="split.bin",
        size_threshold=0,
    )
    Path("split.bin").write_bytes(b"short")
    refused([command, "split.onnx", *(["cat.png"] if command != "kernels" else [])], "split")


def test_outputs_and_labels_that_do_not_exist():
    refused([*EXPLAIN, "--output", "logit"], "no output 'logit'", "did you mean 'logits'")
    refused([*EXPLAIN, "--labels", "names.txt"], "names.txt: cannot read the labels")
    refused([*EXPLAIN, "--labels", "cat.png"], "cat.png")
    Path("names.json").write_text("{not json")
    refused([*EXPLAIN, "--labels", "names.json"], "names.json: not JSON")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--of", "logit", "--wrt", "x"], ["no tensor 'logit'", "did you mean 'logits'"]),
        (["--of", "logits", "--wrt", "y"], ["no tensor 'y'"]),
        (["--of", "c1", "--wrt", "c2"], ["'c1' does not depend on 'c2'"]),
        (["--of", "logits", "--wrt", "x", "--rules", "lrp"], ["no rule set 'lrp'", "guided-backprop"]),
        (["--of", "logits"], ["--wrt"]),
    ],
)
def test_gradients_that_cannot_be_written(arguments, parts):
    refused([*GRADIENT, *arguments], *parts)


@pytest.mark.parametrize(
    ("out", "parts"),
    [
        ("model.onnx", ["model.onnx is the model itself"]),
        ("./model.onnx", ["is the model itself"]),
        ("none/out.onnx", ["none", "make the folder first"]),
        (".", ["folder"]),
        ("cat.png/out.onnx", ["cat.png"]),
    ],
)
def test_a_model_that_cannot_be_written_there(out, parts):
    refused(["export", "expose", "model.onnx", "--layer", "c1", "-o", out], *parts)
    refused(["export", "gradient", "model.onnx", "--of", "logits", "--wrt", "x", "-o", out], *parts)


@pytest.mark.parametrize("text", ['{"color": "GRB"}', "not JSON", "[1]"])
def test_metadata_that_cannot_be_used(text):
    model = onnx.load("model.onnx")
    for entry in model.metadata_props:
        if entry.key == "onnxviz.preprocess":
            entry.value = text
    onnx.save(model, "odd.onnx")
    refused(["explain", "odd.onnx", "cat.png"], "metadata onnxviz.preprocess")
    assert onnxviz("kernels", "odd.onnx").exit_code == 0
    assert onnxviz("explain", "odd.onnx", "cat.png", "--preprocess", "unit").exit_code == 0


INTERRUPTED = {
    "while drawing": (save, "write_png"),
    "while writing numbers": (save.Folder, "arrays"),
    "while writing the manifest": (save.Folder, "manifest"),
    "while running": (activations_room, "_moved"),
    "while differentiating": (question.Question, "_cotangent"),
}


@pytest.mark.parametrize("when", INTERRUPTED)
@pytest.mark.parametrize("arguments", [ACTIVATIONS, EXPLAIN, ["kernels", "model.onnx"]])
@pytest.mark.parametrize("there", [False, True])
def test_ctrl_c_leaves_what_was_there(when, arguments, there, monkeypatch):
    if there:
        assert onnxviz(*arguments).exit_code == 0
    before = listing()
    calls = []

    def interrupt(*_args, **_keywords):
        calls.append(when)
        raise KeyboardInterrupt

    monkeypatch.setattr(*INTERRUPTED[when], interrupt)
    result = onnxviz(*arguments)
    if not calls:
        assert result.exit_code == 0
        return
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.strip() == "Interrupted: nothing was left half-written."
    assert listing() == before


def test_ctrl_c_in_the_demo_and_in_an_export_leaves_nothing(monkeypatch):
    def interrupt(*_args, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxviz.methods.demo.save_explanation", interrupt)
    monkeypatch.setattr("onnxviz.graph.model.place_weights", interrupt)
    before = listing()
    for arguments in (
        ["demo", "--device", "cpu"],
        ["export", "expose", "model.onnx", "--layer", "c1", "-o", "out.onnx"],
    ):
        assert onnxviz(*arguments).exit_code == 130
        assert listing() == before


def test_a_lack_of_memory_is_said_in_words(monkeypatch):
    def greedy(*_args, **_keywords):
        raise MemoryError

    monkeypatch.setattr(save, "write_png", greedy)
    refused(ACTIVATIONS, "out of memory", "--batch")


def test_bad_input_as_processes_of_their_own():
    before = listing()
    for arguments, part in (
        (["inspect", "cat.png"], "not an ONNX model"),
        (["explain", "model.onnx", "cat.png", "--size", "9"], "HEIGHTxWIDTH"),
    ):
        result = onnxviz_process(*arguments)
        assert result.returncode == 2
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert part in result.stderr.splitlines()[-1]
    assert listing() == before


@pytest.mark.parametrize("text", ["224x320", " 224 X 320", "224X320"])
def test_a_size_is_height_by_width(text):
    assert options.Size().convert(text, None, None) == (224, 320)


def test_shared_options_are_read_once():
    with pytest.raises(ShapeError, match="NAME=FILE"):
        options.read_inputs(["x"])
    with pytest.raises(click.BadParameter, match="HEIGHTxWIDTH"):
        options.Size().convert("1", None, None)
