"""Sanity checks: a map of a model whose weights are shuffled, or of another class, must differ."""

from collections.abc import Callable, Iterator

import numpy as np

from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.shuffle import shuffled
from onnxviz.quality.common import Array
from onnxviz.quality.similarity import ssim


def cascade(model: Model, seed: int = 0) -> Iterator[tuple[Layer, Model]]:
    """The model with the weights of more and more layers shuffled, from the last to the first.

    Adebayo et al. 2018, "Sanity checks for saliency maps", cascading randomisation. A weight's own numbers
    are put in random order: their size stays, and what they learned goes, for floats and for integers alike.

    Yields:
        The layer shuffled last, and the model.
    """
    done: list[Layer] = []
    for layer in reversed(model.layers):
        if layer.params:
            done.append(layer)
            yield layer, shuffled(model, done, seed)


def random_logit(
    explain: Callable[[int], Array], target: int, classes: int, samples: int = 5, seed: int = 0
) -> float:
    """The mean likeness (SSIM) of a class's map to those of others; lower is better (Sixt et al. 2020).

    Args:
        explain: From a class to its map [H, W].
        target: The class.
        classes: How many there are.
        samples: How many others, drawn at random.
        seed: Of the draw.
    """
    others = np.random.default_rng(seed).permutation(np.delete(np.arange(classes), target))[:samples]
    own = explain(target)
    return float(np.mean([ssim(own, explain(int(other))) for other in others]))
