"""What an attribution method is: a function from a question to maps, and what to know of it."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError, did_you_mean
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.methods.attribution.question import Question, Subject

Array: TypeAlias = npt.NDArray[Any]
Over: TypeAlias = Literal["layer", "layers", "pixels", "base"]

Graph: TypeAlias = Callable[[Subject, Sequence[Layer]], Model]

MAP = "onnxviz.map"
"""The output of a method's graph: [N, *places] at a layer, or shaped like the input."""

Route: TypeAlias = Literal["graph", "numeric", "none"]


@dataclass(frozen=True)
class Maps:
    """What a method answers: for each pair of the question a raw, signed map.

    `raw` are [h, w] each, or shaped like the model's input. `rules` is the rule set of the gradient, `route`
    how it was taken ("none": the method takes no gradient). `notes` are for people. `checks` holds for each
    pair what the method promises of its map and how far it is from it. `layers` are those that it chose
    itself.
    """

    raw: Sequence[Array]
    rules: str | None = None
    route: Route = "none"
    notes: tuple[str, ...] = ()
    checks: Sequence[Mapping[str, float]] = ()
    layers: tuple[Layer, ...] = ()

    def check(self, number: int) -> Mapping[str, float]:
        """The checks of one pair; none where the method promises nothing."""
        return self.checks[number] if self.checks else {}


def completeness(parts: Sequence[Array], promised: Iterable[float]) -> list[dict[str, float]]:
    """For maps that should add up to a difference of scores: their sums, that, and how far they are apart."""
    pairs = [
        (float(one.sum(dtype=np.float64)), float(whole)) for one, whole in zip(parts, promised, strict=True)
    ]
    return [{"sum": total, "difference": whole, "delta": abs(total - whole)} for total, whole in pairs]


@dataclass(frozen=True)
class Method:
    """An attribution method.

    `maps` is called with the question and the layers to take the maps at, and with settings: its own
    keyword-only parameters. `over` says at what: one "layer", several "layers", the "pixels" of the input, or
    where the method named by its setting `base` is taken.
    `signed` says that the map shares the score out, so that its channels are summed and what is positive
    speaks for the target; else its magnitude counts. `relative` says that only the map's differences count,
    so that its lowest value is shown as nothing. `graph` builds the whole method as one model, where it can
    be
    one: from the cotangent of the scores to the raw map, the output `MAP`. `caveat` is what a user must know
    beside the picture.
    """

    name: str
    maps: Callable[..., Maps]
    over: Over
    definition: str
    cost: str
    citation: str
    caveat: str | None = None
    signed: bool = False
    relative: bool = False
    graph: Graph | None = None
    numeric: bool = False  # whether finite differences can stand in for a gradient graph

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings there are, with their defaults."""
        parameters = inspect.signature(self.maps).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def __call__(self, question: Question, layers: Sequence[Layer], settings: Mapping[str, Any]) -> Maps:
        """The maps, with these settings and the defaults of the others."""
        return self.maps(question, layers, **settings)

    def read(self, settings: Mapping[str, object]) -> dict[str, Any]:
        """Settings as the method takes them; texts, as a command line gives them, are converted.

        Raises:
            SelectorError: There is no such setting, or a value is not of its type.
        """
        known = self.settings
        for name in settings:
            if name not in known:
                near, listed = did_you_mean(name, known), ", ".join(known) or "none"
                raise SelectorError(f"{self.name} has no setting {name!r}{near}; there are: {listed}")
        return {name: _converted(self.name, name, value, known[name]) for name, value in settings.items()}


def _converted(method: str, name: str, value: object, default: object) -> object:
    """A value of the default's type."""
    kind = type(default)
    wrong = SelectorError(f"{method}: cannot read {name}={value!r}; it takes {_described(default)}")
    if isinstance(value, str) and kind is bool:
        if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise wrong
        return value.lower() in ("true", "yes", "1")
    if kind is bool or isinstance(value, bool):
        if kind is not bool or not isinstance(value, bool | np.bool_):
            raise wrong
        return bool(value)
    if kind in (int, float):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise wrong from None
        # Every whole number is a count: of samples, steps, pieces.
        if not np.isfinite(number) or (kind is int and (number != int(number) or number < 1)):
            raise wrong
        return kind(number)
    if kind is str and not isinstance(value, str):
        raise wrong
    return value


def _described(default: object) -> str:
    kinds = {bool: "yes or no", int: "a whole number from 1 on", float: "a number", str: "a word"}
    return f"{kinds.get(type(default), 'a value')}, such as {default}"
