"""From what a user types to layers of the model."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from onnxviz.errors import SelectorError, did_you_mean
from onnxviz.graph.families import family
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model

_GLOB = frozenset("*?[")


def select(model: Model, selectors: str | int | Sequence[str | int]) -> tuple[Layer, ...]:
    """The layers that any of `selectors` names, in the model's order, each once.

    A selector is an index, an exact tensor, node or module name, an operator type (the whole family: "Conv"
    is also QLinearConv, FusedConv ...), `first-conv`, `last-conv`, `all`, or a glob over the names.

    Raises:
        SelectorError: One of them names no layer; the nearest names are suggested.
    """
    several = [selectors] if isinstance(selectors, str | int) else selectors
    chosen = {layer.index: layer for selector in several for layer in _matches(model, selector)}
    return tuple(chosen[index] for index in sorted(chosen))


def select_one(model: Model, selector: str | int) -> Layer:
    """The one layer that a selector names; of several, the last.

    Raises:
        SelectorError: It names none.
    """
    return select(model, selector)[-1]


def _matches(model: Model, selector: str | int) -> Sequence[Layer]:
    layers = model.layers
    text = str(selector).strip()
    if re.fullmatch(r"-?\d+", text):
        if 0 <= int(text) < len(layers):
            return [layers[int(text)]]
        named = [layer for layer in layers if text in (layer.tensor, layer.name)]  # PyTorch once named so
        if named and isinstance(selector, str):
            return named
        raise SelectorError(f"no layer {text}: this model has layers 0 to {len(layers) - 1}")
    if text == "all":
        return layers
    if text in ("first-conv", "last-conv"):
        convolutions = [layer for layer in layers if family(layer.op) == "Conv"]
        if not convolutions:
            raise SelectorError(f"no layer {text!r}: this model has no Conv")
        return [convolutions[0 if text == "first-conv" else -1]]
    for exact in (
        lambda layer: text in (layer.tensor, layer.name),
        lambda layer: layer.module == text,
        lambda layer: layer.module is not None and layer.module.startswith((f"{text}.", f"{text}/")),
        lambda layer: text in (layer.op, family(layer.op)),
    ):
        found = [layer for layer in layers if exact(layer)]
        if found:
            return found
    if _GLOB & set(text):
        found = [layer for layer in layers if any(fnmatchcase(name, text) for name in _names(layer))]
        if found:
            return found
    known = dict.fromkeys(name for layer in layers for name in (*_names(layer), layer.op))
    near = did_you_mean(text, known)
    raise SelectorError(f"no layer {text!r} in this model{near}; `onnxviz inspect` lists them")


def _names(layer: Layer) -> list[str]:
    return [name for name in (layer.name, layer.tensor, layer.module) if name is not None]
