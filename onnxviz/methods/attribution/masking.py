"""What the model says of a picture with parts of it taken away: the ground of all perturbation methods."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.methods.attribution.baselines import baseline, blend
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.runtime.batching import batches

Array: TypeAlias = npt.NDArray[Any]


def by_picture(question: Question) -> Mapping[int, list[int]]:
    """The pairs of each picture, by the picture's number: they share its masks and runs."""
    found: dict[int, list[int]] = {}
    for number, (picture, _) in enumerate(question.pairs):
        found.setdefault(picture, []).append(number)
    return found


def masked_values(
    question: Question, numbers: Sequence[int], masks: Iterable[Array], base: str, chances: bool = False
) -> Iterator[tuple[Array, npt.NDArray[np.float64]]]:
    """The targets' values for a picture under masks.

    Args:
        question: What is asked.
        numbers: Pairs of one picture.
        masks: Blocks of masks [k, H, W]: 1 keeps a pixel, 0 puts the baseline there.
        base: What the baseline is; see `baseline`.
        chances: Whether a class is valued by its probability; else by its score.

    Yields:
        Each block, and float64 [k, T] for the T pairs.
    """
    [given] = question.inputs(numbers[:1])
    start = baseline(question, numbers[0], base)
    for block in masks:
        found = []
        for first, last in batches(len(block), question.batch or AT_ONCE):
            inputs = blend(given, start, _over_channels(block[first:last], question))
            found.append(question.rows([numbers[0]] * len(inputs), inputs))
        rows = np.concatenate(found)
        targets = [question.pairs[number][1] for number in numbers]
        value = question.chance if chances else question.score
        yield block, np.array([[value(target, row) for target in targets] for row in rows])


def all_values(
    question: Question, numbers: Sequence[int], masks: Iterable[Array], base: str, chances: bool = False
) -> npt.NDArray[np.float64]:
    """As `masked_values`, all blocks' values together, [K, T]."""
    return np.concatenate([values for _, values in masked_values(question, numbers, masks, base, chances)])


def _over_channels(masks: Array, question: Question) -> Array:
    """Masks [k, H, W] with an axis for the channels where the input has it."""
    return masks[..., None] if question.places == (0, 1) else masks[:, None]
