"""`onnxviz top`."""

from typing import Any

import click

from onnxviz.cli.console import print_json, progress, say, warn
from onnxviz.cli.options import FOLDER, PICTURES, output_place, read_inputs, shared
from onnxviz.methods.engines import ENGINES
from onnxviz.methods.save_top import listed, save_top
from onnxviz.methods.top.images import top_images


@click.command("top")
@click.argument("model")
@click.argument("images", metavar="FOLDER")
@click.option(
    "--layer",
    required=True,
    metavar="SELECTOR",
    help="An index, a tensor, node or module name, a glob, an operator type, first-conv or last-conv; of "
    "several the last.",
)
@click.option(
    "--channels",
    default="strongest:16",
    metavar="SPEC",
    help='"0,3,8-15", "all" or "strongest:16": those with the largest activation anywhere.',
    show_default=True,
)
@click.option("-k", type=click.IntRange(min=1), default=9, show_default=True, help="Pictures per channel.")
@click.option(
    "--pages",
    is_flag=True,
    help="A page for each channel too, with a synthetic picture.",
)
@click.option(
    "--projections/--no-projections",
    default=True,
    show_default=True,
    help="Beside the patches what of them excites the channel (deconvnet).",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=ENGINES[0],
    show_default=True,
    help='Where the pictures are run: in this process, or on Ray (pip install "onnxviz[ray]").',
)
@click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster. Default: one on this machine.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Models that run at once with Ray. Default: one for each GPU, or for every two CPUs.",
)
@shared(*PICTURES, *FOLDER)
def command(
    model: str,
    images: str,
    layer: str,
    channels: str,
    k: int,
    pages: bool,
    projections: bool,
    engine: Any,
    ray_address: str | None,
    workers: int | None,
    preprocess: str | None,
    size: tuple[int, int] | None,
    inputs: tuple[str, ...],
    device: str,
    batch: int | None,
    out: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Which pictures excite a channel most: their patches, and what in them did (Zeiler & Fergus 2014).

    FOLDER is walked with all that lies below it; or it is a pattern ("photos/*.jpg"), a list of files (.txt),
    or a tar archive ("shard-{000..012}.tar"). Few pictures are in memory at a time. One that cannot be read
    is passed over and reported. A run that was cut off, by Ctrl-C or a kill, goes on where it was when the
    same command is given again. The statistics of every channel of the layer are in statistics.json.

    \b
    Examples:
      onnxviz top model.onnx photos --layer conv5
      onnxviz top model.onnx photos --layer layer3 --channels 4,17,30-35 -k 16 --pages
      onnxviz top model.onnx photos --layer last-conv --channels all --no-projections
      onnxviz top model.onnx photos --layer conv5 --engine ray --ray-address auto
    """
    place, replace = output_place(out, overwrite, "top")
    kept = place.with_name(f"{place.name}.partial.npz")
    try:
        with progress(quiet):
            found = top_images(
                model,
                images,
                layer,
                channels,
                k,
                engine=engine,
                preprocess=preprocess,
                device=device,
                batch=batch,
                inputs=read_inputs(inputs),
                size=size,
                progress=kept,
                ray_address=ray_address,
                workers=workers,
                notify=lambda message: say(message, quiet),
            )
            save_top(found, place, overwrite=replace, projections=projections, pages=pages)
    except KeyboardInterrupt:
        say(f"what is done is kept in {kept}: the same command goes on from there", quiet)
        raise
    kept.unlink(missing_ok=True)
    warn(found.manifest["warnings"], quiet)
    if as_json:
        print_json({**found.manifest, **listed(found), "out": str(place)})
        return
    for channel, paths, values in zip(found.channels, found.paths, found.values, strict=True):
        click.echo(f"{channel:5}  {values[0]:.4g}  {paths[0]}")
    say(f"{len(found.channels)} channels of layer {found.layer.name} drawn in {place}", quiet)
