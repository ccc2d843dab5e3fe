"""The tail of a model, from a layer on: for methods that change a layer and ask what the scores say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.graph.expose import Cut, cut
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.methods.query import of_pictures
from onnxviz.runtime.batching import run_batched
from onnxviz.runtime.session import Session

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Tail:
    """What follows a layer, for one picture: its activation [1, ...], and what else crosses the cut."""

    layer: Layer
    activation: Array
    crossing: Mapping[str, Array]
    session: Session
    scores: str
    at_once: int  # copies that may be run together
    batched: bool  # whether the scores of copies are joined along their first axis

    def rows(self, copies: Array) -> Array:
        """All scores, [K, elements], with each of `copies` [K, ...] in the activation's place."""
        if not self.batched:
            each = [{self.layer.tensor: copy[None], **self.crossing} for copy in copies]
            found = [self.session.run(feeds, [self.scores])[self.scores] for feeds in each]
            return np.concatenate([of_pictures(one, 1, self.scores) for one in found])
        feeds, shared = {self.layer.tensor: copies}, self.crossing
        if self.at_once > 1:
            feeds |= {name: np.repeat(array, len(copies), axis=0) for name, array in self.crossing.items()}
            shared = {}
        answers = run_batched(self.session, feeds, self.at_once, [self.scores], shared)
        return of_pictures(answers[self.scores], len(copies), self.scores)


def tail_of(question: Question, layer: Layer, number: int) -> Tail:
    """The tail of the question's model behind `layer`, for the picture of one of its pairs.

    The model up to the layer is run once.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
    """
    halves = _cut(question, layer)
    found = question.run(halves.head, [number])
    crossing = {name: found[name] for name in halves.crossing}
    batched = question.shape[:1] == (1,)
    return Tail(
        layer,
        found[layer.tensor],
        crossing,
        question.bench.session(halves.tail, question.query),
        question.scores.tensor,
        (question.batch or 2 * AT_ONCE) if batched and _can_repeat(crossing) else 1,
        batched,
    )


def _cut(question: Question, layer: Layer) -> Cut:
    """The two halves, each kept on the question's bench."""
    found: list[Cut] = []

    def halves() -> Cut:
        if not found:
            found.append(cut(question.model, layer.tensor, question.scores.tensor))
        return found[0]

    key = (layer.tensor, question.scores.tensor)
    head = question.bench.model(("head", *key), lambda: halves().head)
    tail = question.bench.model(("tail", *key), lambda: halves().tail)
    crossing = tuple(value.name for value in tail.inputs if value.name != layer.tensor)
    return Cut(head, tail, layer.tensor, crossing)


def _can_repeat(crossing: Mapping[str, Array]) -> bool:
    """Whether what crosses the cut may be repeated; a computed shape fits the batch it was computed for."""
    holds_data = ("float16", "float32", "float64", "int8", "uint8")
    return all(array.dtype.name in holds_data and array.shape[:1] == (1,) for array in crossing.values())
