"""`onnxviz inspect`."""

import click

from onnxviz.cli.console import print_json, print_table
from onnxviz.cli.options import load_at, shared
from onnxviz.graph.layers import Layer, total_parameters
from onnxviz.graph.model import Model, ValueInfo, format_shape
from onnxviz.graph.selectors import select
from onnxviz.methods.manifest import describe_model


@click.command("inspect")
@click.argument("model")
@shared("layer", "input-shape", "json")
def command(model: str, layers: tuple[str, ...], shapes: tuple[str, ...], as_json: bool) -> None:
    """Inputs, outputs and the layer table of a model. Runs nothing.

    \b
    Examples:
      onnxviz inspect model.onnx
      onnxviz inspect model.onnx --layer Conv --json
    """
    loaded = load_at(model, shapes)
    chosen = select(loaded, layers) if layers else loaded.layers
    if as_json:
        print_json(document(loaded, chosen))
        return
    described = describe_model(loaded)
    click.echo(f"{described['path']}  opset {described['opset']}  {described['producer'] or ''}".rstrip())
    for kind, values in (("input", loaded.inputs), ("output", loaded.outputs)):
        for value in values:
            click.echo(f"{kind:7} {value}")
    macs = sum(layer.macs or 0 for layer in loaded.layers)
    click.echo(f"{len(loaded.layers)} layers, {total_parameters(loaded):,} parameters, {macs:,} MACs\n")
    columns = [("#", "right"), ("name", "left"), ("op", "left"), ("shape", "left")]
    columns += [("params", "right"), ("MACs", "right"), ("receptive field", "left")]
    has_modules = any(layer.module for layer in chosen)
    if has_modules:
        columns.append(("module", "left"))
    print_table(columns, [_row(layer, has_modules) for layer in chosen])


def document(model: Model, layers: tuple[Layer, ...]) -> dict[str, object]:
    """What `inspect --json` prints."""
    return {
        "model": describe_model(model),
        "inputs": [_value(value) for value in model.inputs],
        "outputs": [_value(value) for value in model.outputs],
        "params": total_parameters(model),
        "macs": sum(layer.macs or 0 for layer in model.layers),
        "metadata": sorted(model.metadata),
        "layers": [layer.to_dict() for layer in layers],
    }


def _value(value: ValueInfo) -> dict[str, object]:
    shape = None if value.shape is None else list(value.shape)
    return {"name": value.name, "dtype": value.dtype, "shape": shape}


def _row(layer: Layer, has_modules: bool) -> list[str]:
    row = [
        str(layer.index),
        layer.name,
        layer.op,
        format_shape(layer.shape),
        f"{layer.params:,}" if layer.params else "",
        "?" if layer.macs is None else f"{layer.macs:,}" if layer.macs else "",
        _field(layer),
    ]
    return [*row, layer.module or ""] if has_modules else row


def _field(layer: Layer) -> str:
    field = layer.receptive_field
    if field is None:
        return ""
    size = "×".join("all" if number is None else f"{number:g}" for number in field.size)
    if any(number is None for number in field.stride):
        return size
    stride, offset = (
        "×".join(f"{n:g}" for n in dict.fromkeys(numbers)) for numbers in (field.stride, field.offset)
    )
    return f"{size} every {stride} from {offset}"
