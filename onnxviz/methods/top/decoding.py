"""Pictures made the model's input by several threads, while the model runs on those before."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from onnxviz.errors import ImageError
from onnxviz.vision.images import PictureInput, prepare
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Picture, name_of_picture


@dataclass(frozen=True)
class Decoded:
    """One picture: its number, its name, and what the model takes of it; or None, and the reason."""

    number: int
    name: str
    array: npt.NDArray[Any] | None
    reason: str = ""


def decoded(
    images: Sequence[Picture],
    numbers: Iterable[int],
    where: PictureInput,
    preprocess: Preprocess,
    ahead: int = 48,
) -> Iterator[Decoded]:
    """The pictures of these numbers, in that order, of which at most `ahead` are in memory."""

    def one(number: int) -> Decoded:
        name = name_of_picture(images[number], number)
        try:
            return Decoded(number, name, prepare([images[number]], where, preprocess).array[0])
        except ImageError as err:
            return Decoded(number, name, None, str(err))

    waiting: deque[Future[Decoded]] = deque()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for number in numbers:
            waiting.append(pool.submit(one, number))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
