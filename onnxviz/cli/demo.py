"""`onnxviz demo`."""

import time

import click

from onnxviz.cli.console import print_json, progress, say
from onnxviz.cli.options import output_place, shared
from onnxviz.graph.model import load
from onnxviz.methods.demo import demonstrate
from onnxviz.methods.manifest import manifest
from onnxviz.methods.save import filling
from onnxviz.samples import sample_model


@click.command("demo")
@shared("device", "out", "overwrite", "json", "quiet")
def command(device: str, out: str | None, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """All of it, in a minute, on the model and the picture that come along.

    \b
    Example:
      onnxviz demo --out demo
    """
    place, replace = output_place(out, overwrite, "demo")
    started = time.perf_counter()
    lines = []
    with filling(place, replace) as folder, progress(quiet):
        for line in demonstrate(folder.path, device):
            lines.append(line)
            if not as_json:
                click.echo(line)
        seconds = {"demo": round(time.perf_counter() - started, 3)}
        entries = manifest(load(sample_model()), answers=lines, seconds=seconds, warnings=[])
        folder.manifest(entries)
    if as_json:
        print_json({**entries, "out": str(place)})
        return
    say(f"all drawn in {place}", quiet)
