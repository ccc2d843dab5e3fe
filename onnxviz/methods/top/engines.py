"""Where the chunks are reduced: in this process, or on the workers of a Ray cluster."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Literal, TypeAlias

from onnxviz.methods.top.summary import Summary
from onnxviz.methods.top.watcher import Watcher
from onnxviz.runtime.progress import track
from onnxviz.vision.decode import decoded

Engine: TypeAlias = Literal["local", "ray"]

ENGINES: tuple[Engine, ...] = ("local", "ray")


def local(watcher: Watcher, chunks: Sequence[range]) -> Iterator[tuple[range, Summary]]:
    """Reduce chunks one after another; threads decode the pictures ahead, across the chunks' borders."""
    job = watcher.job
    stream = track(
        decoded(job.images, chain(*chunks), job.query.where, job.query.preprocess),
        "pictures",
        sum(map(len, chunks)),
    )
    for chunk in chunks:
        yield chunk, watcher.summarise(islice(stream, len(chunk)))


def reduce_one(watcher: Watcher, chunk: range) -> Summary:
    """Reduce one chunk."""
    [(_, summary)] = local(watcher, [chunk])
    return summary
