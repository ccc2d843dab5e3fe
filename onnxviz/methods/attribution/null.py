"""The control: a map that knows nothing of the target."""

from collections.abc import Sequence

import numpy as np

from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import Question
from onnxviz.methods.attribution.shared import by_picture, layer_maps


def random_cam(question: Question, layers: Sequence[Layer]) -> Maps:
    """sum_k w_k A_k with each w_k drawn from U(-1, 1): what any other map must beat (pytorch-grad-cam).

    The weights are the question's seed's, the same for each picture and target.
    """
    [layer] = layers
    found: dict[int, Array] = {}
    for numbers in by_picture(question):
        maps = layer_maps(question, layer, numbers[0])
        weights = np.random.default_rng(question.seed).uniform(-1, 1, len(maps))
        found |= dict.fromkeys(numbers, np.tensordot(weights, maps, axes=1))
    return Maps([found[number] for number in range(len(question))])


CONTROLS = (
    Method(
        "random",
        random_cam,
        "layer",
        "sum_k w_k A_k with w_k from U(-1, 1)",
        "the trunk once",
        "pytorch-grad-cam, RandomCAM",
        caveat="a control that knows no target: a method that looks like it shows the layer, not the answer",
    ),
)
