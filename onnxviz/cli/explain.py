"""`onnxviz explain`."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from onnxviz.cli.console import print_json, print_table, progress, say, warn
from onnxviz.cli.options import FOLDER, PICTURES, output_place, pictures_of, read_inputs, shared
from onnxviz.errors import SelectorError
from onnxviz.methods.attribution.method import Method
from onnxviz.methods.attribution.table import FAMILIES, find_method
from onnxviz.methods.explanation import Evidence
from onnxviz.methods.save_explanations import completeness, explanations_into
from onnxviz.methods.stream import Part, explain_parts
from onnxviz.methods.target import expand
from onnxviz.vision.read import name_of_picture

CONTROL = "random"
"""The method whose map means nothing: a row of it stands under every comparison."""


def _list_methods(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    rows = [
        [method.name, method.definition, method.cost, ", ".join(_settings(method))]
        for family in FAMILIES.values()
        for method in family
    ]
    headings = [("method", "left"), ("what it is", "left"), ("cost", "left"), ("settings", "left")]
    print_table(headings, rows)
    context.exit()


def _settings(method: Method) -> list[str]:
    return [f"{name}={value}" for name, value in method.settings.items()]


def _families() -> str:
    """The names of all methods, for the end of the help."""
    parts = []
    for family, methods in FAMILIES.items():
        names = textwrap.wrap(
            ", ".join(method.name for method in methods), 72, break_on_hyphens=False, break_long_words=False
        )
        parts.append("\n  ".join([f"\b\n{family}:", *names]))
    return "\n\n".join(["Methods (--list-methods says what each one is):", *parts])


@click.command("explain", epilog=_families())
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=("grad-cam",),
    show_default="grad-cam",
    metavar="NAME[,NAME...]",
    help="What to explain by; --list-methods shows them all. Several are also drawn on one sheet, with a "
    "random map for comparison.",
)
@click.option(
    "--list-methods",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_methods,
    help="List the methods, what they are, their cost and their settings.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the method, such as samples=100. May be given several times.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="T",
    help='A class index, a label, top1 (default), top5, "A vs B", an output element such as "boxes[0,17,4]" '
    '(or "boxes[0,17,4] down"), "up" or "down" (all of the output), "dog in 10,20,200,220" (a box in the '
    'picture), "dog in mask.png" (segmentation), or "like embedding.npy" (cosine similarity). May be given '
    "several times; each is drawn for every picture.",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="SELECTOR",
    help="Default: the last activation that leads to the target. Some methods take several.",
)
@click.option(
    "--gradient",
    type=click.Choice(["auto", "graph", "numeric"]),
    default="auto",
    show_default=True,
    help="By a gradient graph, or by finite differences.",
)
@click.option("--quality", is_flag=True, help="Measure how good each map is: insertion, deletion, ROAD ...")
@click.option("--seed", default=0, show_default=True, help="For methods that sample.")
@shared("output", "labels", *PICTURES, "colormap", "alpha", *FOLDER)
def command(
    model: str,
    images: tuple[str, ...],
    methods: tuple[str, ...],
    settings: tuple[str, ...],
    targets: tuple[str, ...],
    layers: tuple[str, ...],
    gradient: Any,
    quality: bool,
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
      onnxviz explain model.onnx cat.png --method smoothgrad --set samples=100
      onnxviz explain model.onnx folder --method grad-cam,layer-cam,integrated-gradients
      onnxviz explain detector.onnx street.png --target "dog in 10,20,200,220"
    """
    place, replace = output_place(out, overwrite, "explain")
    chosen = chosen_methods(methods, settings)
    wanted = [one for target in targets or ("top1",) for one in expand(target)]
    answers: list[str] = []
    passed_over: list[str] = []
    with progress(quiet):
        given, in_folders = pictures_of(images)
        names = [name_of_picture(picture, number) for number, picture in enumerate(given)]
        with explanations_into(place, names, replace, colormap, alpha) as writer:
            for part in explain_parts(
                model,
                given,
                chosen,
                wanted,
                layers or None,
                gradient,
                seed,
                preprocess=preprocess,
                inputs=read_inputs(inputs),
                size=size,
                device=device,
                batch=batch,
                output=output,
                labels=labels,
                optional=in_folders,
                skip=passed_over.append,
                quality=quality,
            ):
                writer.add(part)
                answers += _answers(part)
            writer.manifest["warnings"] += passed_over
    warn(writer.manifest["warnings"], quiet)
    if as_json:
        print_json({**writer.manifest, "out": str(place)})
        return
    _announce(writer.manifest, quiet)
    for line in answers:
        click.echo(line)
    say(f"{len(writer.manifest['maps'])} maps drawn in {place}", quiet)


def chosen_methods(names: Sequence[str], settings: Sequence[str]) -> dict[str, dict[str, object]]:
    """The methods named, each with those of the settings that it has.

    Raises:
        SelectorError: There is no such method, a setting cannot be read, or no method has it.
    """
    listed = dict.fromkeys(name.strip() for text in names for name in text.split(","))
    if len(listed) > 1:
        listed |= {CONTROL: None}
    found = {name: find_method(name) for name in listed}
    chosen: dict[str, dict[str, object]] = {name: {} for name in listed}
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise SelectorError(f"cannot read --set {text!r}; write NAME=VALUE, such as samples=100")
        takers = [name for name, method in found.items() if key.strip() in method.settings]
        if not takers:
            next(iter(found.values())).read({key.strip(): value})
        for name in takers:
            chosen[name] |= found[name].read({key.strip(): value.strip()})
    return chosen


def _announce(manifest: Mapping[str, Any], quiet: bool) -> None:
    output = manifest["output"]
    behind = f", before its {output['stepped_over']}" if output["stepped_over"] else ""
    say(f"output {output['name']}{behind}; device {manifest['device']}", quiet)
    for layer in manifest["layer"]:
        say(f"layer {layer['name']} ({layer['op']}): {layer['why']}", quiet)


def _answers(part: Part) -> Iterator[str]:
    """What is printed of some pictures, a line each."""
    first = next(iter(part.explanations.values()))
    for number, name in enumerate(first.pictures.names):
        yield name
        for rank, entry in enumerate(first.manifest["top5"][number], start=1):
            yield f"  {rank}. {entry['probability']:.4f}  {entry['label']} ({entry['index']})"
        for found in part.explanations.values():
            yield from (_map_line(found.method, one) for one in found.evidence if one.picture == number)


def _map_line(method: str, one: Evidence) -> str:
    states = [] if one.route == "none" else [f"gradient: {one.route}"]
    if one.empty is not None:
        states = [f"empty map: {one.empty}"]
    if one.checks:
        states.append(completeness(one.checks))
    states += [f"{name} {value:.3f}" for name, value in one.quality.items()]
    about = "".join(f"; {state}" for state in states)
    return f"  {method} for {one.target.text}: score {one.score:.4f}{about}"
