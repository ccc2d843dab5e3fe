"""Export networks of torchvision and timm, and keep PyTorch's own gradients of them, for torch_parity.py.

    python3 scripts/torch_exports.py CACHE --list                    write the list of networks to CACHE
    python3 scripts/torch_exports.py CACHE torchscript timm/vgg11    export one, unless it is there

Made with torch 2.13.0 (CPU), torchvision 0.28.0, timm 1.0.31, onnxscript 0.7.2 and onnx 1.23.2:

    pip install torch==2.13.0 onnxscript==0.7.2
    pip install --no-deps torchvision==0.28.0 timm==1.0.31
    pip install huggingface_hub safetensors pyyaml
"""

import argparse
import json
import sys
import traceback
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

PACKAGES = ("torch", "torchvision", "timm", "onnxscript", "onnx", "onnxruntime")
SEED = 7
MOST_PARAMETERS = 100_000_000
SIZES = (64, 96, 128, 192, 224, 256, 384, 512)
TORCHSCRIPT_OPSET = 17
DRAWS = 8
CLEAR = 1e-5
STEPS = (1e-6, 1e-3)  # some networks compute a part in float32 whatever they are given
BATCH_NORM = torch.nn.modules.batchnorm._BatchNorm

BOTH = ("torchscript", "dynamo")
DYNAMIC = ("torchscript-dynamic", "dynamo-dynamic")
NEWEST = ("dynamo-23",)


class Network(NamedTuple):
    """A network by name.

    `shape` is its input's without the batch, None where it is tried out. An exporter `-dynamic` leaves the
    batch open, and the height and width of a `resizable` network; one with a number exports for that opset.
    """

    library: str
    family: str
    name: str
    shape: tuple[int, ...] | None = None
    exporters: tuple[str, ...] = BOTH
    resizable: bool = False


def _vision(
    family: str,
    *names: str,
    shape: tuple[int, ...] = (3, 64, 64),
    more: tuple[str, ...] = (),
    resizable: bool = False,
) -> list[Network]:
    return [Network("torchvision", family, name, shape, BOTH + more, resizable) for name in names]


TORCHVISION = [
    # These two pool to a fixed size, which exporters write only where it divides the map's.
    *_vision("alexnet", "alexnet", shape=(3, 224, 224)),
    *_vision("vgg", "vgg11", "vgg11_bn", shape=(3, 224, 224)),
    *_vision("resnet", "resnet18", more=DYNAMIC + NEWEST, resizable=True),
    *_vision("resnet", "resnext50_32x4d", "wide_resnet50_2"),
    *_vision("densenet", "densenet121", more=DYNAMIC, resizable=True),
    *_vision("inception", "inception_v3", shape=(3, 96, 96)),
    *_vision("googlenet", "googlenet", more=DYNAMIC, resizable=True),
    *_vision("squeezenet", "squeezenet1_1", more=DYNAMIC, resizable=True),
    *_vision("mobilenetv2", "mobilenet_v2"),
    *_vision("mobilenetv3", "mobilenet_v3_small", more=DYNAMIC, resizable=True),
    *_vision("shufflenetv2", "shufflenet_v2_x0_5", more=DYNAMIC, resizable=True),
    *_vision("mnasnet", "mnasnet0_5"),
    *_vision("efficientnet", "efficientnet_b0", more=DYNAMIC, resizable=True),
    *_vision("efficientnet", "efficientnet_v2_s"),
    *_vision("regnet", "regnet_x_400mf", "regnet_y_400mf"),
    *_vision("convnext", "convnext_tiny", more=DYNAMIC + NEWEST, resizable=True),
    *_vision("vision_transformer", "vit_b_16", more=DYNAMIC + NEWEST),
    *_vision("swin_transformer", "swin_t", more=DYNAMIC + NEWEST),
    *_vision("swin_transformer", "swin_v2_t"),
    *_vision("maxvit", "maxvit_t", shape=(3, 224, 224)),
    *_vision("segmentation", "fcn_resnet50"),
    *_vision(
        "segmentation",
        "deeplabv3_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large",
        more=DYNAMIC,
        resizable=True,
    ),
    *_vision("video", "r3d_18", "swin3d_t", shape=(3, 8, 64, 64)),
    *_vision("video", "s3d", shape=(3, 16, 224, 224)),
]

OPTIONS: dict[str, dict[str, Any]] = {
    "inception_v3": {"init_weights": False},
    "googlenet": {"init_weights": False},
    # In the widths of ViT-Ti: the same graph, a sixteenth of the file.
    "vit_b_16": {
        "image_size": 64,
        "patch_size": 16,
        "num_layers": 12,
        "num_heads": 3,
        "hidden_dim": 192,
        "mlp_dim": 768,
    },
}


