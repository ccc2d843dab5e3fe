"""`onnxviz maximize`."""

from typing import Any, get_args

import click

from onnxviz.cli.console import print_json, print_table, progress, say, warn
from onnxviz.cli.options import FOLDER, PICTURES, Size, output_place, read_inputs, shared
from onnxviz.methods.ascent.numeric import Sampler
from onnxviz.methods.ascent.parse import GRAMMAR
from onnxviz.methods.ascent.recipe import RECIPES, Aim, Display, ImageKind, Kept, Norm, Optimizer, Recipe
from onnxviz.methods.maximize import maximize
from onnxviz.methods.save_maximized import labelled, ranked, read_rest, report_lines, save_maximized

_SETTINGS = (
    ("steps", click.IntRange(min=1), "Steps."),
    ("rate", click.FloatRange(min=0), "The length of a step."),
    ("optimizer", click.Choice(get_args(Optimizer)), "The rule of a step."),
    ("normalise", click.Choice(get_args(Norm)), "What the gradient is divided by."),
    ("epsilon", click.FloatRange(min=0), "Added to that divisor."),
    ("progress", click.FloatRange(min=0), "The rise that a step should bring; the rate limits it."),
    ("image", click.Choice(get_args(ImageKind)), "What is optimised."),
    ("low", click.FloatRange(0, 255), "Pixels begin uniform between this"),
    ("high", click.FloatRange(0, 255), "and this; equal: at the mean colour."),
    ("noise", click.FloatRange(min=0), "Standard deviation of the noise in the start."),
    (
        "transforms",
        str,
        'What is done to the picture first: "pad:12,jitter:8,scale:0.9:1.1:11,rotate:10"; "none".',
    ),
    ("crops", click.IntRange(min=0), "Random crops that the model sees at each step."),
    ("redirect", click.IntRange(min=0), "First steps in which dead ReLUs are woken."),
    ("decay", click.FloatRange(0, 1, max_open=True), "Share by which a picture shrinks at each step."),
    ("blur", click.FloatRange(min=0), "Standard deviation of a blur after steps, pixels."),
    ("blur_every", click.IntRange(min=1), "After every so many steps."),
    (
        "small_norm",
        click.FloatRange(0, 100, max_open=True),
        "Percent of pixels of least norm set to the mean.",
    ),
    (
        "small_contribution",
        click.FloatRange(0, 100, max_open=True),
        "Percent of least contribution set to it.",
    ),
    ("l1", click.FloatRange(min=0), "Weight of the distance to the mean colour."),
    ("tv", click.FloatRange(min=0), "Weight of the total variation."),
    ("octaves", click.IntRange(min=1), "How often the picture is begun anew, larger each time."),
    ("octave_scale", click.FloatRange(min=1, min_open=True), "How much larger."),
    (
        "aim",
        click.Choice(get_args(Aim)),
        "What a channel stands for: its mean, its middle unit, or the layer.",
    ),
    ("keep", click.Choice(get_args(Kept)), "Which picture is the result."),
    ("display", click.Choice(get_args(Display)), "How numbers are shown."),
)


def _settings(command: Any) -> Any:
    """The settings of a recipe as options, each of them overriding the recipe's own."""
    for name, kind, text in reversed(_SETTINGS):
        command = click.option(f"--{name.replace('_', '-')}", name, type=kind, help=text)(command)
    for name, text in (
        ("clip", "Keep pixels between 0 and 255."),
        ("decorrelate", "Colours as in photographs."),
    ):
        command = click.option(f"--{name}/--no-{name}", name, default=None, help=text)(command)
    return command


