"""A model and the pictures to ask it about, made ready for each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import ImageError, ModelError, SelectorError, ShapeError
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.runtime.batching import run_batched
from onnxviz.runtime.session import Session
from onnxviz.vision.images import PictureInput, Pictures, picture_input, prepare
from onnxviz.vision.preprocess import Preprocess, choose
from onnxviz.vision.read import Images


@dataclass(frozen=True)
class Query:
    """The model, its picture input filled for N pictures, and its other inputs."""

    model: Model
    where: PictureInput
    preprocess: Preprocess
    pictures: Pictures
    others: Mapping[str, npt.NDArray[Any]]
    size: tuple[int, int] | None = None  # asked for, other than the model was exported for

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.pictures.names)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the model's input, pixels."""
        shape = self.pictures.array.shape[1:]
        return (shape[0], shape[1]) if self.where.layout == "NHWC" else (shape[1], shape[2])

    def run(
        self,
        session: Session,
        start: int,
        stop: int,
        extra: Mapping[str, npt.NDArray[Any]] | None = None,
        batch: int | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Run a rewrite of the model on pictures [start, stop); `extra` are its other inputs, per picture."""
        with self._at_size():
            return self._run(session, start, stop, extra or {}, batch)

    def session(self, model: Model, device: str, make: Callable[[Model, str], Session] = Session) -> Session:
        """A session for a rewrite of the model."""
        with self._at_size():
            return make(model, device)

    @contextmanager
    def _at_size(self) -> Iterator[None]:
        """Name the size asked for where the model fails at it."""
        try:
            yield
        except (ModelError, ShapeError) as err:
            if self.size is None:
                raise
            height, width = self.size
            raise ShapeError(
                f"the model cannot be run at size {height}x{width}, as its graph may fix its own: {err}"
            ) from err

    def _run(
        self,
        session: Session,
        start: int,
        stop: int,
        extra: Mapping[str, npt.NDArray[Any]],
        batch: int | None,
    ) -> dict[str, npt.NDArray[Any]]:
        feeds = {self.where.name: self.pictures.array[start:stop], **extra}
        shared = {}
        for name, array in self.others.items():
            if array.ndim and len(array) == len(self) and len(self) > 1:
                feeds[name] = array[start:stop]
            else:
                shared[name] = array
        if stop - start == 1 and self.where.batch in (None, 1):
            return session.run({**feeds, **shared})
        # An input that is the same for all pictures fits a batch of one alone.
        return run_batched(session, feeds, 1 if shared else batch, shared=shared)

    def some(self, rows: Sequence[int], array: npt.NDArray[Any] | None = None) -> "Query":
        """The same query for some of its pictures, in that order, a picture as often as it is named.

        `array` [rows, *input] is what the model is given for them; None: the pictures themselves.
        """
        given = self.pictures
        pictures = Pictures(
            given.array[list(rows)] if array is None else array,
            tuple(given.names[row] for row in rows),
            tuple(given.pixels[row] for row in rows),
            tuple(given.boxes[row] for row in rows),
        )
        others = {
            name: array[list(rows)] if array.ndim and len(array) == len(self) > 1 else array
            for name, array in self.others.items()
        }
        return replace(self, pictures=pictures, others=others)


def ask(
    model: ModelLike,
    images: Images,
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    inputs: Mapping[str, npt.NDArray[Any]] | None = None,
    size: tuple[int, int] | None = None,
    skip: Callable[[int, ImageError], object] | None = None,
) -> Query:
    """Make a model and pictures ready for each other.

    Args:
        model: A model, path or proto.
        images: See `onnxviz.vision.images.prepare`.
        preprocess: A preset's name, a TOML file, a mapping or a `Preprocess`; None: the model's metadata,
            else a guess.
        inputs: The model's other inputs, by name.
        size: Another height and width than the model was exported for, where its graph allows it.
        skip: Called for each picture that cannot be used, which is then passed over; None: it is an error.

    Raises:
        ShapeError: No input of the model is an image.
        ShapeError: Another input has rows for other pictures.
        SelectorError: An input is missing, or is none of the model's.
        PreprocessError, ImageError: See `prepare`.
    """
    model = load(model)
    others = dict(inputs or {})
    names = [value.name for value in model.inputs]
    for name in others:
        if name not in names:
            raise SelectorError(
                f"no input {name!r} in this model; it takes {', '.join(map(str, model.inputs))}"
            )
    where = picture_input([value for value in model.inputs if value.name not in others])
    if size is not None:
        model = _resized(model, where, size)
        where = picture_input(model.inputs, where.name)
    missing = [name for name in names if name != where.name and name not in others]
    if missing:
        raise SelectorError(
            f"the model also needs {', '.join(map(repr, missing))}; give each one (--input NAME=FILE.npy)"
        )
    chosen = choose(preprocess, model.metadata, where)
    if size is not None:
        chosen = Preprocess(**{**_fields(chosen), "size": size})
    query = Query(model, where, chosen, prepare(images, where, chosen, skip), others, size)
    _check_rows(query)
    return query


def _check_rows(query: Query) -> None:
    """Refuse other inputs that share the pictures' batch axis and have rows for other pictures."""
    batch = {value.name: value.shape[0] for value in query.model.inputs if value.shape}
    for name, array in query.others.items():
        shares = isinstance(batch.get(name), str) and batch[name] == batch[query.where.name]
        if shares and array.ndim and len(array) not in (1, len(query)):
            raise ShapeError(
                f"input {name!r} has {len(array)} rows for {len(query)} pictures; "
                "give one row, or one for each"
            )


def _resized(model: Model, where: PictureInput, size: tuple[int, int]) -> Model:
    [given] = [value for value in model.inputs if value.name == where.name]
    if given.shape is None:
        raise ShapeError(f"the rank of input {where.name!r} is unknown, so it has no size to change")
    shape = list(given.shape)
    first = 1 if where.layout == "NHWC" else 2
    shape[first : first + 2] = size
    return model.resized({where.name: shape})


def _fields(preprocess: Preprocess) -> dict[str, Any]:
    return {name: getattr(preprocess, name) for name in preprocess.__dataclass_fields__}


def of_pictures(array: npt.NDArray[Any], n: int, name: str) -> npt.NDArray[Any]:
    """An output as one row per picture, [N, elements].

    Raises:
        ShapeError: Its elements cannot be shared out among the pictures.
    """
    if array.size % n:
        raise ShapeError(
            f"output {name!r} is {list(array.shape)}, which is not one row for each of {n} pictures"
        )
    return np.ascontiguousarray(array).reshape(n, -1)
