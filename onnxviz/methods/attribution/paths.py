"""Gradients integrated along paths from baselines to the picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnxviz.errors import SelectorError
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.baselines import baseline
from onnxviz.methods.attribution.method import MAP, Array, Maps, Method, completeness
from onnxviz.methods.attribution.pixels import GRADIENT
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track
from onnxviz.vision.images import prepare


def integrated_gradients(
    question: Question, _layers: Sequence[Layer], *, steps: int = 50, baseline: str = "black"
) -> Maps:
    """(x - x') times the integral of dS/dx from x' to x (Sundararajan et al. 2017, equation 1).

    The integral is a Gauss-Legendre sum. The map sums up to S(x) - S(x') but for the delta that is reported.

    Args:
        question: What is asked.
        steps: Points along the path.
        baseline: x': a colour such as "black" or "#7f7f7f", "mean" or "blur" of the picture, or "zero" in the
            model's own numbers.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    shares = (nodes + 1) / 2
    found, starts = [], []
    for number in track(range(len(question)), f"{steps} steps"):
        [x] = question.inputs([number]).astype(np.float64)
        start = _baseline(question, number, baseline)
        starts.append(start)
        found.append(_weighted(question, number, start, x - start, shares, weights / 2))
    ends = question.values() - question.on(range(len(question)), np.stack(starts)).values()
    return Maps(found, GRADIENT(question.subject, ()).rules, "graph", checks=completeness(found, ends))


def expected_gradients(
    question: Question,
    _layers: Sequence[Layer],
    *,
    samples: int = 50,
    background: str = "black, grey, white",
) -> Maps:
    """The mean of (x - x') dS/dx at x' + u (x - x') over baselines x' and u in [0, 1].

    Erion et al. 2021, equation 3; also known as GradientSHAP without noise. Each baseline has its turn; u is
    uniform in strata.

    Args:
        question: What is asked.
        samples: How many points.
        background: Baselines: colours with commas between them, or a folder of pictures.
    """
    draws = np.random.default_rng(question.seed).random(samples)
    found, expected = [], []
    for number in track(range(len(question)), f"{samples} samples"):
        starts = _background(question, number, background)
        [x] = question.inputs([number]).astype(np.float64)
        total = np.zeros(x.shape)
        for turn, start in enumerate(starts):
            own = draws[turn :: len(starts)]
            shares, weights = (np.arange(len(own)) + own) / len(own), np.full(len(own), 1 / samples)
            total += _weighted(question, number, start, x - start, shares, weights)
        found.append(total)
        expected.append(question.on([number] * len(starts), np.stack(starts)).values().mean())
    checks = completeness(found, question.values() - np.array(expected))
    return Maps(found, GRADIENT(question.subject, ()).rules, "graph", checks=checks)


def _weighted(
    question: Question, number: int, start: Array, way: Array, shares: Array, weights: Array
) -> Array:
    """The way times the weighted sum of the gradients at these shares of it."""
    model, total = GRADIENT(question.subject, ()), np.zeros(way.shape)
    for first, last in batches(len(shares), question.batch or AT_ONCE):
        along = shares[first:last].reshape(-1, *[1] * way.ndim)
        points = question.on([number] * (last - first), start + along * way)
        slopes = points.run(model)[MAP].astype(np.float64)
        total += np.tensordot(weights[first:last], slopes, axes=1)
    return total * way


def _background(question: Question, number: int, spec: str) -> list[Array]:
    """The baselines that a text names: the pictures of a folder, or colours."""
    if Path(spec).exists():
        where = question.query.where
        return list(prepare(spec, where, question.query.preprocess).array.astype(np.float64))
    colors = [color.strip() for color in spec.split(",") if color.strip()]
    if not colors:
        raise SelectorError("the background is empty; give colours with commas between them, or a folder")
    return [_baseline(question, number, color) for color in colors]


def _baseline(question: Question, number: int, spec: str) -> Array:
    return baseline(question, number, spec).astype(np.float64)


PATHS = (
    Method(
        "integrated-gradients",
        integrated_gradients,
        "pixels",
        "(x - x') times the integral of dS/dx from the baseline x' to x",
        "steps (F + B)",
        "Sundararajan et al. 2017, arXiv:1703.01365",
        signed=True,
    ),
    Method(
        "expected-gradients",
        expected_gradients,
        "pixels",
        "the mean of (x - x') dS/dx along the ways from a set of baselines",
        "samples (F + B)",
        "Erion et al. 2021, arXiv:1906.10670",
        signed=True,
    ),
)
