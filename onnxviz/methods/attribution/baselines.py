"""What stands for "nothing there": a colour of the picture, pushed through the model's preprocessing."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError
from onnxviz.methods.attribution.question import Question, as_input
from onnxviz.vision.images import solid

Array: TypeAlias = npt.NDArray[Any]

BLUR = 0.05
"""Standard deviation of the blurred baseline, in shares of the longer side."""


def baseline(question: Question, number: int, spec: str) -> Array:
    """A model input [*input] that stands for the absence of what a pair's picture shows.

    Args:
        question: The question.
        number: Which of its pairs.
        spec: A colour ("black", "#7f7f7f", any that CSS names), "mean" (the picture's own mean, channel by
            channel), "blur" (the picture, blurred), or "zero" (zeros in the model's own numbers, which is a
            colour only by chance).

    Raises:
        SelectorError: There is no such colour.
    """
    [given] = question.inputs([number])
    exact = given.astype(np.float64)
    if spec == "zero":
        return np.zeros_like(given)
    if spec == "mean":
        return as_input(np.broadcast_to(exact.mean(axis=question.places, keepdims=True), given.shape), given)
    if spec == "blur":
        from scipy.ndimage import gaussian_filter

        size = BLUR * max(given.shape[axis] for axis in question.places)
        sigma = [size if axis in question.places else 0.0 for axis in range(given.ndim)]
        return as_input(gaussian_filter(exact, sigma, mode="nearest"), given)
    try:
        return solid(spec, question.query.where, question.query.preprocess, question.query.input_size)
    except ValueError:
        raise SelectorError(
            f"no baseline {spec!r}; give a colour such as black, grey or #7f7f7f, or mean, blur or zero"
        ) from None


def blend(inputs: Array, base: Array, mask: npt.NDArray[np.floating[Any]]) -> Array:
    """`inputs` where the mask is 1 and `base` where it is 0, in the inputs' own type."""
    mixed = base + mask * (inputs.astype(np.float64) - base)
    return as_input(mixed, inputs)
