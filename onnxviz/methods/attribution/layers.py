"""Which layers maps are taken at, where the user names none."""

from collections.abc import Sequence

import onnx_ir as ir

from onnxviz.errors import ShapeError
from onnxviz.graph.attention import token_layer
from onnxviz.graph.flow import ancestors
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.quantisation import scale_of
from onnxviz.graph.selectors import select_one
from onnxviz.methods.scores import Scores, before_scores


def default_layers(model: Model, scores: Scores) -> list[Layer]:
    """The layers that Grad-CAM may be taken at, the last first: floats (quantised or not) with places.

    Each leads to the scores past no other of them; there are several where the scores have several heads.

    Raises:
        ShapeError: There is none.
    """
    found: list[Layer] = []
    covered: set[ir.Value] = set()
    for layer in reversed(_candidates(model, scores)):
        value = model.tensor(layer.tensor)
        if value not in covered:
            found.append(layer)
            covered |= ancestors([value])
    if not found:
        raise ShapeError(
            f"no layer with feature maps leads to output {scores.output!r}; "
            "use a pixel method, such as --method gradient"
        )
    return found


def stages(model: Model, scores: Scores) -> list[Layer]:
    """The last layer of each resolution that leads to the scores, in the model's order."""
    last: dict[tuple[object, ...], Layer] = {}
    for layer in _candidates(model, scores):
        assert layer.shape is not None
        size = layer.tokens[1:] if layer.tokens else tuple(layer.shape[axis] for axis in layer.grid)
        last.pop(size, None)
        last[size] = layer
    return list(last.values())


def chosen_layers(model: Model, selectors: str | int | Sequence[str | int]) -> list[Layer]:
    """The layers that a user names, each with feature maps; of several that a selector matches the last.

    Raises:
        SelectorError: There is no such layer.
        ShapeError: One of them has no feature maps.
    """
    several = [selectors] if isinstance(selectors, str | int) else selectors
    layers = dict.fromkeys(select_one(model, selector) for selector in several)
    for layer in layers:
        if layer.channel is None or not layer.grid:
            raise ShapeError(
                f"layer {layer.name!r} has no feature maps; choose one with places, "
                "or a pixel method such as --method gradient"
            )
    return list(layers)


def _candidates(model: Model, scores: Scores) -> list[Layer]:
    """The layers with places that the scores are computed from, in the model's order.

    Where a class token makes the scores, none behind its last attention: no place moves them from there.
    """
    before = before_scores(model, scores)
    found = []
    for layer in model.layers:
        value = model.tensor(layer.tensor)
        floats = (value.dtype is not None and value.dtype.is_floating_point()) or scale_of(value) is not None
        if layer.is_spatial and floats and value in before:
            found.append(layer)
    last = token_layer(model, found, scores.tensor)
    return found if last is None else found[: found.index(last) + 1]
