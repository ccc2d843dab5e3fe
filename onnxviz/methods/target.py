"""`Target`: what is to be explained - a class, a contrast of two, or one element of an output."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import TargetError
from onnxviz.graph.model import format_shape
from onnxviz.methods.scores import Scores
from onnxviz.vision.labels import class_index, name_of

_ELEMENT = re.compile(r"(?P<output>.*?)\[(?P<index>[0-9 ,]*)\]")
_TOP = re.compile(r"top-?([0-9]{1,9})")
_DIRECTION = re.compile(r"(?:(?P<element>.*?\[[0-9 ,]*\])\s+)?(?P<way>up|down)", re.IGNORECASE)
_MOST = 1000
_CONTRAST = re.compile(r"\s+vs\.?\s+")


@dataclass(frozen=True)
class Target:
    """A weighted sum of elements of the scores of one picture.

    `terms` are (place, weight): the place of an element among the scores of its picture, flattened. `index`
    is the class where the target is one class, `text` what to call it.
    """

    text: str
    terms: tuple[tuple[int, float], ...]
    index: int | None = None

    def score(self, scores: npt.NDArray[Any]) -> float:
        """The target's value: `scores` are those of one picture, flattened."""
        return float(sum(weight * float(scores[place]) for place, weight in self.terms))


TargetLike: TypeAlias = str | int | Target


def expand(text: str | int) -> list[str | int]:
    """One target for each picture: `top3` stands for the first, the second and the third class.

    Raises:
        TargetError: It stands for more than 1000.
    """
    match = _TOP.fullmatch(str(text).strip().lower())
    if match is None or int(match[1]) < 2:
        return [text]
    if int(match[1]) > _MOST:
        raise TargetError(f"target {text!r} is more than {_MOST} classes; ask for fewer")
    return [f"top-{rank}" for rank in range(1, int(match[1]) + 1)]


def output_named(text: TargetLike) -> str | None:
    """The output that a target such as `boxes[0,17,4]` names; None where it names none."""
    turned = _DIRECTION.fullmatch(text.strip()) if isinstance(text, str) else None
    named = text if turned is None else turned["element"]
    match = _ELEMENT.fullmatch(named.strip()) if isinstance(named, str) else None
    return match["output"] or None if match else None


def resolve(
    target: TargetLike, scores: Scores, values: npt.NDArray[Any], labels: Sequence[str] | None
) -> Target:
    """What a target means for one picture.

    Args:
        target: A class index, a label, `top1`, `A vs B`, or an output element.
        scores: The output it is about.
        values: The output for this picture, without its batch axis.
        labels: The classes' names, if known.

    Raises:
        TargetError: There is no such class or element, or the output has no one axis of classes.
    """
    if isinstance(target, Target):
        return target
    text = str(target).strip()
    turned = _DIRECTION.fullmatch(text)
    if turned is not None:
        return _directed(turned, scores, values)
    element = _ELEMENT.fullmatch(text)
    if element is not None:
        return _element(text, element, scores, values)
    sides = _CONTRAST.split(text)
    if len(sides) > 2:
        raise TargetError(f"target {text!r} contrasts more than two classes; write A vs B")
    if len(sides) == 2:
        first, second = (resolve(side, scores, values, labels) for side in sides)
        negative = tuple((place, -weight) for place, weight in second.terms)
        return Target(f"{first.text} vs {second.text}", first.terms + negative)
    index, place = _class(text, scores, values, labels)
    return Target(name_of(index, labels) + _at(scores, values, place), ((place, 1.0),), index)


def top(
    values: npt.NDArray[Any], scores: Scores, labels: Sequence[str] | None, k: int = 5
) -> list[dict[str, Any]]:
    """The k likeliest classes of one picture, as the manifest holds them; none where classes have no axis.

    `values` are the output for this picture; the probability is a softmax of it unless it is one already.
    """
    if scores.class_axis is None or scores.has_places:
        return []
    chances = probabilities(values, scores).reshape(-1)
    order = np.argsort(-chances, kind="stable")[:k]
    return [
        {"index": int(i), "label": name_of(int(i), labels), "probability": float(chances[i])} for i in order
    ]


def probabilities(values: npt.NDArray[Any], scores: Scores) -> npt.NDArray[np.float64]:
    """The output of one picture as probabilities: softmax over the classes unless it is one already.

    A score that is NaN has the probability 0.
    """
    exact = np.nan_to_num(values.astype(np.float64), nan=-np.inf, posinf=np.finfo(np.float64).max)
    if scores.squashed == "LogSoftmax":
        return np.exp(exact)
    if scores.squashed is not None or _sums_to_one(exact):
        return np.maximum(exact, 0)
    if scores.classes is None:
        return exact
    axis = scores.classes
    highest = exact.max(axis=axis, keepdims=True)
    with np.errstate(over="ignore"):  # from one end of the range to the other
        shifted = np.exp(exact - np.where(np.isfinite(highest), highest, 0))
    total = shifted.sum(axis=axis, keepdims=True)  # zero where every score is NaN
    return np.asarray(shifted / np.where(total > 0, total, 1), np.float64)


