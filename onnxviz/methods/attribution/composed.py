"""Methods made of others: Guided Grad-CAM, and gradients without their high frequencies."""

from collections.abc import Sequence

import numpy as np

from onnxviz.errors import SelectorError
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution import cams
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.pixels import GUIDED, GUIDED_BACKPROP, by_graph
from onnxviz.methods.attribution.question import Question
from onnxviz.views.heatmaps import resample


def guided_grad_cam(question: Question, layers: Sequence[Layer]) -> Maps:
    """Guided backpropagation times the positive Grad-CAM at the input's size (Selvaraju et al. 2017, 3.3)."""
    guided = by_graph(GUIDED_BACKPROP)(question, ())
    coarse = cams.grad_cam(question, layers)
    fine = [
        pixels * _over_channels(np.maximum(one, 0), question)
        for pixels, one in zip(guided.raw, coarse.raw, strict=True)
    ]
    return Maps(fine, guided.rules, coarse.route)


def forgrad(
    question: Question, layers: Sequence[Layer], *, base: str = "gradient", cutoff: float = 0.067
) -> Maps:
    """The low frequencies of another method's maps (Muzellec et al. 2024, "Saliency strikes back").

    Args:
        question: What is asked.
        layers: Where, for a base that is taken at a layer.
        base: The method to filter.
        cutoff: The highest frequency kept, in cycles a pixel (0 to 0.5). The paper tunes it for each model;
            the default keeps 15 cycles in 224 pixels.
    """
    from onnxviz.methods.attribution.table import find_method

    if not 0 < cutoff <= 0.5:
        raise SelectorError(f"forgrad: cutoff is {cutoff:g}; give cycles a pixel, above 0 and at most 0.5")
    found = find_method(base)(question, layers, {})
    return Maps([low_pass(one, question, cutoff) for one in found.raw], found.rules, found.route)


def low_pass(raw: Array, question: Question, cutoff: float) -> Array:
    """A map less all that turns faster than `cutoff` cycles a pixel, along its two axes of places."""
    axes = (0, 1) if raw.ndim == 2 else question.places
    rows, columns = (np.fft.fftfreq(raw.shape[axis]) for axis in axes)
    keep = np.hypot(rows[:, None], columns) <= cutoff
    shape = [raw.shape[axis] if axis in axes else 1 for axis in range(raw.ndim)]
    spectrum = np.fft.fft2(raw.astype(np.float64), axes=axes) * keep.reshape(shape)
    return np.asarray(np.fft.ifft2(spectrum, axes=axes).real)


def _over_channels(plane: Array, question: Question) -> Array:
    """A map [h, w] at the input's size, with an axis for the channels."""
    wide = resample(plane, question.query.input_size)
    return wide[..., None] if question.places == (0, 1) else wide[None]


COMPOSED = (
    Method(
        "guided-grad-cam",
        guided_grad_cam,
        "layer",
        "guided backpropagation times Grad-CAM at the input's size",
        "2 (F + B)",
        "Selvaraju et al. 2017, arXiv:1610.02391",
        caveat=GUIDED,
    ),
    Method(
        "forgrad",
        forgrad,
        "base",
        "another method's map without its high frequencies",
        "the base",
        "Muzellec et al. 2024, arXiv:2307.09591",
    ),
)
