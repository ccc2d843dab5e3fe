"""`Subject`: a file under audit, made ready for pictures; it counts how often it is run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.stages import Stage, stages
from onnxviz.graph.model import Model
from onnxviz.graph.quantisation import as_floats
from onnxviz.methods.query import Query, ask
from onnxviz.runtime.session import Session, SessionInTurn, ShippedSession
from onnxviz.vision.preprocess import Preprocess

Array: TypeAlias = npt.NDArray[Any]

_BLANK = np.full((64, 64, 3), 128, np.uint8)


@dataclass(frozen=True)
class Subject:
    """A file, its picture input, and a count of the pictures run through it, by purpose."""

    query: Query
    device: str
    passes: Counter[str] = field(default_factory=Counter, compare=False)

    @property
    def model(self) -> Model:
        """The model, as one graph of recent operators."""
        return self.query.model

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """What is measured of it."""
        return stages(self.model)

    @cached_property
    def deployed(self) -> Session:
        """The file as it ships."""
        return self.as_shipped()

    def as_shipped(self, threads: int = 0) -> Session:
        """The file as it ships, its graph not touched; as resized, where another size was asked for."""
        kind = ShippedSession if self.query.size is None else SessionInTurn
        return self.query.session(self.model, self.device, partial(kind, threads=threads))

    def session(self, model: Model, threads: int = 0) -> Session:
        """A session for a rewrite of the model."""
        return self.query.session(model, self.device, partial(SessionInTurn, threads=threads))

    def feeds(self, array: Array) -> dict[str, Array]:
        """What a run takes for pictures [N, *input]."""
        return {self.query.where.name: array, **self.query.others}

    def run(
        self,
        session: Session,
        array: Array,
        why: str | None,
        extra: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> dict[str, Any]:
        """Run a session on pictures [N, *input] of a size that it takes; counted, if it is said what for."""
        if why is not None:
            self.passes[why] += len(array)
        return session.run({**self.feeds(array), **(extra or {})}, **how)

    def at_once(self, batch: int) -> int:
        """How many pictures one run takes: what the model fixes, else `batch`; 1 beside other inputs."""
        fixed = self.query.where.batch
        return fixed if fixed is not None else 1 if self.query.others else batch

    def answers(self, array: Array, why: str) -> dict[str, Array]:
        """What the file as it ships answers to pictures [N, *input], as floats, by output."""
        return self.floats(self.run(self.deployed, array, why))

    def floats(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        """The answers of the file, dequantised where they are quantised."""
        return {name: as_floats(self.model.tensor(name), value) for name, value in answers.items()}


def subject(
    model: Model,
    preprocess: Preprocess | Mapping[str, object] | str | None,
    inputs: Mapping[str, Array],
    size: tuple[int, int] | None,
    device: str,
) -> Subject:
    """Make a file ready, with a blank picture in the pictures' place.

    Raises:
        OnnxvizError: As `ask`.
    """
    return Subject(ask(model, _BLANK, preprocess, inputs, size), device)
