"""`Question`: pictures and targets put to a model, which every method asks through."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.autodiff.pullback import find_rules, gradient
from onnxviz.autodiff.rules.quantization import unclipped
from onnxviz.autodiff.ruleset import RuleSet
from onnxviz.autodiff.variants import STRAIGHT_THROUGH
from onnxviz.graph.expose import expose
from onnxviz.graph.model import Model
from onnxviz.methods.query import Query, of_pictures
from onnxviz.methods.scores import Scores, quantised_scores
from onnxviz.methods.target import Target, probabilities_of
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track
from onnxviz.runtime.session import Session
from onnxviz.vision.images import picture_input

Array: TypeAlias = npt.NDArray[Any]

AT_ONCE = 16
"""How many pictures are run together where nothing else is said."""


def as_input(exact: npt.NDArray[Any], like: Array) -> Array:
    """Numbers in the type of another array; integers are rounded and kept in range."""
    if like.dtype.kind in "iu":
        kind = np.iinfo(like.dtype)
        exact = np.clip(np.rint(exact), kind.min, kind.max)
    converted: Array = exact.astype(like.dtype)
    return converted


def named(rules: str | RuleSet) -> str:
    """A rule set's name."""
    return rules if isinstance(rules, str) else rules.name


@dataclass(frozen=True)
class Bench:
    """Rewrites of one model and their sessions, each made once however often it is asked for."""

    device: str
    _models: dict[Hashable, Model] = field(default_factory=dict)
    _sessions: dict[int, tuple[Model, Session]] = field(default_factory=dict)

    def model(self, key: Hashable, build: Callable[[], Model]) -> Model:
        """The rewrite kept under `key`, built when first asked for."""
        if key not in self._models:
            self._models[key] = build()
        return self._models[key]

    def session(self, model: Model, query: Query) -> Session:
        """The session of a rewrite of the query's model, made when first asked for."""
        if id(model) not in self._sessions:
            self._sessions[id(model)] = (model, query.session(model, self.device))
        return self._sessions[id(model)][1]


