"""The weights themselves: the kernels of convolutions, as numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.errors import PreprocessError, SelectorError, ShapeError
from onnxviz.graph.families import family
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.graph.ops import constant_of
from onnxviz.graph.quantisation import dequantised
from onnxviz.graph.selectors import select
from onnxviz.vision.images import picture_input
from onnxviz.vision.preprocess import choose

_KEEPS_CHANNELS = ("Transpose", "Cast", "Pad", "QuantizeLinear", "DequantizeLinear")


def kernels(
    model: ModelLike, layers: str | int | Sequence[str | int] = "Conv"
) -> dict[str, npt.NDArray[Any]]:
    """The kernels [M, C/group, ...] of convolutions by layer name; quantised ones dequantised.

    Raises:
        SelectorError: A selector names no layer, or none whose kernels are constants.
    """
    model = load(model)
    chosen = select(model, layers)
    found = {layer.name: weights for layer in chosen if (weights := _kernel(model, layer)) is not None}
    if not found:
        names = ", ".join(f"{layer.name!r} ({layer.op})" for layer in chosen[:3])
        raise SelectorError(f"no kernels in {names}: name a convolution, such as --layer Conv")
    return found


def blue_first(model: Model, layers: Sequence[Layer]) -> list[str]:
    """The names of the layers that read a picture whose colours the model's metadata calls BGR."""
    try:
        where = picture_input(model.inputs)
        color = choose(None, model.metadata, where).color
    except (PreprocessError, ShapeError):  # weights can be drawn whatever the pictures should be
        return []
    if color != "BGR":
        return []
    return [layer.name for layer in layers if _reads(model, layer, where.name)]


def _reads(model: Model, layer: Layer, name: str) -> bool:
    """Whether a layer reads an input directly, or past operators that keep its channels."""
    node = model.tensor(layer.tensor).producer()
    while node is not None and node.inputs[0] is not None:
        value = node.inputs[0]
        if value.name == name:
            return True
        node = value.producer()
        if node is None or node.op_type not in _KEEPS_CHANNELS:
            return False
    return False


def _kernel(model: Model, layer: Layer) -> npt.NDArray[Any] | None:
    if family(layer.op) not in ("Conv", "ConvTranspose"):
        return None
    node = model.tensor(layer.tensor).producer()
    assert node is not None
    if node.op_type == "QLinearConv":
        return _dequantised(node.inputs[3:6], axis=0)
    weight = node.inputs[1]
    plain = constant_of(weight)
    if plain is not None:
        return plain.astype(np.float32) if plain.dtype.kind in "iu" else plain
    maker = weight.producer() if weight is not None else None
    if maker is not None and maker.op_type == "DequantizeLinear":
        return _dequantised(maker.inputs, maker.attributes.get_int("axis", 1))
    return None


def _dequantised(parts: Sequence[ir.Value | None], axis: int) -> npt.NDArray[Any] | None:
    weight, scale, zero = (constant_of(part) for part in (*parts, None, None)[:3])
    if weight is None or scale is None:
        return None
    return dequantised(weight, scale, np.zeros_like(scale) if zero is None else zero, axis)
