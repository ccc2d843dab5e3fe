"""`onnxviz activations`."""

from typing import Any

import click

from onnxviz.cli.console import print_json, progress, say, warn
from onnxviz.cli.options import FOLDER, PICTURES, output_place, pictures, read_inputs, shared
from onnxviz.methods.activations import observe
from onnxviz.methods.save import save_activations


@click.command("activations")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@shared("layer", "channels")
@click.option(
    "--scale",
    type=click.Choice(["layer", "channel", "std"]),
    default="layer",
    show_default=True,
    help="One colour scale for the whole layer, one for each channel, or mean and standard deviation.",
)
@click.option(
    "--strip", type=click.IntRange(min=0), metavar="CHANNEL", help="One channel of every layer in one strip."
)
@shared(*PICTURES, "colormap", "alpha", *FOLDER)
def command(
    model: str,
    images: tuple[str, ...],
    layers: tuple[str, ...],
    channels: str,
    scale: Any,
    strip: int | None,
    preprocess: str | None,
    size: tuple[int, int] | None,
    inputs: tuple[str, ...],
    device: str,
    batch: int | None,
    colormap: str | None,
    alpha: float | None,
    out: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """What each layer responds to: one titled grid of feature maps per layer.

    Every Conv layer by default. Several pictures come side by side on the same channels and the same scale;
    a few chosen channels are also laid over the picture. Values keep their sign.

    \b
    Examples:
      onnxviz activations model.onnx cat.png
      onnxviz activations model.onnx cat.png --layer conv1 --channels strongest:8
      onnxviz activations model.onnx open.png closed.png --layer "layer4.*" --channels 3,7
      onnxviz activations model.onnx cat.png --strip 0 --size 448x448
    """
    place, replace = output_place(out, overwrite, "activations")
    with progress(quiet):
        seen = observe(
            model,
            pictures(images),
            list(layers) if layers else "Conv",
            preprocess=preprocess,
            device=device,
            batch=batch,
            inputs=read_inputs(inputs),
            size=size,
        )
        save_activations(seen, place, channels, scale, strip, replace, colormap, alpha)
    warn(seen.warnings, quiet)
    if as_json:
        summary = {layer.name: list(seen.arrays[layer.name].shape) for layer in seen.layers}
        print_json({**seen.manifest, "shapes": summary, "out": str(place)})
        return
    say(f"outputs moved by {seen.drift:.1e} of their largest value while being watched", quiet)
    for layer in seen.layers:
        array = seen.arrays[layer.name]
        click.echo(
            f"{layer.index:4}  {layer.name}  {list(array.shape)}  {array.min():.4g} to {array.max():.4g}"
        )
    say(f"{len(seen.layers)} layers drawn in {place}", quiet)
