"""The weights themselves: the kernels of convolutions, as numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.errors import SelectorError
from onnxviz.graph.families import family
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.graph.ops import constant_of
from onnxviz.graph.quantisation import dequantised
from onnxviz.graph.selectors import select


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
