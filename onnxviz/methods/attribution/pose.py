"""Pose a question: run the model once, and learn from its answers what each target means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import TargetError
from onnxviz.graph.expose import expose
from onnxviz.graph.quantisation import as_floats
from onnxviz.methods.attribution.question import AT_ONCE, Bench, Question
from onnxviz.methods.query import Query, of_pictures
from onnxviz.methods.scores import Scores, find_scores
from onnxviz.methods.target import TargetLike, output_named, resolve
from onnxviz.runtime.batching import batches
from onnxviz.vision.labels import read_labels

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Posed:
    """A question, and what the model answered for each picture.

    `answers` [P, ...] is the output, `rows` [P, elements] the tensor before its Softmax; `labels` are the
    names of the classes, where they are known.
    """

    question: Question
    answers: Array
    rows: Array
    labels: Sequence[str] | None


def pose(
    query: Query,
    wanted: Sequence[tuple[int, TargetLike]],
    bench: Bench,
    *,
    batch: int | None = None,
    seed: int = 0,
    route: Literal["graph", "numeric", "auto"] = "auto",
    output: str | None = None,
    labels: str | Path | None = None,
) -> Posed:
    """The question for pairs of a picture's number and a target, in any number and order.

    Raises:
        TargetError: A target names no class or element of the output, or targets name several outputs.
        OnnxvizError: Of the kind that fits: the output, the labels, the device.
    """
    scores = find_scores(query.model, output if output is not None else _one_output(wanted))
    classes = read_labels(labels, query.model.metadata)
    values = _forward(query, scores, bench, batch)
    answers = as_floats(query.model.tensor(scores.output), values[scores.output])
    if not scores.batched:
        answers = answers.reshape(len(query), -1, *answers.shape[1:])
    first, *rest = values[scores.tensor].shape
    question = Question(
        query,
        scores,
        (first // len(query), *rest),
        tuple((picture, resolve(one, scores, answers[picture], classes)) for picture, one in wanted),
        bench,
        batch,
        seed,
        route,
    )
    return Posed(question, answers, of_pictures(values[scores.tensor], len(query), scores.tensor), classes)


def narrowed(posed: Posed, numbers: Sequence[int]) -> Posed:
    """The same for some of the pairs."""
    return replace(posed, question=posed.question.some(numbers))


def _one_output(wanted: Sequence[tuple[int, TargetLike]]) -> str | None:
    """The output that targets such as `boxes[0,17,4]` name; None where none does."""
    named = {name for _, target in wanted if (name := output_named(target)) is not None}
    if len(named) > 1:
        raise TargetError(f"targets on several outputs ({', '.join(sorted(named))}); explain one at a time")
    return next(iter(named), None)


def _forward(query: Query, scores: Scores, bench: Bench, batch: int | None) -> dict[str, Array]:
    """The scores of every picture: the output and the tensor behind it."""
    names = list(dict.fromkeys([scores.output, scores.tensor]))
    session = bench.session(bench.model(("answers", *names), lambda: expose(query.model, names)), query)
    first = next(iter(query.model.tensor(scores.tensor).shape or ()), None)
    # Where a fixed batch was flattened into other axes, pictures can only be run one by one.
    flattened = not scores.batched or (isinstance(first, int) and first not in (query.where.batch, 1))
    size = 1 if flattened else batch or AT_ONCE
    pieces = [query.run(session, *piece, batch=batch) for piece in batches(len(query), size)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}
