"""Where the chunks of a set of pictures are reduced: in this process, or on the workers of a Ray cluster."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Literal, Protocol, TypeAlias, TypeVar

from onnxviz.runtime.progress import track

Engine: TypeAlias = Literal["local", "ray"]

ENGINES: tuple[Engine, ...] = ("local", "ray")

CHUNK = 128
"""Pictures that are reduced together: what is done is counted in chunks of consecutive numbers."""

Item = TypeVar("Item")
Summary = TypeVar("Summary", covariant=True)


class Reducer(Protocol[Item, Summary]):
    """A model made ready: pictures in, a summary of them out."""

    def decode(self, numbers: Iterable[int]) -> Generator[Item]:
        """The pictures of these numbers, in that order, one item each."""

    def summarise(self, pictures: Iterable[Item]) -> Summary:
        """The summary of the pictures of one chunk."""


def chunks_of(count: int, size: int = CHUNK) -> list[range]:
    """The numbers of that many pictures, in chunks."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def local(reducer: Reducer[Item, Summary], chunks: Sequence[range]) -> Iterator[tuple[range, Summary]]:
    """Reduce chunks one after another; threads decode the pictures ahead, across the chunks' borders."""
    stream = track(reducer.decode(chain(*chunks)), "pictures", sum(map(len, chunks)))
    for chunk in chunks:
        yield chunk, reducer.summarise(islice(stream, len(chunk)))


def side_by_side(
    reducer: Reducer[Item, Summary], chunks: Sequence[range], streams: int
) -> Iterator[tuple[range, Summary]]:
    """Reduce chunks by several threads at once, in the chunks' order; the reducer must allow it.

    Where a network is small, two runs on a processor each take less time than two on both, one after the
    other.
    """
    pool = ThreadPoolExecutor(streams)

    def reduced(chunk: range) -> Summary:
        return reducer.summarise(reducer.decode(chunk))

    try:
        left, waiting = iter(chunks), deque[tuple[range, Future[Summary]]]()
        for _ in track(chunks, f"pictures, {max(map(len, chunks))} at a time"):
            ahead = islice(left, 2 * streams - len(waiting))
            waiting.extend((chunk, pool.submit(reduced, chunk)) for chunk in ahead)
            chunk, done = waiting.popleft()
            yield chunk, done.result()
    finally:
        pool.shutdown(cancel_futures=True)
