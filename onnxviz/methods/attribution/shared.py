"""What the targets of one picture share: its runs, and the feature maps of a layer."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.graph.expose import expose
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.graph.quantisation import as_floats, scale_of
from onnxviz.methods.attribution.question import Question

Array: TypeAlias = npt.NDArray[Any]


def by_picture(question: Question) -> list[tuple[int, ...]]:
    """For each picture that is asked about, the numbers of its pairs."""
    found: dict[int, list[int]] = {}
    for number, (picture, _) in enumerate(question.pairs):
        found.setdefault(picture, []).append(number)
    return [tuple(numbers) for numbers in found.values()]


def scores_of(question: Question, numbers: Sequence[int], rows: Array) -> npt.NDArray[np.float64]:
    """What the targets of these pairs say of each row of scores [K, elements]: [pairs, K]."""
    targets = [question.pairs[number][1] for number in numbers]
    return np.array([[target.score(row) for row in rows] for target in targets], np.float64)


def layer_maps(question: Question, layer: Layer, number: int) -> npt.NDArray[np.float64]:
    """The feature maps [C, h, w] of a layer for the picture of one pair; the model is run up to the layer."""
    model = question.bench.model(("activation", layer.tensor), lambda: expose(question.model, layer.tensor))
    return maps_of(question, layer, question.run(model, [number])[layer.tensor])


def maps_of(question: Question, layer: Layer, activation: Array) -> npt.NDArray[np.float64]:
    """A layer's output [1, ...] as feature maps [C, h, w]: of the floats that its numbers stand for."""
    floats = as_floats(question.model.tensor(layer.tensor), activation)
    return np.asarray(as_maps(floats, layer)[0], np.float64)


def nothing(question: Question, layer: Layer, activation: Array) -> Array:
    """What stands for zero in a layer's output [1, ...], in its shape and type."""
    zero = zero_of(question.model.tensor(layer.tensor), activation.dtype, activation.ndim)
    return np.broadcast_to(zero, activation.shape)


def zero_of(value: ir.Value, kind: npt.DTypeLike, rank: int) -> Array:
    """What stands for zero in a tensor of a type, to be broadcast: where it is quantised, the zero point."""
    scale = scale_of(value) if np.dtype(kind).kind in "iu" else None
    zero = np.zeros(()) if scale is None else scale[1]
    return zero.reshape((-1, *[1] * (rank - 2)) if zero.size > 1 else ()).astype(kind)
