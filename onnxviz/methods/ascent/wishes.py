"""What is asked for: from layers, channels, targets and expressions to one objective for each picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxviz.errors import SelectorError
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.selectors import select
from onnxviz.methods.ascent.objective import (
    Energy,
    Objective,
    Score,
    channel,
    described,
    leaves,
    neuron,
    settled,
)
from onnxviz.methods.ascent.parse import parse_objective
from onnxviz.methods.ascent.problem import channels_of
from onnxviz.methods.ascent.recipe import Recipe
from onnxviz.methods.channels import numbered_channels

_FEW = 9


@dataclass(frozen=True)
class Wish:
    """One picture to make.

    Attributes:
        name: What to call what it raises.
        objective: That.
        channel: The channel's number; -1 where it is none.
        copy: Which of several pictures of the same objective.
    """

    name: str
    objective: Objective
    channel: int
    copy: int


def wishes(
    model: Model,
    layer: str | int | Sequence[str | int] | None,
    channels: str | int | Sequence[int] | None,
    targets: Sequence[str | int],
    objectives: Sequence[str | Objective],
    recipe: Recipe,
    copies: int,
) -> list[Wish]:
    """The pictures asked for: of expressions, else of targets, else of the channels of layers.

    Raises:
        SelectorError: Nothing is left to raise, or a layer or channel is not there.
    """
    named: list[tuple[str, Objective, int]] = []
    for objective in objectives:
        if isinstance(objective, str):
            named.append((objective, parse_objective(objective), -1))
        else:
            named.append((described(objective), objective, -1))
    named += [(str(target), Score(target), -1) for target in targets]
    if not named:
        named = _of_layers(model, layer, channels, recipe)
    last = max(1, copies - 1)
    return [
        Wish(name, settled(objective, copy / last), number, copy)
        for name, objective, number in named
        for copy in range(copies)
    ]


def layers_named(model: Model, objectives: Sequence[Objective]) -> dict[str | int, Layer]:
    """The layer that each selector in objectives means.

    Raises:
        SelectorError: A selector names none, or several.
    """
    found: dict[str | int, Layer] = {}
    for objective in objectives:
        for leaf in leaves(objective):
            selector = getattr(leaf, "layer", None)
            if selector is None or selector in found:
                continue
            chosen = select(model, selector)
            if len(chosen) > 1:
                names = ", ".join(repr(one.name) for one in chosen[:4])
                raise SelectorError(
                    f"{selector!r} names {len(chosen)} layers ({names} ...); name one of them"
                )
            found[selector] = chosen[0]
    return found


def _of_layers(
    model: Model,
    layer: str | int | Sequence[str | int] | None,
    channels: str | int | Sequence[int] | None,
    recipe: Recipe,
) -> list[tuple[str, Objective, int]]:
    chosen = select(model, "last-conv" if layer is None else layer)
    found: list[tuple[str, Objective, int]] = []
    for one in chosen:
        if recipe.aim == "layer" and channels is None:
            found.append((one.name, Energy(one.name), -1))
            continue
        count = channels_of(one)
        if channels is None:
            numbers = list(range(min(count, _FEW)))
        elif isinstance(channels, str):
            numbers = numbered_channels(channels, count, one.name)
        else:
            numbers = [channels] if isinstance(channels, int) else list(channels)
        aim = neuron if recipe.aim == "neuron" else channel
        found += [(f"{one.name} {number}", aim(one.name, number), number) for number in numbers]
    if not found:
        raise SelectorError("no channel is asked for")
    return found
