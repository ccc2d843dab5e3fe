"""`onnxviz kernels`."""

import click

from onnxviz.cli.console import print_json, say
from onnxviz.cli.options import FOLDER, output_place, shared
from onnxviz.graph.model import load
from onnxviz.methods.kernels import blue_first, kernels
from onnxviz.methods.manifest import manifest
from onnxviz.methods.save import save_kernels


@click.command("kernels")
@click.argument("model")
@shared("layer", "colormap", *FOLDER)
def command(
    model: str,
    layers: tuple[str, ...],
    colormap: str | None,
    out: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """The weights themselves: drawn, and as numbers.

    A first layer's filters are RGB tiles; the others show one tile for each filter and input channel. The
    numbers are in kernels.npz, and in the document that --json prints.

    \b
    Examples:
      onnxviz kernels model.onnx
      onnxviz kernels model.onnx --layer first-conv --json
    """
    place, replace = output_place(out, overwrite, "kernels")
    loaded = load(model)
    found = kernels(loaded, list(layers) if layers else "Conv")
    drawn = [layer for layer in loaded.layers if layer.name in found]
    entries = manifest(loaded, layer=[layer.name for layer in drawn], warnings=[])
    save_kernels(found, drawn, entries, place, replace, colormap, blue_first(loaded, drawn))
    if as_json:
        numbers = {name: {"shape": list(array.shape), "values": array} for name, array in found.items()}
        print_json({**entries, "kernels": numbers, "out": str(place)})
        return
    for layer in drawn:
        array = found[layer.name]
        click.echo(
            f"{layer.index:4}  {layer.name}  {list(array.shape)}  {array.min():.4g} to {array.max():.4g}, "
            f"mean {array.mean():.4g}, standard deviation {array.std():.4g}"
        )
    say(f"{len(drawn)} layers drawn in {place}", quiet)
