"""`Job`: what is audited; the same in every process that takes a part in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.answers import Outputs
from onnxviz.auditing.matching import Pair
from onnxviz.auditing.subject import Subject, subject
from onnxviz.graph.model import load
from onnxviz.methods.top.job import parsed
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Picture

BATCH = 4

CHUNK = 32
"""Pictures that are reduced together."""

STREAMS = 2
"""Chunks that are reduced at the same time on a CPU."""

SAMPLE = 32
"""On so many pictures, evenly spread, layers are looked at closer and compared."""


@dataclass(frozen=True)
class File:
    """A file to run: where it is, or its bytes, and how it is fed."""

    model: Path | bytes
    preprocess: Preprocess | Mapping[str, object] | str | None
    inputs: Mapping[str, npt.NDArray[Any]]
    size: tuple[int, int] | None
    device: str

    def ready(self) -> Subject:
        """The file made ready."""
        return subject(
            load(self.model if isinstance(self.model, Path) else parsed(self.model)),
            self.preprocess,
            self.inputs,
            self.size,
            self.device,
        )


@dataclass(frozen=True)
class Job:
    """What is asked of a set of pictures.

    Attributes:
        audited: The file.
        reference: What it is compared with, or None.
        images: The pictures, unread.
        classes: The class of each picture where it is known, else -1.
        pairs: The layers to compare.
        outputs: The outputs to compare.
        batch: Pictures per run.
    """

    audited: File
    reference: File | None
    images: tuple[Picture, ...]
    classes: tuple[int, ...]
    pairs: tuple[Pair, ...]
    outputs: Outputs
    batch: int

    @cached_property
    def stride(self) -> int:
        """Of how many runs one looks closer."""
        return max(1, -(-len(self.images) // SAMPLE))


def seeded(number: int) -> float:
    """A number between 1 and 2 for a picture, the same everywhere."""
    return 1.0 + float(np.random.default_rng(number).random())
