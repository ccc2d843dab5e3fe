"""`onnxviz deconv`."""

import click

from onnxviz.cli.console import print_json, progress, say, warn
from onnxviz.cli.options import FOLDER, PICTURES, output_place, read_inputs, shared
from onnxviz.methods.deconv import deconv
from onnxviz.methods.projection import RULES
from onnxviz.methods.save_projections import save_projections


@click.command("deconv")
@click.argument("model")
@click.argument("image", metavar="IMAGE")
@click.option(
    "--layer",
    metavar="SELECTOR",
    help="An index, a tensor, node or module name, a glob, an operator type, first-conv or last-conv; of "
    "several the last. Default: the last convolution whose units see at most half the picture's height and "
    "width.",
)
@click.option(
    "--channels",
    default="strongest:9",
    metavar="SPEC",
    help='"0,3,8-15", "all" or "strongest:9": those with the largest activation.',
    show_default=True,
)
@click.option(
    "--rules",
    type=click.Choice(RULES),
    default=RULES[0],
    show_default=True,
    help="What a ReLU does on the way down.",
)
@shared(*PICTURES, "colormap", "alpha", *FOLDER)
def command(
    model: str,
    image: str,
    layer: str | None,
    channels: str,
    rules: str,
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
    """What in a picture excited a channel: its strongest unit, projected down to the pixels.

    For each channel the sheet shows the part of the picture that its strongest unit sees (the unit's
    receptive field), the projection of the unit's activation (Zeiler & Fergus 2014), and the channel's
    activation map on the picture. The numbers are in deconv.npz.

    \b
    Examples:
      onnxviz deconv model.onnx cat.png
      onnxviz deconv model.onnx cat.png --layer layer3 --channels 4,17,30-35
      onnxviz deconv model.onnx cat.png --layer 12 --channels strongest:16 --rules guided-backprop
    """
    place, replace = output_place(out, overwrite, "deconv")
    with progress(quiet):
        found = deconv(
            model,
            image,
            layer,
            channels,
            rules,
            preprocess=preprocess,
            device=device,
            batch=batch,
            inputs=read_inputs(inputs),
            size=size,
        )
        save_projections(found, place, replace, colormap, alpha)
    warn(found.manifest["warnings"], quiet)
    if as_json:
        print_json({**found.manifest, "out": str(place)})
        return
    for unit, value, box in zip(found.units, found.values, found.boxes, strict=True):
        where = ",".join(map(str, unit.position))
        click.echo(f"{unit.channel:5}  {value:.4g} at {where}  pixels {','.join(map(str, box))}")
    say(f"{len(found.units)} units of layer {found.layer.name} drawn in {place}", quiet)
