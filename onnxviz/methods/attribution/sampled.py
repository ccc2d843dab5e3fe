"""Methods that average another one over noisy pictures: SmoothGrad and its kin."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.cams import ACTIVATION, SLOPE, slopes_model
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track


@dataclass(frozen=True)
class Moments:
    """The mean and the mean square of a map over samples."""

    mean: Array
    square: Array

    @property
    def variance(self) -> Array:
        """The mean square of what differs from the mean; never below zero by rounding."""
        return np.asarray(np.maximum(self.square - self.mean**2, 0))


def smoothed(statistic: Callable[[Moments], Array]) -> Callable[..., Maps]:
    """The method that takes a statistic of another method's maps over noisy copies of the picture."""

    def maps(
        question: Question,
        layers: Sequence[Layer],
        *,
        base: str = "gradient",
        samples: int = 50,
        level: float = 0.15,
    ) -> Maps:
        """A statistic of `base` over noisy copies of each picture.

        Args:
            question: What is asked.
            layers: Where, for a base that is taken at a layer.
            base: The method to average.
            samples: How many copies (Smilkov et al. 2017: about 50 are enough).
            level: The standard deviation of the noise, as a share of the picture's range of values (Smilkov
                et al. 2017: 0.1 to 0.2).
        """
        from onnxviz.methods.attribution.table import find_method

        method, found, last = find_method(base), [], Maps([])
        for number in track(range(len(question)), f"{samples} samples of {base}"):
            total, squares = np.float64(0), np.float64(0)
            for noisy in _noisy(question, number, samples, level):
                last = method(noisy, layers, {})
                exact = np.stack(last.raw).astype(np.float64)
                total, squares = total + exact.sum(axis=0), squares + (exact**2).sum(axis=0)
            found.append(statistic(Moments(np.asarray(total / samples), np.asarray(squares / samples))))
        return Maps(found, last.rules, last.route)

    return maps


def smooth_grad_cam_plus_plus(
    question: Question, layers: Sequence[Layer], *, samples: int = 25, level: float = 0.15
) -> Maps:
    """Grad-CAM++ whose derivatives are means over noisy pictures (Omeiza et al. 2019, equations 7 and 8).

    w_k = sum_i alpha_ki ReLU(D1_ki) with alpha = D2 / (2 D2 + (sum_i A_ki) D3), where D1, D2 and D3 are the
    means of g, g^2 and g^3, and A is the activation of the picture itself.

    Args:
        question: What is asked.
        layers: The layer.
        samples: How many noisy copies.
        level: The standard deviation of the noise, as a share of the picture's range of values.
    """
    [layer] = layers
    model = slopes_model(question.subject, layer)
    maps: list[Array] = []
    for number in track(range(len(question)), f"{samples} samples"):
        first, second, third = np.float64(0), np.float64(0), np.float64(0)
        for noisy in _noisy(question, number, samples, level):
            g = as_maps(noisy.run(model)[SLOPE], layer).astype(np.float64)
            first, second, third = first + g.sum(0), second + (g**2).sum(0), third + (g**3).sum(0)
        d1, d2, d3 = first / samples, second / samples, third / samples
        a = as_maps(question.run(model, [number])[ACTIVATION], layer)[0].astype(np.float64)
        below = 2 * d2 + a.sum(axis=(1, 2), keepdims=True) * d3
        alpha = np.divide(d2, below, out=np.zeros_like(below), where=below != 0)
        weights = (alpha * np.maximum(d1, 0)).sum(axis=(1, 2))
        maps.append(np.einsum("k,khw->hw", weights, a))
    return Maps(maps, model.rules, "graph")


def _noisy(question: Question, number: int, samples: int, level: float) -> Iterator[Question]:
    """The question for noisy copies of one pair's picture, in pieces; the same noise for every pair."""
    [picture] = question.inputs([number])
    exact = picture.astype(np.float64)
    spread = level * float(exact.max() - exact.min())
    rng = np.random.default_rng(question.seed)
    for start, stop in batches(samples, question.batch or AT_ONCE):
        noise = rng.standard_normal((stop - start, *picture.shape)) * spread
        yield question.on([number] * (stop - start), exact + noise)


def _smoothed(name: str, statistic: Callable[[Moments], Array], definition: str, citation: str) -> Method:
    return Method(name, smoothed(statistic), "base", definition, "samples times the base", citation)


SAMPLED = (
    _smoothed(
        "smoothgrad",
        lambda moments: moments.mean,
        "the mean of a method's maps over noisy pictures",
        "Smilkov et al. 2017, arXiv:1706.03825",
    ),
    _smoothed(
        "squaregrad",
        lambda moments: moments.square,
        "the mean of their squares",
        "Hooker et al. 2019, arXiv:1806.10758",
    ),
    _smoothed(
        "vargrad",
        lambda moments: moments.variance,
        "their variance",
        "Adebayo et al. 2018, arXiv:1810.03292",
    ),
    Method(
        "smooth-grad-cam++",
        smooth_grad_cam_plus_plus,
        "layer",
        "Grad-CAM++ with the means of g, g^2 and g^3 over noisy pictures",
        "samples (F + B)",
        "Omeiza et al. 2019, arXiv:1908.01224",
    ),
)
