"""Measure start-up, gradients and drawing, one process per figure, on the model that comes along.

    python3 scripts/benchmark.py            print the page
    python3 scripts/benchmark.py --write    write it to docs/benchmarks.md

Times depend on the machine; the ratios in one run mean more. Run it with nothing else running.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnxviz import Model

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
REPEATS = 7


def command_seconds(*arguments: str) -> float:
    """The median wall time of a command in a fresh process, after one that warms the disk's cache."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS + 1):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
            times.append(time.perf_counter() - started)
    return median(times[1:])


def measure(name: str) -> dict[str, float]:
    """Run one of `MEASURES` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", name], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def repeated(call: Callable[[], object], seconds: float = 2.0) -> float:
    """The median time of a call, in milliseconds, over some seconds of calls after a few to warm up."""
    for _ in range(3):
        call()
    times: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times) < 5:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return 1000 * median(times)


def compared(call: Callable[[], object], plain: Callable[[], object], seconds: float) -> tuple[float, float]:
    """The median time of a call in milliseconds, and of its ratios to another one timed in turns."""
    for one in 3 * (plain, call):
        one()
    times: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times[0]) < 5:
        for one, taken in zip((plain, call), times, strict=True):
            before = time.perf_counter()
            one()
            taken.append(time.perf_counter() - before)
    ratios = [taken / plain for plain, taken in zip(*times, strict=True)]
    return 1000 * median(times[1]), median(ratios)


def gradients() -> dict[str, float]:
    """The plain model, Grad-CAM's gradient at two layers, and the gradient over the pixels."""
    import numpy as np

    from onnxviz import Session, gradient, load
    from onnxviz.samples import sample_model

    model = load(sample_model())
    picture = np.random.default_rng(0).normal(0, 50, (1, 3, 227, 227)).astype(np.float32)
    one_hot = np.zeros((1, 1000), np.float32)
    one_hot[0, 285] = 1
    plain = Session(model, "cpu")
    figures = {"forward": repeated(lambda: plain.run({"input": picture}))}
    figures["nodes"] = len(model.ir_model.graph)
    for name, at in (("conv10", "conv10_relu"), ("fire4", "fire4_concat"), ("pixels", "input")):
        started = time.perf_counter()
        slopes = gradient(model, of="logits", wrt=at, keep=["logits", at])
        figures[f"{name} build"] = 1000 * (time.perf_counter() - started)
        figures[f"{name} nodes"] = len(slopes.ir_model.graph)
        session = Session(slopes, "cpu")
        feeds = {"input": picture, "logits_grad": one_hot}
        figures[name] = repeated(lambda session=session, feeds=feeds: session.run(feeds))  # type: ignore[misc]
    return figures


def explaining() -> dict[str, float]:
    """What each method takes for one picture, at the last convolution and at fire4, sessions made before.

    Beside the milliseconds, how many pictures go through the trunk (up to the layer, or the whole model) and
    how many copies through the tail.
    """
    import numpy as np

    from onnxviz import Session, load
    from onnxviz.methods.attribution.layers import chosen_layers
    from onnxviz.methods.attribution.pose import pose
    from onnxviz.methods.attribution.question import Bench
    from onnxviz.methods.attribution.table import find_method
    from onnxviz.methods.query import ask
    from onnxviz.samples import sample_model

    model = load(sample_model())
    picture = np.random.default_rng(0).normal(0, 50, (1, 3, 227, 227)).astype(np.float32)
    plain = Session(model, "cpu")
    figures = {"forward": repeated(lambda: plain.run({"input": picture}))}
    question = pose(ask(model, picture), [(0, 285)], Bench("cpu")).question
    counts = {"trunk": 0.0, "tail": 0.0}
    whole = Session.run

    def counting(self: Session, feeds: dict[str, np.ndarray], *given: object, **named: object) -> object:
        rows = len(next(iter(feeds.values())))
        counts["trunk" if "input" in feeds else "tail"] += rows
        return whole(self, feeds, *given, **named)  # type: ignore[call-overload]

    for name in METHODS_MEASURED:
        for at in ("conv10", "fire4_concat"):
            method, layers = find_method(name), chosen_layers(model, at)
            key = f"{name} {at}"
            figures[key], figures[f"{key} ratio"] = compared(
                lambda m=method, at=layers: m(question, at, {}),  # type: ignore[misc]
                lambda: plain.run({"input": picture}),
                2.0,
            )
            counts |= {"trunk": 0, "tail": 0}
            Session.run = counting  # type: ignore[assignment, method-assign]
            method(question, layers, {})
            Session.run = whole  # type: ignore[method-assign]
            figures |= {f"{key} {where}": count for where, count in counts.items()}
    return figures