def probabilities_of(row: npt.NDArray[Any], scores: Scores) -> npt.NDArray[np.float64]:
    """What lies before a Softmax or Sigmoid, [classes], as probabilities; the output where it is one."""
    exact = row.astype(np.float64)
    if scores.squashed == "Sigmoid":
        return np.asarray(1 / (1 + np.exp(-exact)), np.float64)
    if scores.squashed is None and _sums_to_one(exact):
        return exact
    shifted = np.exp(exact - exact.max())
    return np.asarray(shifted / shifted.sum(), np.float64)


def _sums_to_one(exact: npt.NDArray[np.float64]) -> bool:
    return bool(exact.size > 1 and exact.min() >= 0 and abs(exact.sum() - 1) < 1e-2)


def _element(text: str, match: re.Match[str], scores: Scores, values: npt.NDArray[Any]) -> Target:
    if match["output"] not in ("", scores.output):
        raise TargetError(f"target {text!r} is not an element of output {scores.output!r}")
    index = [int(digit) for digit in match["index"].replace(" ", "").split(",") if digit]
    shape = (1, *values.shape) if scores.batched else values.shape
    example = f"{scores.output}[{','.join('0' * len(shape))}]"
    if len(index) != len(shape):
        raise TargetError(
            f"target {text!r} needs {len(shape)} numbers, one for each axis of {scores.output}"
            f"{format_shape(scores.shape)}, such as {example}"
        )
    for axis, (place, size) in enumerate(zip(index, shape, strict=True)):
        if place >= size:
            why = (
                "the first index is the batch, and each picture is its own"
                if axis == 0 and scores.batched
                else f"0 to {size - 1}"
            )
            raise TargetError(f"target {text!r} is out of range on axis {axis}: {why}")
    flat = int(np.ravel_multi_index(index[scores.batched :], values.shape)) if values.ndim else 0
    return Target(f"{scores.output}[{','.join(map(str, index))}]", ((flat, 1.0),))


def _directed(match: re.Match[str], scores: Scores, values: npt.NDArray[Any]) -> Target:
    """An element of the output, or the sum of all of them, raised or lowered."""
    way = match["way"].lower()
    weight = 1.0 if way == "up" else -1.0
    if match["element"] is None:
        return Target(way, tuple((place, weight) for place in range(values.size)))
    element = _ELEMENT.fullmatch(match["element"])
    assert element is not None
    whole = _element(match["element"], element, scores, values)
    return Target(f"{whole.text} {way}", tuple((place, weight) for place, _ in whole.terms))


def _class(
    text: str, scores: Scores, values: npt.NDArray[Any], labels: Sequence[str] | None
) -> tuple[int, int]:
    """The class that a text names, and the place of its score (its best one, where there are several)."""
    axis = scores.classes
    if axis is None or (scores.has_places and scores.squashed is None):
        if values.size == 1 and text in ("0", "top1"):
            return 0, 0
        raise TargetError(
            f"output {scores.output}{format_shape(scores.shape)} has no one axis of classes; name an "
            f"element, such as --target '{scores.output}[{','.join('0' * (values.ndim + scores.batched))}]'"
        )
    table = np.moveaxis(values, axis, -1)
    count = table.shape[-1]
    flat = np.moveaxis(np.arange(values.size).reshape(values.shape), axis, -1).reshape(-1, count)
    rows = np.nan_to_num(table.reshape(-1, count).astype(np.float64), nan=-np.inf)
    rank = _TOP.fullmatch(text.lower())
    if rank is not None:
        if not 1 <= int(rank[1]) <= count:
            raise TargetError(f"target {text!r}: output {scores.output!r} has {count} classes")
        index = int(np.argsort(-rows.max(axis=0), kind="stable")[int(rank[1]) - 1])
    else:
        index = class_index(text, count, scores.output, labels)
    return index, int(flat[int(np.argmax(rows[:, index])), index])


def _at(scores: Scores, values: npt.NDArray[Any], place: int) -> str:
    """Where among an output's places the class was taken, for people."""
    if not scores.has_places:
        return ""
    index = [0] * scores.batched + [int(i) for i in np.unravel_index(place, values.shape)]
    return f" at {scores.output}[{','.join(map(str, index))}]"
