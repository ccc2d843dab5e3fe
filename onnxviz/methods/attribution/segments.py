"""Pictures in pieces, and the coalitions of pieces that LIME and the Shapley methods ask about."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError
from onnxviz.extras import required
from onnxviz.methods.attribution.masking import Array
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.runtime.batching import batches
from onnxviz.vision.images import seen

KINDS = ("slic", "quickshift", "grid")


def segmented(question: Question, picture: int, kind: str, pieces: int) -> npt.NDArray[np.intp]:
    """The piece that each pixel of a picture belongs to, [H, W], from 0 on.

    Args:
        question: What is asked.
        picture: The picture's number.
        kind: "slic" or "quickshift" superpixels (scikit-image), or a "grid" of squares.
        pieces: About how many (quickshift makes as many as it finds).

    Raises:
        SelectorError: There is no such kind, or no piece.
        DependencyError: scikit-image is not installed.
    """
    if kind not in KINDS or pieces < 1:
        raise SelectorError(
            f"no segmentation {kind!r} in {pieces} pieces; choose {', '.join(KINDS)}, 1 or more"
        )
    height, width = question.query.input_size
    if kind == "grid":
        rows = max(1, round((pieces * height / width) ** 0.5))
        columns = max(1, round(pieces / rows))
        down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
        return np.asarray(down[:, None] * columns + across, np.intp)
    given = question.query.pictures
    pixels = seen(given.pixels[picture], given.boxes[picture], (height, width))
    segmentation = required("skimage.segmentation", "superpixels")
    if kind == "slic":
        found = segmentation.slic(pixels, n_segments=pieces, compactness=10, start_label=0)
    else:
        found = segmentation.quickshift(pixels, kernel_size=4, max_dist=200, ratio=0.2, rng=0)
    numbered: npt.NDArray[np.intp] = np.unique(found, return_inverse=True)[1].reshape(height, width)
    return numbered


def masks_of(coalitions: Array, pieces: npt.NDArray[np.intp]) -> Iterator[Array]:
    """Blocks of masks [k, H, W] that keep the pieces of each coalition [K, M]."""
    for start, stop in batches(len(coalitions), AT_ONCE):
        yield coalitions[start:stop].astype(np.float32)[:, pieces]
