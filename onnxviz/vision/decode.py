"""Pictures made the model's input by several threads, ahead of whoever runs the model on them."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxviz.errors import ImageError, ShapeError
from onnxviz.vision.images import PictureInput, check_alike, prepare_one
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.quiet import quiet_pillow
from onnxviz.vision.read import Picture, name_of_picture

AHEAD = 64
"""The most pictures that are decoded before they are asked for."""

AHEAD_BYTES = 2**27
"""The most memory that they take, beyond one for each thread."""


@dataclass(frozen=True)
class Decoded:
    """One picture: its number, its name, and what the model takes of it; or None, and the reason."""

    number: int
    name: str
    array: NDArray[Any] | None
    reason: str = ""


@dataclass(frozen=True)
class Batch:
    """Consecutive pictures of a set, those that can be used as one array [n, *input].

    `numbers` and `names` are of the rows of `array`, `failed` are the others, with the reason. The next batch
    begins with picture `stop`. Only where none of the last pictures can be used are there no rows.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    array: NDArray[Any]
    failed: tuple[tuple[int, str, str], ...]
    stop: int


def stream(
    images: Sequence[Picture],
    where: PictureInput,
    preprocess: Preprocess,
    batch: int,
    start: int = 0,
    workers: int | None = None,
) -> Iterator[Batch]:
    """The pictures of a set from number `start` on, in batches of as many as can be used.

    Args:
        images: The set, as `onnxviz.vision.sources.list_set` lists it.
        where: The input that takes them.
        preprocess: How they are made to fit.
        batch: Rows of each array but the last one.
        start: The number of the first picture; those before it are not read.
        workers: Threads; None: as many as there are processors.

    Raises:
        ShapeError: `batch` is less than 1.
        ImageError: Pictures become arrays of different shapes.
        PreprocessError: The size or colour asked for is not what the input takes.
    """
    if batch < 1:
        raise ShapeError(f"a batch holds at least 1 picture, but {batch} were asked for")
    with closing(decoded(images, range(start, len(images)), where, preprocess, workers)) as pictures:
        while some := list(_until_filled(pictures, batch)):
            usable = [(each, each.array) for each in some if each.array is not None]
            arrays = [array for _, array in usable]
            yield Batch(
                tuple(each.number for each, _ in usable),
                tuple(each.name for each, _ in usable),
                np.stack(arrays) if arrays else np.empty(0, where.dtype),
                tuple((each.number, each.name, each.reason) for each in some if each.array is None),
                some[-1].number + 1,
            )


def decoded(
    images: Sequence[Picture],
    numbers: Iterable[int],
    where: PictureInput,
    preprocess: Preprocess,
    workers: int | None = None,
) -> Generator[Decoded]:
    """The pictures of these numbers, in that order, a bounded number of them ahead.

    Closed early, it waits for the pictures that are being decoded and begins no other.

    Raises:
        ImageError: Pictures become arrays of different shapes.
        PreprocessError: The size or colour asked for is not what the input takes.
    """

    def one(number: int) -> Decoded:
        name = name_of_picture(images[number], number)
        try:
            prepared = prepare_one(images[number], name, where, preprocess)
        except ImageError as err:
            return Decoded(number, name, None, str(err))
        # Of the picture as it was nothing is kept: it may be a hundred times as large.
        return Decoded(number, name, np.ascontiguousarray(prepared.array))

    threads = workers or os.cpu_count() or 1
    left, waiting, ahead = iter(numbers), deque[Future[Decoded]](), threads
    first: tuple[str, NDArray[Any]] | None = None
    pool = ThreadPoolExecutor(threads)
    # Held here as well, so that it is this thread that sets the filters and puts them back.
    with quiet_pillow():
        try:
            while True:
                waiting.extend(pool.submit(one, number) for number in islice(left, ahead - len(waiting)))
                if not waiting:
                    return
                done = waiting.popleft().result()
                if done.array is not None:
                    first = first or (done.name, done.array)
                    check_alike([first, (done.name, done.array)], where)
                    ahead = max(threads, min(AHEAD, AHEAD_BYTES // done.array.nbytes))
                yield done
        finally:
            pool.shutdown(cancel_futures=True)


def _until_filled(pictures: Iterator[Decoded], size: int) -> Iterator[Decoded]:
    """The next pictures, up to the one that fills a batch."""
    usable = 0
    while usable < size and (picture := next(pictures, None)) is not None:
        usable += picture.array is not None
        yield picture
