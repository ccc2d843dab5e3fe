"""`Job`: what is asked of a set of pictures; the same in every process that takes a part in it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model, load
from onnxviz.graph.selectors import select_one
from onnxviz.methods.engines import CHUNK, chunks_of
from onnxviz.methods.manifest import describe_model, versions
from onnxviz.methods.query import Query, ask
from onnxviz.vision.archives import Member
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Picture, name_of_picture

BATCH = 16

_BLANK = np.full((64, 64, 3), 128, np.uint8)


@dataclass(frozen=True)
class Job:
    """The question: which of these pictures excite the channels of a layer most, and how do they spread.

    `model` is a path where there is one, else the serialised model, so that another process can read it.
    """

    model: Path | bytes
    images: tuple[Picture, ...]
    layer: str | int
    k: int
    preprocess: Preprocess | Mapping[str, object] | str | None
    inputs: Mapping[str, npt.NDArray[Any]]
    size: tuple[int, int] | None
    device: str
    batch: int

    @cached_property
    def query(self) -> Query:
        """The model made ready, with a blank picture in the pictures' place."""
        model = load(self.model if isinstance(self.model, Path) else parsed(self.model))
        return ask(model, _BLANK, self.preprocess, self.inputs, self.size)

    @cached_property
    def watched(self) -> Layer:
        """The layer."""
        return select_one(self.query.model, self.layer)

    @property
    def chunks(self) -> list[range]:
        """The pictures' numbers, in chunks."""
        return chunks_of(len(self.images), CHUNK)

    @cached_property
    def key(self) -> str:
        """A digest of all that the answer depends on: what was done for another is of no use."""
        digest = hashlib.sha256()
        told = {
            "model": describe_model(self.query.model)["sha256"],
            "versions": versions(),
            "layer": self.watched.tensor,
            "k": self.k,
            "preprocess": self.query.preprocess.to_dict(),
            "size": self.size,
            "device": self.device,
            "batch": self.batch,
            "chunk": CHUNK,
            "inputs": {
                name: [array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
                for name, array in sorted(self.inputs.items())
            },
        }
        digest.update(json.dumps(told, sort_keys=True).encode())
        for number, picture in enumerate(self.images):
            digest.update(f"\0{name_of_picture(picture, number)}\0".encode(errors="surrogateescape"))
            digest.update(_stamp(picture))
        return digest.hexdigest()


def portable(model: Model) -> Path | bytes:
    """A model in a form in which another process can read it."""
    return model.path.absolute() if model.path is not None else model.serialize()


def parsed(data: bytes) -> Any:
    """A serialised model as protobuf."""
    import onnx

    return onnx.load_model_from_string(data)


def _stamp(picture: Picture) -> bytes:
    """What shows that a picture is the one that it was: a file's size and time, an array's numbers."""
    if isinstance(picture, np.ndarray):
        return hashlib.sha256(picture.tobytes()).digest()
    place = picture.archive if isinstance(picture, Member) else picture
    try:
        found = Path(place).stat()  # type: ignore[arg-type]
    except (OSError, TypeError):
        return b""
    return f"{found.st_size} {found.st_mtime_ns}".encode()
