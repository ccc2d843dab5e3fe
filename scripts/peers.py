"""Freeze what other libraries answer of small networks: tests/data/peers, against which the tests compare.

    python3 scripts/peers.py        needs torch, onnx, captum, grad-cam, torchcam and zennit; CPU

The networks have seeded random weights. Every array is raw: before a ReLU or scaling that belongs to the
picture. The versions are kept in versions.json beside them. Left out, as they are other methods under the
same name: grad-cam's Grad-CAM++ (1e-6 added to a denominator of squared gradients, which outweighs those of
small networks) and Score-CAM (masks enlarged with their corners aligned). Frozen, though it does not add up:
captum's DeepLift of MaxPool.
"""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

OUT = Path(__file__).parents[1] / "tests" / "data" / "peers"
PACKAGES = ("torch", "captum", "grad-cam", "torchcam", "zennit")
CLASSES = (1, 3)


def pooled() -> nn.Sequential:
    """Three convolutions, a pool, global average pooling and a linear layer."""
    return nn.Sequential(
        *(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ),
        *(nn.Conv2d(8, 7, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 5)),
    )


def dense() -> nn.Sequential:
    """Two convolutions and two linear layers, so that the gradient differs from place to place."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 7, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(7 * 8 * 6, 9), nn.ReLU(), nn.Linear(9, 5)),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, int], dict[str, int]]] = {
    # The places of the layers whose maps are taken, by the name that the exported file gives their output.
    "pooled": (pooled, (16, 16), {"first": 3, "last": 6}),
    "dense": (dense, (16, 12), {"first": 1, "last": 3}),
}


def main() -> None:
    _operators_of_torchvision()
    OUT.mkdir(parents=True, exist_ok=True)
    for number, (name, (build, size, layers)) in enumerate(NETWORKS.items()):
        torch.manual_seed(number)
        network = build().eval()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.normal_(0, 0.3)
            network[-1].bias -= 1.5  # some scores below zero
        x = torch.randn(3, 3, *size)
        export(network, x, OUT / f"{name}.onnx", layers)
        arrays = {"x": x.numpy(), "logits": network(x).detach().numpy()}
        for key, array in answers(network, x, layers):
            arrays[key] = np.asarray(array, np.float32)
        np.savez_compressed(OUT / f"{name}.npz", **arrays)
    said = {package: version(package) for package in PACKAGES}
    (OUT / "versions.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def export(network: nn.Sequential, x: torch.Tensor, path: Path, layers: dict[str, int]) -> None:
    """Write the network as ONNX, the tensors of its layers under their names."""
    import onnx

    axes = {"x": {0: "N"}, "logits": {0: "N"}}
    torch.onnx.export(
        network,
        (x,),
        path,
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes=axes,
        dynamo=False,
        opset_version=18,
    )
    model = onnx.load(path)
    relus = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    order = [place for place, module in enumerate(network) if isinstance(module, nn.ReLU)]
    for name, place in layers.items():
        old = relus[order.index(place)]
        for node in model.graph.node:
            for names in (node.input, node.output):
                for index, value in enumerate(names):
                    if value == old:
                        names[index] = name
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def answers(network: nn.Sequential, x: torch.Tensor, layers: dict[str, int]) -> Iterator[tuple[str, Any]]:
    """Each answer under method/peer/place/class."""
    for target in CLASSES:
        yield from _captum(network, x, target)
        yield from _zennit(network, x, target)
        for name, place in layers.items():
            yield from _grad_cam(network, x, name, place, target)
            yield from _torchcam(network, x, name, place, target)


def _captum(network: nn.Sequential, x: torch.Tensor, target: int) -> Iterator[tuple[str, Any]]:
    from captum import attr

    def key(method: str) -> str:
        return f"{method}/captum/x/{target}"

    start = torch.full_like(x, 0.2)
    yield key("gradient"), attr.Saliency(network).attribute(x, target=target, abs=False)
    yield key("input-x-gradient"), attr.InputXGradient(network).attribute(x, target=target).detach()
    yield key("guided-backprop"), attr.GuidedBackprop(network).attribute(x, target=target)
    yield key("deconvnet"), attr.Deconvolution(network).attribute(x, target=target)
    found, delta = attr.IntegratedGradients(network).attribute(
        x,
        torch.zeros_like(x),
        target=target,
        n_steps=20,
        method="gausslegendre",
        return_convergence_delta=True,
    )
    yield key("integrated-gradients"), found.detach()
    yield key("integrated-gradients-delta"), delta
    yield key("deeplift"), attr.DeepLift(network).attribute(x, torch.zeros_like(x), target=target).detach()
    yield key("deeplift-start"), attr.DeepLift(network).attribute(x, start, target=target).detach()
    window = (3, 5, 5)
    found = attr.Occlusion(network).attribute(x, window, strides=(3, 3, 3), baselines=0, target=target)
    yield key("occlusion"), found[:, 0]
    grid = (
        torch.arange(4)
        .reshape(2, 2)
        .repeat_interleave(x.shape[2] // 2, 0)
        .repeat_interleave(x.shape[3] // 2, 1)
    )
    found = attr.ShapleyValues(network).attribute(
        x, baselines=0, target=target, feature_mask=grid[None, None]
    )
    yield key("shapley"), found[:, 0]


def _zennit(network: nn.Sequential, x: torch.Tensor, target: int) -> Iterator[tuple[str, Any]]:
    from zennit import composites
    from zennit.attribution import Gradient

    low, high = (torch.full_like(x, end) for end in (-6.0, 6.0))
    given = {
        "lrp-epsilon-plus": composites.EpsilonPlus(),
        "lrp-epsilon-alpha2-beta1": composites.EpsilonAlpha2Beta1(),
        "lrp-epsilon-gamma-box": composites.EpsilonGammaBox(low=low, high=high),
        "excitation-backprop": composites.ExcitationBackprop(zero_params=["bias"]),
    }
    for method, composite in given.items():
        seed = torch.zeros(len(x), 5)
        seed[:, target] = 1 if method == "excitation-backprop" else network(x)[:, target].detach()
        with Gradient(network, composite) as attributor:
            yield f"{method}/zennit/x/{target}", attributor(x.clone(), seed)[1].detach()


def _grad_cam(
    network: nn.Sequential, x: torch.Tensor, name: str, place: int, target: int
) -> Iterator[tuple[str, Any]]:
    import pytorch_grad_cam as pgc
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    a, g = _slopes(network, x, place, target)
    yield f"activation/torch/{name}/{target}", a
    yield f"slope/torch/{name}/{target}", g
    methods = {
        "grad-cam": pgc.GradCAM,
        "xgrad-cam": pgc.XGradCAM,
        "hires-cam": pgc.HiResCAM,
        "element-wise": pgc.GradCAMElementWise,
        "layer-cam": pgc.LayerCAM,
        "eigen-cam": pgc.EigenCAM,
        "eigen-grad-cam": pgc.EigenGradCAM,
        "ablation-cam": pgc.AblationCAM,
    }
    for method, kind in methods.items():
        layers = [network[place]]
        with kind(model=network, target_layers=layers) as cam:
            cam.batch_size = 8
            targets = [ClassifierOutputTarget(target)] * len(x)
            if method == "ablation-cam":
                cam.activations_and_grads(x)
            yield f"{method}/grad-cam/{name}/{target}", cam.get_cam_image(x, layers[0], targets, a, g, False)


def _torchcam(
    network: nn.Sequential, x: torch.Tensor, name: str, place: int, target: int
) -> Iterator[tuple[str, Any]]:
    from torchcam import methods

    peers = {
        "grad-cam": methods.GradCAM,
        "xgrad-cam": methods.XGradCAM,
        "layer-cam": methods.LayerCAM,
        "score-cam": methods.ScoreCAM,
    }
    for method, kind in peers.items():
        with kind(network, target_layer=str(place)) as cam:
            scores = network(x.clone().requires_grad_())
            [found] = cam(target, scores, normalized=False)
            yield f"{method}/torchcam/{name}/{target}", found.detach()


def _slopes(
    network: nn.Sequential, x: torch.Tensor, place: int, target: int
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's activation and the gradient of the class's score by it."""
    inner = network[: place + 1](x).detach().requires_grad_()
    network[place + 1 :](inner)[:, target].sum().backward()
    assert inner.grad is not None
    return inner.detach().numpy(), inner.grad.numpy()


def _operators_of_torchvision() -> None:
    """Declare what torchvision's compiled part would, which a CPU build of torch may not fit."""
    global _library
    _library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_library: Any = None

if __name__ == "__main__":
    main()
