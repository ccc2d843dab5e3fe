"""`Options`: how an audit is made, and what the file is judged by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from onnxviz.auditing.job import BATCH
from onnxviz.methods.engines import Engine
from onnxviz.vision.preprocess import Preprocess

How: TypeAlias = "Preprocess | Mapping[str, object] | str | None"


@dataclass(frozen=True)
class Options:
    """The options of `onnxviz.auditing.audit.audit`, which says what each is."""

    preprocess: How = None
    reference_preprocess: How = None
    labels: str | Path | None = None
    output: str | None = None
    explain: int = 8
    method: str = "grad-cam"
    seed: int = 0
    fail_on: Sequence[str] = ()
    policy: str | Path | None = None
    baseline: str | Path | None = None
    engine: Engine = "local"
    ray_address: str | None = None
    workers: int | None = None
    device: str = "auto"
    batch: int | None = None
    inputs: Mapping[str, npt.NDArray[Any]] | None = field(default=None, repr=False)
    size: tuple[int, int] | None = None
    notify: Callable[[str], object] = lambda _message: None

    @property
    def at_once(self) -> int:
        """Pictures per run."""
        return self.batch or BATCH

    def settings(self) -> dict[str, Any]:
        """Those that the report tells."""
        told = ("method", "explain", "seed", "engine", "output")
        return {
            **{name: getattr(self, name) for name in told},
            "batch": self.at_once,
            "size": None if self.size is None else list(self.size),
        }