METHODS_MEASURED = (
    *("grad-cam", "grad-cam++", "hires-cam", "layer-cam", "eigen-cam", "shapley-cam"),
    *("ablation-cam", "recipro-cam", "faster-score-cam", "gradient", "deeplift"),
)

PEER = """
import json, sys, time, torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision, pytorch_grad_cam as pgc
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from statistics import median
torch.set_num_threads(int(sys.argv[1]))
network, x = torchvision.models.squeezenet1_1().eval(), torch.randn(1, 3, 227, 227)
def compared(call, seconds):
    forward(); call()
    plain, taken, started = [], [], time.perf_counter()
    while time.perf_counter() - started < seconds or len(plain) < 3:
        for one, times in ((forward, plain), (call, taken)):
            before = time.perf_counter(); one(); times.append(time.perf_counter() - before)
    return 1000 * median(plain), median(t / p for p, t in zip(plain, taken))
def forward():
    with torch.no_grad(): network(x)
found = {}
layers = {"conv10": network.classifier[1], "fire4_concat": network.features[7]}
methods = {"grad-cam": pgc.GradCAM, "grad-cam++": pgc.GradCAMPlusPlus, "hires-cam": pgc.HiResCAM,
    "layer-cam": pgc.LayerCAM, "eigen-cam": pgc.EigenCAM, "ablation-cam": pgc.AblationCAM}
for at, layer in layers.items():
    for name, kind in methods.items():
        if name == "ablation-cam" and at == "conv10": continue
        with kind(model=network, target_layers=[layer]) as cam:
            call = lambda: cam(input_tensor=x, targets=[ClassifierOutputTarget(285)])
            found["forward"], found[f"{name} {at}"] = compared(call, 1.0)
print(json.dumps(found))
"""


def peer_figures(python: str) -> dict[str, float]:
    """What pytorch-grad-cam takes for the same network, by a Python that has it and torchvision."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", PEER, str(os.cpu_count())], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def explained_table(e: dict[str, float], peer: dict[str, float] | None) -> str:
    """A row for each method and layer."""
    head = "| method | at | one picture | of the forward pass | trunk | tail | grad-cam (PyTorch) |\n"
    rows = []
    for name in METHODS_MEASURED:
        for at in ("conv10", "fire4_concat"):
            key = f"{name} {at}"
            if name in ("gradient", "deeplift") and at != "conv10":
                continue
            where = "the pixels" if name in ("gradient", "deeplift") else at
            theirs = "" if peer is None or key not in peer else f"{peer[key]:.2f}"
            ours = f"{e[key]:.1f} ms | {e[f'{key} ratio']:.2f}"
            counted = f"{e[f'{key} trunk']:.0f} | {e[f'{key} tail']:.0f}"
            rows.append(f"| {name} | {where} | {ours} | {counted} | {theirs} |\n")
    return f"{head}|---|---|---|---|---|---|---|\n{''.join(rows)}"


def builds() -> dict[str, float]:
    """Nodes of the networks that the onnx package ships and of their gradients; CPU time to build these."""
    import onnx

    from onnxviz import load
    from onnxviz.methods.scores import find_scores

    figures: dict[str, float] = {}
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(light.glob("*.onnx")):
        model = load(path)
        name = path.stem.removeprefix("light_")
        figures |= build(name, model, find_scores(model).tensor, model.inputs[0].name)
    return figures | build("a chain of 4,000 nodes", load(chain(1000)), "y", "x")


def build(name: str, model: "Model", of: str, wrt: str) -> dict[str, float]:
    """The figures of one gradient: nodes before and after, milliseconds of CPU time."""
    from onnxviz import gradient

    times = []
    for _ in range(3):
        started = time.process_time()
        derived = gradient(model, of, wrt)
        times.append(time.process_time() - started)
    nodes = len(model.ir_model.graph), len(derived.ir_model.graph)
    return {f"{name} nodes": nodes[0], f"{name} gradient": nodes[1], f"{name} build": 1000 * median(times)}


def chain(blocks: int) -> "ModelProto":
    """A graph of so many MatMul, Add, Tanh and Add behind one another."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes, value = [], "x"
    for block in range(blocks):
        names = [f"{kind}{block}" for kind in ("product", "sum", "bent")]
        after = f"h{block}" if block < blocks - 1 else "y"
        nodes.append(helper.make_node("MatMul", [value, "w"], [names[0]]))
        nodes.append(helper.make_node("Add", [names[0], "b"], [names[1]]))
        nodes.append(helper.make_node("Tanh", [names[1]], [names[2]]))
        nodes.append(helper.make_node("Add", [names[2], value], [after]))
        value = after
    weights = {"w": np.eye(8, dtype=np.float32), "b": np.ones(8, np.float32)}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8]) for name in "xy")
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return helper.make_model(
        helper.make_graph(nodes, "chain", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 18)]
    )


