"""`onnxviz audit`."""

from typing import Any

import click

from onnxviz.auditing.audit import run_audit
from onnxviz.auditing.options import Options
from onnxviz.cli.console import print_json, progress, say, warn
from onnxviz.cli.options import FOLDER, PICTURES, output_place, read_inputs, shared
from onnxviz.methods.engines import ENGINES

_GATE_FAILED = 1


@click.command("audit")
@click.argument("model")
@click.argument("reference", required=False)
@click.option(
    "--images",
    metavar="FOLDER",
    help="Pictures: a folder with all below it (folders named after classes tell what is right), a pattern, "
    "a list of files (.txt) or a tar archive. Default: only what the file alone tells.",
)
@click.option(
    "--fail-on",
    multiple=True,
    metavar="GATE",
    help='Fail where this holds: "agreement.top1<0.98", "layers[*].sqnr_db<15", "counts.error>0". '
    "A path into audit.json; may be given several times.",
)
@click.option("--policy", metavar="FILE", help="A TOML file of gates (fail-on, warn-on) and [severity].")
@click.option("--baseline", metavar="AUDIT.json", help="An earlier audit to compare with.")
@click.option(
    "--reference-preprocess",
    metavar="NAME|FILE",
    help="How the reference is fed. Default: as it says itself, else as the model.",
)
@click.option(
    "--explain",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Pictures whose explanations are compared and checked; 0: none.",
)
@click.option("--method", default="grad-cam", show_default=True, help="How they are explained.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that samples.")
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
@shared("labels", "output", *PICTURES, *FOLDER)
def command(
    model: str,
    reference: str | None,
    images: str | None,
    fail_on: tuple[str, ...],
    policy: str | None,
    baseline: str | None,
    reference_preprocess: str | None,
    explain: int,
    method: str,
    seed: int,
    engine: Any,
    ray_address: str | None,
    workers: int | None,
    labels: str | None,
    output: str | None,
    preprocess: str | None,
    size: tuple[int, int] | None,
    inputs: tuple[str, ...],
    device: str,
    batch: int | None,
    out: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Is the file that ships healthy, and is it still the model that was trained?

    MODEL is the file about to ship, REFERENCE another export, precision or quantisation of the same model.
    Writes audit.json, junit.xml and report.html. Exits with 1 when a gate fails, with 0 when all hold;
    without gates the verdict is printed and fails nothing.

    \b
    Examples:
      onnxviz audit model.onnx
      onnxviz audit model-int8.onnx model.onnx --images photos --fail-on "agreement.top1<0.98"
      onnxviz audit model-int8.onnx model.onnx --images photos --policy audit.toml --baseline last/audit.json
      onnxviz audit model.onnx --images by-class --labels labels.json --fail-on "counts.error>0"
    """
    place, replace = output_place(out, overwrite, "audit")
    with progress(quiet):
        options = Options(
            preprocess=preprocess,
            reference_preprocess=reference_preprocess,
            labels=labels,
            output=output,
            explain=explain,
            method=method,
            seed=seed,
            fail_on=fail_on,
            policy=policy,
            baseline=baseline,
            engine=engine,
            ray_address=ray_address,
            workers=workers,
            device=device,
            batch=batch,
            inputs=read_inputs(inputs),
            size=size,
            notify=lambda message: say(message, quiet),
        )
        found = run_audit(model, images, reference, options)
        found.save(place, overwrite=replace)
    document = found.document
    warn(document["warnings"], quiet)
    if as_json:
        print_json(document)
    else:
        click.echo(document["verdict"])
        for reason in document["reasons"]:
            click.echo(f"  {reason}")
    say(f"the report is {place / 'report.html'}", quiet)
    if document["verdict"] == "fail" and not document["gates"]:
        say('no gate was given, so the exit code is 0; --fail-on "counts.error>0" makes it 1', quiet)
    return 0 if found.gates_hold else _GATE_FAILED