# Where an exporter does not take the fused attention, timm writes it out in products and a softmax.
WRITTEN_OUT = (
    "hiera_tiny_224",
    "nest_tiny",
    "samvit_base_patch16_224",
    "twins_svt_small",
    "vit_tiny_patch16_dinov3_qkvb",
)


def networks() -> Iterator[Network]:
    """Torchvision's, and of each of timm's modules the model of fewest parameters."""
    yield from TORCHVISION
    timm = _timm()
    for family in timm.list_modules():
        sizes = {name: _parameters(name) for name in timm.list_models(module=family)}
        known = {name: size for name, size in sizes.items() if size is not None}
        if known and min(known.values()) <= MOST_PARAMETERS:
            yield Network("timm", family, min(known, key=lambda name: (known[name], name)))
        else:
            print(f"{family}: no model of at most {MOST_PARAMETERS} parameters", file=sys.stderr)


def build(network: Network) -> Any:
    """The network in eval mode with seeded random weights that exercise every branch."""
    torch.manual_seed(SEED)
    if network.library == "timm":
        timm = _timm()
        timm.layers.set_fused_attn(network.name not in WRITTEN_OUT)
        model = timm.create_model(network.name)
    else:
        models = _torchvision().models
        options = OPTIONS.get(network.name, {})
        if network.name == "vit_b_16":
            model = models.VisionTransformer(**options)
        else:
            nothing = {"weights_backbone": None} if network.family == "segmentation" else {}
            model = models.get_model(network.name, weights=None, **nothing, **options)
    model.eval()
    shake(model)
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def shake(model: Any) -> None:
    """Draw anew what initialisation leaves constant: zero gates and biases would hide the branch behind."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.min() == parameter.max():
            mean = parameter.flatten()[0].item()
            parameter.normal_(mean if abs(mean) > 0.1 else 0.0, 0.2)


@torch.no_grad()  # type: ignore[untyped-decorator]
def calibrate(model: Any, shape: tuple[int, ...]) -> None:
    """Let batch normalisation take its statistics from noise, so that deep maps keep their scale."""
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORM)]
    for norm in norms:
        norm.momentum = 0.9
        norm.train()
    if norms:
        model(torch.randn(4, *shape))
    model.eval()


def input_shape(network: Network, model: Any) -> tuple[int, ...]:
    """The least input that the network takes."""
    if network.shape is not None:
        return network.shape
    given: tuple[int, ...] = tuple(model.default_cfg["input_size"])
    if model.default_cfg.get("fixed_input_size"):
        return given
    for size in SIZES:
        shape = (given[0], size, size)
        try:
            with torch.no_grad():
                finite = torch.isfinite(_first(model(torch.randn(2, *shape)))).all()
        except (RuntimeError, AssertionError, ValueError):
            continue
        if finite:
            return shape
    return given


def truth(model: Any, batch: tuple[int, ...]) -> dict[str, Any]:
    """Input, cotangent, output and gradient in float64, and how far PyTorch's own float32 is from it.

    The input is drawn again while PyTorch's two gradients differ: then some unit lies within rounding of its
    kink, and which side it is on is chance.

    Raises:
        ArithmeticError: Autograd contradicts central differences.
    """
    rng = np.random.default_rng(SEED)
    for _ in range(DRAWS):
        x = rng.standard_normal(batch).astype(np.float32)
        y_single, pull_single = _slope(model, x)
        u = rng.standard_normal(y_single.shape).astype(np.float32)
        single = pull_single(u)
        torch.set_default_dtype(torch.float64)
        try:
            y, pull = _slope(model.double(), x.astype(np.float64))
            slope = pull(u.astype(np.float64))
            v = rng.standard_normal(batch)
            differences = [_difference(model, x, u, v, step) for step in STEPS]
        finally:
            torch.set_default_dtype(torch.float32)
            model.float()
        along = np.vdot(slope, v)
        if min(abs(along - difference) for difference in differences) > 0.05 * np.linalg.norm(slope):
            raise ArithmeticError(f"along one direction autograd says {along}, differences say {differences}")
        error = _relative(single, slope)
        if error < CLEAR:
            break
    return {"x": x, "u": u, "y": y, "slope": slope, "single": error, "y_single": _relative(y_single, y)}


def _difference(model: Any, x: Any, u: Any, v: Any, step: float) -> Any:
    with torch.no_grad():
        ahead, behind = (_first(model(torch.from_numpy(x + h * v))).numpy() for h in (step, -step))
    return np.vdot(u, ahead - behind) / (2 * step)


def _relative(found: Any, true: Any) -> Any:
    return np.abs(found - true).max() / np.abs(true).max()


def _slope(model: Any, x: Any) -> tuple[Any, Any]:
    leaf = torch.from_numpy(x).requires_grad_()
    y = _first(model(leaf))

    def pull(u: Any) -> Any:
        (slope,) = torch.autograd.grad(y, leaf, torch.from_numpy(u))
        return slope.numpy().astype(np.float64)

    return y.detach().numpy().astype(np.float64), pull


def mend_batch_norm(model: Any) -> list[Any]:
    """Work round PyTorch 2.13, whose gradient is wrong in eval mode where the cotangent lies transposed."""

    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(lambda cotangent: cotangent.contiguous())

    return [norm.register_forward_hook(hook) for norm in model.modules() if isinstance(norm, BATCH_NORM)]


def export(model: Any, batch: tuple[int, ...], path: Path, exporter: str, resizable: bool) -> None:
    """Write the ONNX file."""
    kind, _, rest = exporter.partition("-")
    names = {0: "batch"} | ({2: "height", 3: "width"} if resizable else {})
    options: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
    if kind == "torchscript":
        options |= {"dynamo": False, "opset_version": TORCHSCRIPT_OPSET}
        if rest == "dynamic":
            options["dynamic_axes"] = {"input": names}
    else:
        options |= {"dynamo": True, "external_data": False}
        if rest == "dynamic":
            options["dynamic_shapes"] = (dict.fromkeys(names, torch.export.Dim.DYNAMIC),)
        elif rest:
            options["opset_version"] = int(rest)
    x = torch.from_numpy(np.random.default_rng(SEED + 1).standard_normal(batch).astype(np.float32))
    torch.onnx.export(model, (x,), str(path), **options)


def make(cache: Path, network: Network, exporter: str) -> None:
    """Put truth and export into the cache; a failure is kept there too, as a text."""
    folder = cache / network.library / network.name
    folder.mkdir(parents=True, exist_ok=True)
    model = build(network)
    shape = input_shape(network, model)
    calibrate(model, shape)
    dynamic = exporter.endswith("-dynamic")
    known = folder / ("truth-dynamic.npz" if dynamic else "truth.npz")
    if not known.exists():
        hooks = mend_batch_norm(model)
        fed = (3, shape[0], *(size + 32 for size in shape[1:])) if network.resizable else (3, *shape)
        np.savez(known, **truth(model, fed if dynamic else (1, *shape)))
        for hook in hooks:
            hook.remove()
    target = folder / f"{exporter}.onnx"
    if not target.exists():
        scratch = target.with_suffix(".part")
        model.requires_grad_(False)
        export(model, (2 if dynamic else 1, *shape), scratch, exporter, network.resizable)
        scratch.replace(target)


def _first(output: Any) -> Any:
    """The first tensor of what a network answers."""
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output


def _parameters(name: str) -> int | None:
    try:
        with torch.device("meta"):
            model = _timm().create_model(name)
    except Exception as err:
        print(f"{name}: {type(err).__name__}: {err}", file=sys.stderr)
        return None
    return sum(int(parameter.numel()) for parameter in model.parameters())


def _torchvision() -> Any:
    if not hasattr(torch.ops.torchvision, "nms"):
        # The wheel's own operators are built against another torch; no classifier needs them.
        _torchvision.library = torch.library.Library("torchvision", "DEF")  # type: ignore[attr-defined]
        for name in ("nms", "qnms"):
            signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            _torchvision.library.define(signature)  # type: ignore[attr-defined]
    import torchvision

    return torchvision


def _timm() -> Any:
    _torchvision()
    import timm

    return timm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("exporter", nargs="?")
    parser.add_argument("network", nargs="?")
    parser.add_argument("--list", action="store_true", help="write the list of networks")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    listing: Path = arguments.cache / "networks.json"
    if arguments.list:
        arguments.cache.mkdir(parents=True, exist_ok=True)
        versions = {name: version(name) for name in PACKAGES}
        listed = [network._asdict() for network in networks()]
        listing.write_text(json.dumps({"versions": versions, "networks": listed}, indent=1))
        return 0
    every = [Network(**row) for row in json.loads(listing.read_text())["networks"]]
    network = next(n for n in every if f"{n.library}/{n.name}" == arguments.network)
    try:
        make(arguments.cache, network, arguments.exporter)
    except Exception as err:
        failed = arguments.cache / network.library / network.name / f"{arguments.exporter}.failed"
        failed.write_text(f"{type(err).__name__}: {err}\n\n{traceback.format_exc()}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