def drawing() -> dict[str, float]:
    """A layer of 512 channels as one sheet, and the same as PNG."""
    import io

    import numpy as np
    from PIL import Image

    from onnxviz.views.figures import feature_grid

    maps = np.random.default_rng(0).normal(size=(512, 28, 28)).astype(np.float32)
    sheet = feature_grid(maps, list(range(512)), "layer")
    return {
        "sheet": repeated(lambda: feature_grid(maps, list(range(512)), "layer")),
        "png": repeated(lambda: Image.fromarray(sheet).save(io.BytesIO(), "PNG", compress_level=4)),
    }


MEASURES: dict[str, Callable[[], dict[str, float]]] = {
    "gradients": gradients,
    "builds": builds,
    "drawing": drawing,
    "explaining": explaining,
}


def page(peer: dict[str, float] | None = None) -> str:
    """The page with figures measured now."""
    from onnxviz.samples import sample_model, sample_picture

    bare = command_seconds("-c", "pass")
    helped = command_seconds("-m", "onnxviz", "--help")
    inspected = command_seconds("-m", "onnxviz", "inspect", str(sample_model()))
    explained = command_seconds("-m", "onnxviz", "explain", str(sample_model()), str(sample_picture()))
    g, b, d, e = (measure(name) for name in ("gradients", "builds", "drawing", "explaining"))
    beside = "" if peer is None else f" ({peer['forward']:.1f} ms in PyTorch)"
    built = [name.removesuffix(" nodes") for name in b if name.endswith(" nodes")]
    forward = g["forward"]
    runtime = next(n for n in ("onnxruntime-gpu", "onnxruntime") if _installed(n))
    return f"""# Measured

Printed by `scripts/benchmark.py` on {os.cpu_count()} cores ({platform.machine()}), Python \
{platform.python_version()}, {runtime} {version(runtime)}, CPU; medians.
Times depend on the machine, the ratios less.

## Start-up, a fresh process each

| command | seconds |
|---|---|
| an empty Python | {bare:.2f} |
| `onnxviz --help` | {helped:.2f} |
| `onnxviz inspect` of SqueezeNet 1.1 | {inspected:.2f} |
| `onnxviz explain` of one picture by SqueezeNet 1.1, four pictures written | {explained:.2f} |

## Gradients of SqueezeNet 1.1, one picture

| graph | nodes | built in | one run | of the plain forward pass |
|---|---|---|---|---|
| the plain model | {g["nodes"]:.0f} | | {forward:.1f} ms | 1.00 |
{_row(g, "conv10", "Grad-CAM at the last activation")}{_row(g, "fire4", "Grad-CAM at fire4")}\
{_row(g, "pixels", "the gradient over the pixels")}
## Explaining one picture by SqueezeNet 1.1

The whole method, from the picture to the raw map, once its sessions are made; the plain forward pass takes
{e["forward"]:.1f} ms{beside}. `trunk` counts the pictures that go through the model (up to the layer, where
the rest is a tail), `tail` the copies that go on from the layer. The last column is the same method of
pytorch-grad-cam over PyTorch's own forward pass, with its scaling to the picture's size.

{explained_table(e, peer)}
## Building gradients

Of the scores by the picture, for the nine networks that the onnx package ships (opset 9, their weights made
by nodes), and of a long chain.

| network | nodes | with the gradient | ratio | CPU time to build |
|---|---|---|---|---|
{"".join(_built(b, name) for name in built)}
## Drawing

A layer of 512 channels of 28 x 28: {d["sheet"]:.0f} ms as one titled sheet, {d["png"]:.0f} ms more as PNG.
"""


def _built(b: dict[str, float], name: str) -> str:
    nodes, derived, build = b[f"{name} nodes"], b[f"{name} gradient"], b[f"{name} build"]
    return f"| {name} | {nodes:.0f} | {derived:.0f} | {derived / nodes:.2f} | {build / 1000:.2f} s |\n"


def _row(g: dict[str, float], name: str, title: str) -> str:
    nodes, build, run = g[f"{name} nodes"], g[f"{name} build"], g[name]
    return f"| {title} | {nodes:.0f} | {build:.0f} ms | {run:.1f} ms | {run / g['forward']:.2f} |\n"


def _installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError

    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="a Python with torchvision and grad-cam, to measure beside"
    )
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure]()))
        return
    text = page(None if arguments.peer is None else peer_figures(arguments.peer))
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
