"""LIME: a linear model of what the model says of the picture with some of its pieces."""

from collections.abc import Sequence

import numpy as np

from onnxviz.errors import SelectorError
from onnxviz.extras import required
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.masking import Array, all_values, by_picture
from onnxviz.methods.attribution.method import Maps, Method
from onnxviz.methods.attribution.question import Question
from onnxviz.methods.attribution.segments import masks_of, segmented
from onnxviz.runtime.progress import track


def lime(
    question: Question,
    _layers: Sequence[Layer],
    *,
    samples: int = 1000,
    segmentation: str = "slic",
    pieces: int = 50,
    width: float = 0.25,
    alpha: float = 1.0,
    baseline: str = "grey",
) -> Maps:
    """The weights of the ridge regression of S on which pieces are there (Ribeiro et al. 2016, equation 1).

    Each piece is there with the probability 1/2. A sample z weighs exp(-D^2 / width^2), with D its cosine
    distance from the whole picture.

    Args:
        question: What is asked.
        samples: How many sets of pieces, the whole picture among them.
        segmentation: "slic" or "quickshift" superpixels, or a "grid".
        pieces: About how many.
        width: Of the kernel.
        alpha: Of the ridge.
        baseline: What stands where a piece is missing.

    Raises:
        SelectorError: A setting is out of range.
        DependencyError: scikit-image or scikit-learn is not installed.
    """
    if samples < 2 or width <= 0 or alpha < 0:
        raise SelectorError(f"lime: samples {samples} must be 2 or more, width {width:g} above 0")
    linear = required("sklearn.linear_model", "superpixels")
    maps: dict[int, Array] = {}
    for picture, numbers in track(by_picture(question).items(), "lime"):
        cut = segmented(question, picture, segmentation, pieces)
        count = int(cut.max()) + 1
        z = (np.random.default_rng(question.seed).random((samples, count)) < 0.5).astype(np.float64)
        z[0] = 1
        values = all_values(question, numbers, masks_of(z, cut), baseline)
        distance = 1 - np.sqrt(z.mean(axis=1))  # the cosine of z and all ones
        ridge = linear.Ridge(alpha=alpha).fit(z, values, sample_weight=np.exp(-(distance**2) / width**2))
        weights = np.reshape(ridge.coef_, (len(numbers), count))
        maps |= {number: row[cut] for number, row in zip(numbers, weights, strict=True)}
    return Maps([maps[number] for number in range(len(question))])


LIME = Method(
    "lime",
    lime,
    "pixels",
    "the weights of a ridge regression of S on which superpixels are there",
    "samples F",
    "Ribeiro et al. 2016, arXiv:1602.04938",
)