@dataclass(frozen=True)
class Subject:
    """A model under explanation: its scores, the input that takes pictures, and the rewrites made of it.

    `keep` are tensors that every rewrite outputs besides.
    """

    model: Model
    scores: Scores
    input: str
    bench: Bench
    keep: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The axis of rows of the input; that of columns comes behind it."""
        [given] = [value for value in self.model.inputs if value.name == self.input]
        return 1 if picture_input([given]).layout == "NHWC" else 2

    def rewrite(self, key: Hashable, build: Callable[[], Model]) -> Model:
        """The rewrite of that key for these scores, built when first asked for."""
        return self.bench.model((key, self.scores.tensor, self.keep), build)

    def gradient(
        self, at: str | Sequence[str], rules: str | RuleSet = "auto", keep: Sequence[str] = ()
    ) -> Model:
        """The model of the scores' gradient at these tensors.

        What quantises the scores never clips, or a sure answer has no gradient.
        """
        ends = quantised_scores(self.model, self.scores)
        chosen = rules
        if ends:
            chosen = unclipped(STRAIGHT_THROUGH if rules == "auto" else find_rules(rules), ends)
        at = (at,) if isinstance(at, str) else tuple(at)
        kept = (*keep, *self.keep)
        return self.rewrite(
            ("gradient", at, named(rules), kept),
            lambda: gradient(self.model, of=self.scores.tensor, wrt=at, rules=chosen, keep=kept),
        )


@dataclass(frozen=True)
class Question:
    """Pairs of a picture's number and a target, put to a model.

    `shape` is that of the scores for one picture, with the axis that pictures are joined along first. `route`
    says how a gradient may be taken. Arrays named `inputs` are model inputs [K, *input] of the model's own
    layout and type.
    """

    query: Query
    scores: Scores
    shape: tuple[int, ...]
    pairs: tuple[tuple[int, Target], ...]
    bench: Bench
    batch: int | None = None
    seed: int = 0
    route: Literal["graph", "numeric", "auto"] = "auto"

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.pairs)

    @property
    def model(self) -> Model:
        """The model asked."""
        return self.query.model

    @property
    def subject(self) -> Subject:
        """The model, apart from what it is asked."""
        return Subject(self.query.model, self.scores, self.query.where.name, self.bench)

    @property
    def places(self) -> tuple[int, int]:
        """The axes of rows and columns in one model input [*input]."""
        return (0, 1) if self.query.where.layout == "NHWC" else (1, 2)

    def inputs(self, numbers: Sequence[int] | None = None) -> Array:
        """The model input of each pair, [K, *input]."""
        wanted = range(len(self)) if numbers is None else numbers
        return self.query.pictures.array[[self.pairs[number][0] for number in wanted]]

    def some(self, numbers: Sequence[int]) -> "Question":
        """The same question for some of its pairs."""
        return replace(self, pairs=tuple(self.pairs[number] for number in numbers))

    def aimed(self, targets: Sequence[Target]) -> "Question":
        """The same question with another target for each pair."""
        pictures = [picture for picture, _ in self.pairs]
        return replace(self, pairs=tuple(zip(pictures, targets, strict=True)))

    def on(self, numbers: Sequence[int], inputs: Array) -> "Question":
        """A question of other pictures: for each of these pairs the target, of a model input in `inputs`.

        Numbers in [K, *input] of any type become the input's own; integers are rounded and kept in range.
        """
        rows = [self.pairs[number][0] for number in numbers]
        query = self.query.some(rows, as_input(inputs, self.query.pictures.array))
        return replace(
            self, query=query, pairs=tuple((row, self.pairs[number][1]) for row, number in enumerate(numbers))
        )

    def values(self, numbers: Sequence[int] | None = None, inputs: Array | None = None) -> Array:
        """The target's score for each of these pairs, float64 [K]; on its picture, or on `inputs` instead."""
        wanted = list(range(len(self))) if numbers is None else list(numbers)
        rows = self.rows(wanted, inputs)
        return np.array([self.pairs[n][1].score(row) for n, row in zip(wanted, rows, strict=True)])

    def score(self, target: Target, row: Array) -> float:
        """A target's score among all scores of one picture."""
        return target.score(row)

    def chance(self, target: Target, row: Array) -> float:
        """A class's probability, from all scores of one picture; the score of a target that is no class."""
        if target.index is None or len(target.terms) != 1 or self.scores.has_places:
            return target.score(row)
        return float(probabilities_of(row, self.scores)[target.terms[0][0]])

    def rows(self, numbers: Sequence[int], inputs: Array | None = None) -> Array:
        """All scores for each of these pairs, [K, elements]."""
        name = self.scores.tensor
        model = self.bench.model(("scores", name), lambda: expose(self.model, name))
        return of_pictures(self.run(model, numbers, inputs)[name], len(numbers), name)

    def run(
        self,
        model: Model,
        numbers: Sequence[int] | None = None,
        inputs: Array | None = None,
        what: str = "",
        extra: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Run a rewrite of the model for these pairs: on their pictures, or on `inputs` [K, *input] instead.

        A gradient model is fed each pair's own weights of the scores.

        Args:
            model: The rewrite.
            numbers: Which pairs, in any order, any one several times; None: all.
            inputs: One model input for each of them; None: the pair's picture.
            what: What the run does, for the progress bar.
            extra: Other inputs that the rewrite has, [K, ...], a row for each pair.

        Returns:
            Each output by name, the pairs along its first axis.
        """
        wanted = list(range(len(self))) if numbers is None else list(numbers)
        session = self.bench.session(model, self.query)
        size = (self.batch or AT_ONCE) if self.shape[:1] == (1,) else 1
        found: list[dict[str, Array]] = []
        for start, stop in track(list(batches(len(wanted), size)), what or "running the model"):
            part = wanted[start:stop]
            given = None if inputs is None else inputs[start:stop]
            some = self.query.some([self.pairs[number][0] for number in part], given)
            feeds = {name: rows[start:stop] for name, rows in (extra or {}).items()}
            if model.cotangent is not None:
                feeds[model.cotangent] = self._cotangent(model, [self.pairs[number][1] for number in part])
            found.append(some.run(session, 0, len(part), feeds, batch=self.batch))
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}

    def _cotangent(self, model: Model, targets: Sequence[Target]) -> Array:
        """The weights of each picture's target at their places, zero elsewhere; shaped like the scores."""
        [info] = [value for value in model.inputs if value.name == model.cotangent]
        first, *rest = self.shape
        seed = np.zeros((first * len(targets), *rest), info.dtype)
        flat = seed.reshape(len(targets), -1)
        for row, target in enumerate(targets):
            for place, weight in target.terms:
                flat[row, place] += weight
        return seed
