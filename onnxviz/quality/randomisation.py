"""Sanity checks: a map of a model whose weights are shuffled, or of another class, must differ."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.shuffle import shuffled
from onnxviz.quality.common import Array
from onnxviz.quality.similarity import rank_correlation, ssim


@dataclass(frozen=True)
class Likeness:
    """How alike a map is to the one after the weights of `layer`, and of all behind it, are shuffled."""

    layer: Layer
    rank_correlation: float
    ssim: float


def parameter_randomisation(
    model: Model, explain: Callable[[Model], Array], seed: int = 0
) -> tuple[Likeness, ...]:
    """How alike a map stays as more and more weights are shuffled (Adebayo et al. 2018).

    A map that stays alike does not depend on what the model learned. Maps of magnitudes leave the sign out.

    Args:
        model: The model.
        explain: From a model to its map [H, W] of one picture and one target.
        seed: Of the shuffling.

    Returns:
        Spearman's correlation and SSIM for each layer with weights, from the last to the first.
    """
    own = explain(model)

    def like(layer: Layer, changed: Model) -> Likeness:
        other = explain(changed)
        return Likeness(layer, rank_correlation(own, other), ssim(own, other))

    return tuple(like(layer, changed) for layer, changed in cascade(model, seed))


def cascade(model: Model, seed: int = 0) -> Iterator[tuple[Layer, Model]]:
    """The model with the weights of more and more layers shuffled, from the last to the first.

    Cascading randomisation (Adebayo et al. 2018). The paper draws weights anew; here a weight's own numbers
    are put in random order: their size stays, and what they learned goes, for floats and for integers alike.
    A weight all of whose numbers are the same stays as it is, as do the weights inside If, Loop and Scan.

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

    NaN where there is no other class.

    Args:
        explain: From a class to its map [H, W].
        target: The class.
        classes: How many there are.
        samples: How many others, drawn at random; the paper draws one.
        seed: Of the draw.
    """
    others = np.random.default_rng(seed).permutation(np.delete(np.arange(classes), target))[:samples]
    if not len(others):
        return float("nan")
    own = explain(target)
    return float(np.mean([ssim(own, explain(int(other))) for other in others]))
