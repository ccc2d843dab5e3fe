"""`onnxviz export`."""

import click

from onnxviz.autodiff.pullback import gradient as gradient_of
from onnxviz.autodiff.variants import RULE_SETS
from onnxviz.cli.console import print_json, say
from onnxviz.cli.options import load_at, shared
from onnxviz.errors import SelectorError
from onnxviz.graph.expose import expose as expose_tensors
from onnxviz.graph.model import Model
from onnxviz.graph.selectors import select
from onnxviz.methods.explainer import explainer

_OUT = click.option("-o", "--out", "out", required=True, metavar="OUT.onnx", help="The file to write.")


@click.group("export")
def command() -> None:
    """Write a rewritten model that runs in plain onnxruntime."""


@command.command("expose")
@click.argument("model")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    required=True,
    metavar="SELECTOR",
    help="Layers, or exact tensor names.",
)
@click.option("--keep-outputs", is_flag=True, help="Keep the model's own outputs, in front.")
@_OUT
@shared("input-shape", "json", "quiet")
def expose(
    model: str,
    layers: tuple[str, ...],
    keep_outputs: bool,
    out: str,
    shapes: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """The model that outputs these layers and computes nothing else.

    \b
    Example:
      onnxviz export expose model.onnx --layer Conv -o exposed.onnx
    """
    loaded = load_at(model, shapes)
    own = [value.name for value in loaded.outputs] if keep_outputs else []
    tensors = [name for selector in layers for name in _tensors(loaded, selector)]
    _write(expose_tensors(loaded, [*own, *tensors]), out, as_json, quiet)


@command.command("gradient")
@click.argument("model")
@click.option("--of", required=True, metavar="TENSOR", help="The tensor to differentiate.")
@click.option(
    "--wrt",
    required=True,
    multiple=True,
    metavar="TENSOR",
    help="With respect to this tensor; several may be given.",
)
@click.option(
    "--rules",
    default="auto",
    show_default=True,
    metavar="SET",
    help=f"auto (gradient, and straight-through where a quantiser lies on the path), {', '.join(RULE_SETS)}.",
)
@_OUT
@shared("input-shape", "json", "quiet")
def gradient(
    model: str,
    of: str,
    wrt: tuple[str, ...],
    rules: str,
    out: str,
    shapes: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """The model that computes the gradient of one tensor with respect to others.

    Its input `<of>_grad` takes the cotangent, its outputs are `<wrt>_grad`.

    \b
    Examples:
      onnxviz export gradient model.onnx --of logits --wrt input -o gradient.onnx
      onnxviz export gradient model.onnx --of y --wrt x --input-shape x=N,3,224,224 -o gradient.onnx
    """
    derived = gradient_of(load_at(model, shapes), of, wrt, rules)
    _write(derived, out, as_json, quiet)
    silent = quiet or as_json
    for name, at in derived.taken_at.items():
        if name != at:
            say(f"{name} holds integers: its gradient is taken at {at}, the first floats behind it", silent)
    say(f"by the rules {derived.rules!r}", silent)


@command.command("explain")
@click.argument("model")
@click.option(
    "--method", default="grad-cam", show_default=True, metavar="NAME", help="A method that is one graph."
)
@click.option("--layer", metavar="SELECTOR", help="Default: the last activation that leads to the scores.")
@click.option(
    "--fold-preprocess",
    is_flag=True,
    help="Take pictures, uint8 [N,H,W,3] of any size, in place of the model's own input.",
)
@_OUT
@shared("preprocess", "output", "input-shape", "json", "quiet")
def explain(
    model: str,
    method: str,
    layer: str | None,
    fold_preprocess: bool,
    out: str,
    preprocess: str | None,
    output: str | None,
    shapes: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """The model that answers as before and says why: it runs wherever ONNX does, without onnxviz.

    It has the model's inputs and `target`, int64 [N], the class to explain (below 0: the top class); and the
    model's outputs and `heatmap`, float32 [N,H,W] in [0,1].

    \b
    Examples:
      onnxviz export explain model.onnx --method grad-cam -o explained.onnx
      onnxviz export explain model.onnx --method layer-cam --layer layer3 --fold-preprocess -o explained.onnx
    """
    loaded = load_at(model, shapes)
    made = explainer(loaded, method, layer, fold_preprocess, preprocess=preprocess, output=output)
    _write(made, out, as_json, quiet)


def _tensors(model: Model, selector: str) -> list[str]:
    """The tensors that a selector names: those of layers, else one of the graph's by its exact name."""
    try:
        return [layer.tensor for layer in select(model, selector)]
    except SelectorError:
        if selector in model.tensors:
            return [selector]
        raise


def _write(model: Model, out: str, as_json: bool, quiet: bool) -> None:
    model.save(out)
    if as_json:
        document = {
            "out": out,
            "inputs": [value.name for value in model.inputs],
            "outputs": [value.name for value in model.outputs],
            "gradients": model.gradients,
            "cotangent": model.cotangent,
            "taken_at": model.taken_at,
            "rules": model.rules,
        }
        print_json(document)
        return
    for kind, values in (("input", model.inputs), ("output", model.outputs)):
        for value in values:
            click.echo(f"{kind:7} {value}")
    say(f"written to {out}", quiet)
