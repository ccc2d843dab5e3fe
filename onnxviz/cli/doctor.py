"""`onnxviz doctor`."""

import click

from onnxviz.cli.console import print_json
from onnxviz.cli.options import shared
from onnxviz.runtime.doctor import examine


@click.command("doctor")
@shared("json")
def command(as_json: bool) -> None:
    """Versions, devices, and why CUDA is or is not used."""
    found = examine()
    if as_json:
        print_json(found.to_dict())
        return
    click.echo(f"Python {found.python} on {found.platform}")
    for name, number in {**found.versions, **found.runtimes}.items():
        click.echo(f"{name:18} {number or 'not installed'}")
    click.echo(f"{'providers':18} {', '.join(found.providers)}")
    click.echo(f"{'device auto takes':18} {found.device}")
    click.echo(f"{'CUDA':18} {found.why_no_cuda or 'works'}")
    for problem in found.problems:
        click.echo(f"Problem: {problem}")
    click.echo("No problems found." if not found.problems else f"{len(found.problems)} problem(s) found.")
