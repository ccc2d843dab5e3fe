"""Pose a question: run the model once, and learn from its answers what each target means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import TargetError
from onnxviz.graph.expose import expose
from onnxviz.graph.quantisation import as_floats
from onnxviz.methods.attribution.question import AT_ONCE, Bench, Question
from onnxviz.methods.places import Scene, at_place, parse_place
from onnxviz.methods.query import Query, of_pictures
from onnxviz.methods.scores import Scores, find_scores
from onnxviz.methods.similarity import embedding_named, read_embedding, similar
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
    query, wanted, output = _with_similarity(query, wanted, output)
    scores = find_scores(query.model, output if output is not None else _one_output(wanted))
    classes = read_labels(labels, query.model.metadata)
    places = [parse_place(target) for _, target in wanted]
    others = [value.name for value in query.model.outputs] if any(places) else []
    values = _forward(query, scores, bench, batch, others)
    answers = _per_picture(query, scores.output, values, scores.batched)
    scenes = _scenes(query, scores, {name: _per_picture(query, name, values) for name in others}, classes)
    first, *rest = values[scores.tensor].shape
    targets = [
        resolve(target, scores, answers[picture], classes)
        if place is None
        else at_place(place, scenes[picture])
        for (picture, target), place in zip(wanted, places, strict=True)
    ]
    question = Question(
        query,
        scores,
        (first // len(query), *rest),
        tuple((picture, target) for (picture, _), target in zip(wanted, targets, strict=True)),
        bench,
        batch,
        seed,
        route,
    )
    return Posed(question, answers, of_pictures(values[scores.tensor], len(query), scores.tensor), classes)


def _with_similarity(
    query: Query, wanted: Sequence[tuple[int, TargetLike]], output: str | None
) -> tuple[Query, Sequence[tuple[int, TargetLike]], str | None]:
    """The query of the model that also says how like an embedding it is, where that is the target."""
    files = {embedding_named(target) for _, target in wanted}
    if files == {None}:
        return query, wanted, output
    if len(files) > 1:
        raise TargetError("a similarity is explained alone; give one target 'like FILE.npy'")
    [file] = files
    assert file is not None
    model, name = similar(query.model, read_embedding(file), output)
    return replace(query, model=model), [(picture, f"{name}[0,0]") for picture, _ in wanted], name


def _scenes(
    query: Query, scores: Scores, outputs: Mapping[str, Array], labels: Sequence[str] | None
) -> list[Scene]:
    """Each picture's answers, and where the model's input lies in it; none where they are not needed."""
    if not outputs:
        return []
    given = query.pictures
    return [
        Scene(
            scores,
            {name: array[number] for name, array in outputs.items()},
            given.boxes[number],
            query.input_size,
            (given.pixels[number].shape[0], given.pixels[number].shape[1]),
            labels,
        )
        for number in range(len(query))
    ]


def _per_picture(query: Query, name: str, values: Mapping[str, Array], batched: bool = True) -> Array:
    """An output as floats, one answer for each picture along its first axis."""
    array = as_floats(query.model.tensor(name), values[name])
    return array if batched else array.reshape(len(query), -1, *array.shape[1:])


def _one_output(wanted: Sequence[tuple[int, TargetLike]]) -> str | None:
    """The output that targets such as `boxes[0,17,4]` name; None where none does."""
    named = {name for _, target in wanted if (name := output_named(target)) is not None}
    if len(named) > 1:
        raise TargetError(f"targets on several outputs ({', '.join(sorted(named))}); explain one at a time")
    return next(iter(named), None)


def _forward(
    query: Query, scores: Scores, bench: Bench, batch: int | None, others: Sequence[str]
) -> dict[str, Array]:
    """The scores of every picture: the output and the tensor behind it; and other outputs."""
    names = list(dict.fromkeys([scores.output, scores.tensor, *others]))
    session = bench.session(bench.model(("answers", *names), lambda: expose(query.model, names)), query)
    first = next(iter(query.model.tensor(scores.tensor).shape or ()), None)
    # Where a fixed batch was flattened into other axes, pictures can only be run one by one.
    flattened = not scores.batched or (isinstance(first, int) and first not in (query.where.batch, 1))
    size = 1 if flattened else batch or AT_ONCE
    pieces = [query.run(session, *piece, batch=batch) for piece in batches(len(query), size)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}
