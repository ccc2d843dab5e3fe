"""The control: a map that knows nothing of the target."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.errors import ShapeError
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.attribution.cams import activation_graph
from onnxviz.methods.attribution.fragments import weighted
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import Question, Subject
from onnxviz.methods.attribution.shared import by_picture, layer_maps


def random_cam(question: Question, layers: Sequence[Layer]) -> Maps:
    """sum_k w_k A_k with each w_k drawn from U(-1, 1): what any other map must beat (pytorch-grad-cam).

    The weights are the question's seed's, the same for each picture and target.
    """
    [layer] = layers
    found: dict[int, Array] = {}
    for numbers in by_picture(question):
        maps = layer_maps(question, layer, numbers[0])
        weights = _drawn(question.seed, len(maps))
        found |= dict.fromkeys(numbers, np.tensordot(weights, maps, axes=1))
    return Maps([found[number] for number in range(len(question))])


def random_graph(subject: Subject, layers: Sequence[Layer], *, seed: int = 0) -> Model:
    """The control as one graph, which holds its weights.

    Raises:
        ShapeError: The number of the layer's channels is not known.
    """
    [layer] = layers
    if layer.channels is None:
        raise ShapeError(
            f"random: the number of channels of layer {layer.name!r} is not known; choose another"
        )
    weights = _drawn(seed, layer.channels)[None]

    def fragment(op: Ops, a: ir.Value) -> ir.Value:
        return weighted(op, op.Cast(op.constant(weights), to=a.dtype), a)

    return activation_graph(fragment)(subject, layers)


def _drawn(seed: int, channels: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-1, 1, channels)


CONTROLS = (
    Method(
        "random",
        random_cam,
        "layer",
        "sum_k w_k A_k with w_k from U(-1, 1)",
        "the trunk once",
        "pytorch-grad-cam, RandomCAM",
        caveat="a control that knows no target: a method that looks like it shows the layer, not the answer",
        graph=random_graph,
    ),
)
