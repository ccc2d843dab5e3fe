"""`onnxviz explain`."""

from typing import Any

import click

from onnxviz.cli.console import print_json, progress, say, warn
from onnxviz.cli.options import FOLDER, PICTURES, output_place, pictures, read_inputs, shared
from onnxviz.methods.attribution.table import METHODS
from onnxviz.methods.explain import explain_each
from onnxviz.methods.explanation import Explanation
from onnxviz.methods.query import ask
from onnxviz.methods.save import save_explanation
from onnxviz.methods.target import expand


@click.command("explain")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--method", default="grad-cam", show_default=True, metavar="NAME", help=f"One of {', '.join(METHODS)}."
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="T",
    help='A class index, a label, top1 (default), top5, "A vs B", or an output element such as '
    '"boxes[0,17,4]". May be given several times; each is drawn for every picture.',
)
@click.option("--layer", metavar="SELECTOR", help="Default: the last activation that leads to the target.")
@click.option(
    "--gradient",
    type=click.Choice(["auto", "graph", "numeric"]),
    default="auto",
    show_default=True,
    help="By a gradient graph, or by finite differences.",
)
@click.option("--seed", default=0, show_default=True, help="For methods that sample.")
@shared("output", "labels", *PICTURES, "colormap", "alpha", *FOLDER)
def command(
    model: str,
    images: tuple[str, ...],
    method: str,
    targets: tuple[str, ...],
    layer: str | None,
    gradient: Any,
    seed: int,
    output: str | None,
    labels: str | None,
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
    """Why did the model answer so: a heatmap of what in each picture speaks for a target.

    Writes for each picture and target the figure, the overlay, the bare heatmap and the raw signed map, and
    all numbers in explain.npz. The score before a final Softmax or Sigmoid is what is explained.

    \b
    Examples:
      onnxviz explain model.onnx cat.png
      onnxviz explain model.onnx cat.png dog.png --target top1 --target "tabby"
      onnxviz explain model.onnx cat.png --target "tabby vs Egyptian cat" --layer layer3
      onnxviz explain detector.onnx street.png --target "boxes[0,17,4]"
    """
    place, replace = output_place(out, overwrite, "explain")
    with progress(quiet):
        query = ask(model, pictures(images), preprocess, read_inputs(inputs), size)
        wanted = [one for target in targets or ("top1",) for one in expand(target)]
        found = explain_each(
            query,
            [(picture, one) for picture in range(len(query)) for one in wanted],
            method,
            layer,
            gradient,
            seed,
            device=device,
            batch=batch,
            output=output,
            labels=labels,
        )
        save_explanation(found, place, replace, colormap, alpha)
    warn(found.manifest["warnings"], quiet)
    if as_json:
        print_json({**found.manifest, "out": str(place)})
        return
    _announce(found, quiet)
    _print_answers(found)
    say(f"{len(found.evidence)} maps drawn in {place}", quiet)


def _announce(found: Explanation, quiet: bool) -> None:
    output = found.manifest["output"]
    behind = f", before its {output['stepped_over']}" if output["stepped_over"] else ""
    say(f"output {output['name']}{behind}; device {found.manifest['device']}", quiet)
    for layer in found.manifest["layer"]:
        say(f"layer {layer['name']} ({layer['op']}): {layer['why']}", quiet)


def _print_answers(found: Explanation) -> None:
    for number, name in enumerate(found.pictures.names):
        click.echo(name)
        for rank, entry in enumerate(found.manifest["top5"][number], start=1):
            click.echo(f"  {rank}. {entry['probability']:.4f}  {entry['label']} ({entry['index']})")
        for one in found.evidence:
            if one.picture == number:
                state = f"empty map: {one.empty}" if one.empty is not None else f"gradient: {one.route}"
                click.echo(f"  {found.method} for {one.target.text}: score {one.score:.4f}; {state}")