def _list_recipes(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    plain = Recipe()
    rows = []
    for name, recipe in RECIPES.items():
        own = [key for key in Recipe.__dataclass_fields__ if getattr(recipe, key) != getattr(plain, key)]
        rows.append([name, ", ".join(f"{key}={_brief(getattr(recipe, key))}" for key in own)])
    print_table([("recipe", "left"), ("settings", "left")], rows)
    context.exit()


def _brief(value: object) -> str:
    return (
        ",".join(value)
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


@click.command("maximize", epilog=f"Expressions: {GRAMMAR}.")
@click.argument("model")
@shared("layer")
@click.option("--channels", metavar="SPEC", help='"0,3,8-15" or "all". Default: the first 9.')
@click.option("--target", "targets", multiple=True, metavar="T", help="A class by index or name. Repeatable.")
@click.option(
    "--objective", "objectives", multiple=True, metavar="EXPR", help="An expression, see below. Repeatable."
)
@click.option(
    "--recipe",
    type=click.Choice(tuple(RECIPES)),
    default="lucid",
    show_default=True,
    help="Published settings, each exactly as its source has it; single options override them.",
)
@click.option("--copies", type=click.IntRange(min=1), default=1, help="Pictures of each, from other starts.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="Of all that is drawn.", show_default=True
)
@click.option("--start", metavar="PICTURE", help="Begin from a photograph.")
@click.option("--picture", type=Size(), help="Height and width of the picture that is made.")
@click.option("--magnitude", metavar="FOLDER", help="For maco: pictures whose mean spectrum is kept.")
@click.option(
    "--gradient",
    type=click.Choice(["auto", "graph", "numeric"]),
    default="auto",
    show_default=True,
    help="Differentiate the graph, or estimate from values.",
)
@click.option("--sampler", type=click.Choice(["spsa", "nes"]), default="spsa", help="How to estimate.")
@click.option("--pairs", type=click.IntRange(min=1), default=16, help="Pairs of values for each estimate.")
@click.option("--reach", type=click.FloatRange(min=0, min_open=True), default=1.0, help="How far apart.")
@_settings
@click.option("--sort", is_flag=True, help="The highest last objective first.")
@click.option("--most", type=click.IntRange(min=1), metavar="N", help="So many on the sheet.")
@click.option("--crop", type=Size(), help="The corner of each that the sheet shows.")
@click.option("--columns", type=click.IntRange(min=1), help="Pictures in a row of the sheet.")
@click.option("--report", is_flag=True, help="Print what is known of each step.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped, from its --out folder.")
@click.option(
    "--list-recipes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_recipes,
    help="Print every setting of each recipe.",
)
@shared(*PICTURES, "output", "labels", *FOLDER)
def command(
    model: str,
    layers: tuple[str, ...],
    channels: str | None,
    targets: tuple[str, ...],
    objectives: tuple[str, ...],
    recipe: str,
    copies: int,
    seed: int,
    start: str | None,
    picture: tuple[int, int] | None,
    magnitude: str | None,
    gradient: Any,
    sampler: Any,
    pairs: int,
    reach: float,
    sort: bool,
    most: int | None,
    crop: tuple[int, int] | None,
    columns: int | None,
    report: bool,
    resume: bool,
    preprocess: str | None,
    size: tuple[int, int] | None,
    inputs: tuple[str, ...],
    device: str,
    batch: int | None,
    output: str | None,
    labels: str | None,
    out: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    transforms: str | None,
    **settings: Any,
) -> None:
    """What a channel, a unit, a layer or a class would like to see: gradient ascent in the picture.

    Ctrl-C stops cleanly and writes what is done; the same command with --resume goes on.

    \b
    Examples:
      onnxviz maximize model.onnx --layer conv1 --channels all --recipe chollet --sort
      onnxviz maximize model.onnx --target "kit fox" --recipe hvass --steps 100 --report
      onnxviz maximize model.onnx --layer mixed4a --channels 0-8
      onnxviz maximize model.onnx --recipe deepdream --start dog.jpg --layer fire5
      onnxviz maximize model.onnx --objective "channel(conv10, 285) - channel(conv10, 281)"
      onnxviz maximize model.onnx --objective "channel(conv5, 3) + 10 * diversity(conv5)" --copies 4
      onnxviz maximize model.onnx --objective "-channel(conv5, 3)"
    """
    place, replace = output_place(out, overwrite, "maximize")
    rest = read_rest(place) if resume else None
    with progress(quiet):
        made = maximize(
            model,
            list(layers) or None,
            channels,
            list(targets) or None,
            recipe,
            seed,
            objective=list(objectives) or None,
            copies=copies,
            start=start,
            magnitude=magnitude,
            picture=picture,
            gradient=gradient,
            sampler=Sampler(sampler, pairs, reach),
            report=report,
            resume=rest,
            partial=True,
            preprocess=preprocess,
            inputs=read_inputs(inputs),
            size=size,
            device=device,
            batch=batch,
            output=output,
            labels=labels,
            transforms=_listed(transforms),
            **settings,
        )
        save_maximized(
            made, place, sort=sort, most=most, crop=crop, columns=columns, overwrite=replace or resume
        )
    warn(made.warnings, quiet)
    if not made.finished:
        say(f"What is done is in {place}; the same command with --resume goes on.", quiet)
        raise KeyboardInterrupt
    if as_json:
        print_json({**made.manifest, "out": str(place)})
        return
    names = labelled(made)
    for row in ranked(made, sort):
        for line in report_lines(names[row], made.reports[row]):
            click.echo(line)
        woke = "" if made.woke[row] else "  never woke"
        click.echo(f"{names[row]}  {made.losses[row][0]:.4g} to {made.losses[row][-1]:.4g}{woke}")
    say(f"{len(made.images)} pictures in {place}", quiet)


def _listed(transforms: str | None) -> tuple[str, ...] | None:
    if transforms is None:
        return None
    return () if transforms.strip().lower() in ("", "none") else tuple(transforms.split(","))
