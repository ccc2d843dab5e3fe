"""Shapley values of a picture's pieces: by regression (KernelSHAP), and by sampled permutations."""

from collections.abc import Sequence
from itertools import product
from math import comb

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError
from onnxviz.extras import required
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.masking import Array, all_values, by_picture
from onnxviz.methods.attribution.method import Maps, Method, completeness
from onnxviz.methods.attribution.question import Question
from onnxviz.methods.attribution.segments import masks_of, segmented
from onnxviz.runtime.progress import track


def kernel_shap(
    question: Question,
    _layers: Sequence[Layer],
    *,
    samples: int = 1000,
    segmentation: str = "slic",
    pieces: int = 50,
    baseline: str = "grey",
) -> Maps:
    """The linear model of S on coalitions of pieces that is exact for none and for all (Lundberg & Lee 2017).

    Coalitions of k of M pieces are drawn with the probability of theorem 2's kernel, (M - 1) / (k (M - k)),
    each with its complement; where all 2^M fit into `samples` they are all taken, with the kernel's weights,
    and the Shapley values are exact.

    Args:
        question: What is asked.
        samples: How many coalitions, besides none and all.
        segmentation: "slic" or "quickshift" superpixels, or a "grid".
        pieces: About how many.
        baseline: What stands where a piece is missing.

    Raises:
        SelectorError: There are fewer than two samples.
        DependencyError: scikit-image or scikit-learn is not installed.
    """
    if samples < 2:
        raise SelectorError(f"kernel-shap: samples {samples} must be 2 or more")
    maps: dict[int, Array] = {}
    checks: dict[int, dict[str, float]] = {}
    for picture, numbers in track(by_picture(question).items(), "kernel-shap"):
        cut = segmented(question, picture, segmentation, pieces)
        count = int(cut.max()) + 1
        z, weights = _coalitions(count, samples, question.seed)
        values = all_values(question, numbers, masks_of(_with_ends(z), cut), baseline)
        phi = _regressed(z, weights, values)
        maps |= {number: row[cut] for number, row in zip(numbers, phi, strict=True)}
        checks |= dict(zip(numbers, completeness(list(phi), values[1] - values[0]), strict=True))
    order = range(len(question))
    return Maps([maps[n] for n in order], checks=[checks[n] for n in order])


def shapley_sampling(
    question: Question,
    _layers: Sequence[Layer],
    *,
    permutations: int = 10,
    segmentation: str = "slic",
    pieces: int = 50,
    baseline: str = "grey",
) -> Maps:
    """The mean of what each piece adds to those before it, over random orders (Castro et al. 2009).

    Every order is also taken backwards.

    Args:
        question: What is asked.
        permutations: How many orders, each in both directions.
        segmentation: "slic" or "quickshift" superpixels, or a "grid".
        pieces: About how many.
        baseline: What stands where a piece is missing.

    Raises:
        DependencyError: scikit-image is not installed.
    """
    maps: dict[int, Array] = {}
    checks: dict[int, dict[str, float]] = {}
    for picture, numbers in by_picture(question).items():
        cut = segmented(question, picture, segmentation, pieces)
        count, rng = int(cut.max()) + 1, np.random.default_rng(question.seed)
        phi, ends = np.zeros((len(numbers), count)), np.zeros((2, len(numbers)))
        for _ in track(range(permutations), "shapley-sampling"):
            forward = rng.permutation(count)
            for order in (forward, forward[::-1]):
                place = np.argsort(order)
                z = (place[None] < np.arange(count + 1)[:, None]).astype(np.float64)
                values = all_values(question, numbers, masks_of(z, cut), baseline)
                phi[:, order] += np.diff(values, axis=0).T / (2 * permutations)
                ends = values[[0, -1]]
        maps |= {number: row[cut] for number, row in zip(numbers, phi, strict=True)}
        checks |= dict(zip(numbers, completeness(list(phi), ends[1] - ends[0]), strict=True))
    order_of = range(len(question))
    return Maps([maps[n] for n in order_of], checks=[checks[n] for n in order_of])


def _with_ends(z: Array) -> Array:
    """None and all of the pieces, before the coalitions."""
    return np.concatenate([np.zeros((1, z.shape[1])), np.ones((1, z.shape[1])), z])


def _coalitions(count: int, samples: int, seed: int) -> tuple[Array, npt.NDArray[np.float64]]:
    """Coalitions [K, count] other than none and all, and their weights."""
    if count < 2:
        return np.zeros((0, count)), np.zeros(0)
    if count < 31 and 2**count - 2 <= samples:
        z = np.array(list(product((0.0, 1.0), repeat=count)))[1:-1]
        sizes = z.sum(axis=1).astype(int)
        weights = [(count - 1) / (comb(count, int(k)) * k * (count - k)) for k in sizes]
        return z, np.array(weights)
    rng, sizes = np.random.default_rng(seed), np.arange(1, count)
    chances = (count - 1) / (sizes * (count - sizes))
    half = np.zeros((samples // 2, count))
    for row, size in zip(half, rng.choice(sizes, len(half), p=chances / chances.sum()), strict=True):
        row[rng.permutation(count)[:size]] = 1
    z = np.concatenate([half, 1 - half])
    return z, np.ones(len(z))


def _regressed(z: Array, weights: Array, values: Array) -> npt.NDArray[np.float64]:
    """phi [T, M] that sums to what all adds to none, and fits the coalitions best otherwise.

    Equal shares have that sum, and what differs from them lies in the plane of sum zero, where the fit is a
    plain least-squares problem. Too few coalitions leave the shortest such difference, so that no piece is
    set apart by its number.
    """
    from scipy.linalg import helmert

    none, whole, rest = values[0], values[1], values[2:]
    difference = whole - none
    count = z.shape[1]
    equal = np.repeat(difference[:, None] / count, count, axis=1)
    if count == 1:
        return np.asarray(equal)
    plane = helmert(count)
    fit = required("sklearn.linear_model", "superpixels").LinearRegression(fit_intercept=False)
    fit.fit(z @ plane.T, rest - none - z @ equal.T, sample_weight=weights)
    return np.asarray(equal + np.reshape(fit.coef_, (len(difference), -1)) @ plane)


SHAPLEY = (
    Method(
        "kernel-shap",
        kernel_shap,
        "pixels",
        "Shapley values of superpixels, by a weighted regression that is exact for none and for all",
        "samples F",
        "Lundberg & Lee 2017, arXiv:1705.07874",
    ),
    Method(
        "shapley-sampling",
        shapley_sampling,
        "pixels",
        "the mean of what each superpixel adds to those before it, over random orders",
        "2 permutations (pieces + 1) F",
        "Castro et al. 2009, Computers & OR 36",
    ),
)
