"""The demonstration: every question asked once, of the model and the picture that come along."""

from collections.abc import Iterator
from pathlib import Path

from onnxviz.graph.layers import total_parameters
from onnxviz.graph.model import load
from onnxviz.methods.activations import observe
from onnxviz.methods.deconv import deconv
from onnxviz.methods.explain import explain, explain_each
from onnxviz.methods.explainer import explainer
from onnxviz.methods.kernels import blue_first, kernels
from onnxviz.methods.manifest import manifest
from onnxviz.methods.maximize import maximize
from onnxviz.methods.query import ask
from onnxviz.methods.save import save_activations, save_kernels
from onnxviz.methods.save_explanations import explanations_into, save_explanation
from onnxviz.methods.save_maximized import save_maximized
from onnxviz.methods.save_projections import save_projections
from onnxviz.methods.stream import explain_parts
from onnxviz.runtime.devices import resolve
from onnxviz.samples import sample_model, sample_picture

COMPARED = ("grad-cam", "layer-cam", "full-grad", "deeplift", "lrp-epsilon-plus", "occlusion", "random")


def demonstrate(folder: Path, device: str = "auto") -> Iterator[str]:
    """Fill `folder` with the answers, and yield a line on each; the folder must not hold the names it writes.

    Raises:
        DeviceError: The device cannot be had.
        ModelError: The sample files are missing from this installation.
        OutputError: The folder cannot be written.
    """
    resolve(device)
    model, picture = load(sample_model()), sample_picture()
    yield f"inspect: {len(model.layers)} layers, {total_parameters(model):,} parameters"

    found = kernels(model, "first-conv")
    drawn = [layer for layer in model.layers if layer.name in found]
    entries = manifest(model, layer=list(found), warnings=[])
    save_kernels(found, drawn, entries, folder / "kernels", bgr=blue_first(model, drawn))
    yield f"kernels: {found[drawn[0].name].shape[0]} filters of {drawn[0].name}"

    seen = observe(model, picture, device=device)
    save_activations(seen, folder / "activations", strip_channel=0)
    yield f"activations: {len(seen.layers)} layers; outputs moved by {seen.drift:.0e} by being watched"

    chosen = observe(model, picture, ["conv1", "fire4_squeeze1x1"], device=device)
    save_activations(chosen, folder / "strongest", channels="strongest:4")
    yield "strongest: the four strongest channels of two layers, laid over the picture"

    query = ask(model, picture)
    both = explain_each(query, [(0, "top-1"), (0, "top-2")], device=device)
    save_explanation(both, folder / "explain")
    first, second = both.evidence
    yield (
        f"explain: {first.target.text} {first.probability:.2f}, then {second.target.text} "
        f"{second.probability:.2f}, at {both.layer}"
    )

    pixels = explain(model, picture, method="gradient", device=device)
    save_explanation(pixels, folder / "saliency")
    yield f"saliency: the gradient of {pixels.evidence[0].target.text} over the pixels"

    methods: dict[str, dict[str, object]] = {name: {} for name in COMPARED}
    with explanations_into(folder / "methods", [str(picture)]) as writer:
        for part in explain_parts(model, [picture], methods, ["top1"], device=device):
            writer.add(part)
    yield f"methods: {', '.join(COMPARED)}, on one sheet"

    down = deconv(model, picture, "fire4_concat", device=device)
    save_projections(down, folder / "deconv")
    yield f"deconv: what excited {len(down.channels)} channels of fire4_concat"

    liked = maximize(model, target=[first.target.text, second.target.text], recipe="hvass", device=device)
    save_maximized(liked, folder / "maximize")
    yield f"maximize: what {' and '.join(liked.names)} would like to see, in {liked.losses.shape[1]} steps"

    shipped = folder / "explained.onnx"
    explainer(model, "grad-cam", fold_preprocess=True).save(shipped)
    yield f"export: {shipped.name} takes pictures, and answers with a heatmap, in any ONNX runtime"
