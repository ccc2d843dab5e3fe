"""Export tiny transformers with seeded weights, and keep PyTorch's own maps of them, for the tests.

    python3 scripts/attention_exports.py [FOLDER]          FOLDER defaults to tests/data/attention

Each NAME.onnx has a NAME.npz beside it, computed in double precision by autograd: the input, the scores,
and for each target LeGrad (the model's own head behind each block), attention rollout (the full product of
matrices), the last attention, and Grad-CAM where the package takes it by default.

Made with torch 2.13.0 (CPU), torchvision 0.28.0, timm 1.0.31 and onnx 1.23.2; see torch_exports.py.
"""

import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch_exports import _timm

SEED, PICTURES, CLASSES = 5, 2, 4


def vit(pool: str, prefix: bool) -> Any:
    """Three blocks of two heads on a grid of 3 x 5 patches, with a class token and two registers or none."""
    return _timm().models.vision_transformer.VisionTransformer(
        img_size=(12, 20),
        patch_size=4,
        embed_dim=8,
        depth=3,
        num_heads=2,
        mlp_ratio=2,
        num_classes=CLASSES,
        global_pool=pool,
        class_token=prefix,
        reg_tokens=2 if prefix else 0,
    )


def swin() -> Any:
    """Windows of 4 x 4 on grids of 8 x 12 and 4 x 6, shifted in every second block."""
    return _timm().models.swin_transformer.SwinTransformer(
        img_size=(16, 24),
        patch_size=2,
        embed_dim=4,
        depths=(2, 2),
        num_heads=(1, 2),
        window_size=4,
        num_classes=CLASSES,
    )


def seeded(model: Any) -> Any:
    """The model with weights that leave no attention flat."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fresh = torch.randn(parameter.shape, generator=generator)
            spread = 0.2 if parameter.ndim < 2 else 1.2 / parameter[0].numel() ** 0.5
            one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(one + spread * fresh)
    return model.eval()


@contextmanager
def watched(module: Any) -> Iterator[list[Any]]:
    """What a module answers while this is open."""
    kept: list[Any] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        yield kept
    finally:
        hook.remove()


def of_vit(model: Any, x: Any, read: Callable[[Any], Any]) -> dict[str, Any]:
    """LeGrad for each class, rollout and the last attention; `read` takes rows over the tokens."""
    before, grid = model.num_prefix_tokens, model.patch_embed.grid_size
    with ExitStack() as stack:
        for block in model.blocks:
            block.attn.fused_attn = False  # then the attention passes through a dropout
        streams = [stack.enter_context(watched(block)) for block in model.blocks]
        attended = [stack.enter_context(watched(block.attn.attn_drop)) for block in model.blocks]
        model(x)
    maps = [kept[-1] for kept in attended]
    legrad = []
    for number in range(CLASSES):
        blocks = []
        for z, attention in zip(streams, maps, strict=True):
            score = model.forward_head(model.norm(z[-1]))[:, number].sum()
            (slope,) = torch.autograd.grad(score, attention, retain_graph=True)
            blocks.append(slope.clamp(min=0).mean(dim=(1, 2))[:, before:])
        legrad.append(torch.stack(blocks).mean(dim=0).unflatten(1, grid))
    product = torch.eye(maps[0].shape[-1], dtype=x.dtype).expand(len(x), -1, -1)
    for attention in maps:
        mixed = attention.mean(dim=1) + torch.eye(attention.shape[-1], dtype=x.dtype)
        product = (mixed / mixed.sum(dim=-1, keepdim=True)) @ product
    return {
        "legrad": torch.stack(legrad),
        "rollout": read(product)[:, before:].unflatten(1, grid),
        "attention": read(maps[-1].mean(dim=1))[:, before:].unflatten(1, grid),
    }


def grad_cam(model: Any, x: Any, at: Any, fold: Callable[[Any], Any]) -> Any:
    """Grad-CAM for each class at a module whose output `fold` makes [N, C, h, w]."""
    with watched(at) as kept:
        scores = model(x)
    found = []
    for number in range(CLASSES):
        (slope,) = torch.autograd.grad(scores[:, number].sum(), kept[-1], retain_graph=True)
        a, g = fold(kept[-1]), fold(slope)
        found.append((g.mean(dim=(2, 3), keepdim=True) * a).sum(dim=1))
    return torch.stack(found)


def export(model: Any, x: Any, path: Path, dynamo: bool) -> None:
    """Write the model with an open batch, less what the exporter notes of its own work."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / path.name
        if dynamo:
            sizes = ({0: torch.export.Dim("batch", min=1, max=64)},)
            torch.onnx.export(
                model, (x,), scratch, dynamo=True, dynamic_shapes=sizes, external_data=False, verbose=False
            )
        else:
            axes = {"x": {0: "batch"}, "y": {0: "batch"}}
            torch.onnx.export(
                model, (x,), scratch, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
            )
        proto = onnx.load(scratch)
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in proto.graph.value_info:
        del value.metadata_props[:]
    del proto.graph.metadata_props[:], proto.metadata_props[:]
    onnx.save(proto, path)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/attention")
    folder.mkdir(parents=True, exist_ok=True)
    _timm()
    places = lambda z: z[:, -15:].transpose(1, 2).unflatten(2, (3, 5))  # noqa: E731
    nets: dict[str, tuple[Any, bool]] = {
        "vit_class": (vit("token", True), True),
        "vit_mean": (vit("avg", False), False),
        "swin": (swin(), True),
    }
    for name, (model, dynamo) in nets.items():
        model = seeded(model)
        size = (16, 24) if name == "swin" else (12, 20)
        x = torch.randn(PICTURES, 3, *size, generator=torch.Generator().manual_seed(SEED + 1))
        export(model, x, folder / f"{name}.onnx", dynamo)
        exact, pictures = copy.deepcopy(model).double(), x.double()
        if name == "swin":
            found = {"grad_cam": grad_cam(exact, pictures, exact.norm, lambda z: z.permute(0, 3, 1, 2))}
        else:
            at = exact.blocks[-1].norm1 if name == "vit_class" else exact.blocks[-1]
            found = {"grad_cam": grad_cam(exact, pictures, at, places)}
            rows = (lambda a: a[:, 0]) if name == "vit_class" else (lambda a: a.mean(dim=1))
            found |= of_vit(exact, pictures, rows)
        found |= {"x": x, "scores": exact(pictures)}
        arrays = {key: value.detach().numpy() for key, value in found.items()}
        np.savez_compressed(folder / f"{name}.npz", **arrays)
        print(name, (folder / f"{name}.onnx").stat().st_size, {k: v.shape for k, v in arrays.items()})


if __name__ == "__main__":
    main()
