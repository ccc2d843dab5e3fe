"""`Watcher`: a layer under observation; pictures in, their summary out."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import ShapeError
from onnxviz.graph.expose import expose
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.quantisation import as_floats
from onnxviz.methods.top.histogram import count, empty_counts
from onnxviz.methods.top.job import Job
from onnxviz.methods.top.summary import Summary, as_units, empty
from onnxviz.runtime.batching import run_batched
from onnxviz.runtime.session import Session
from onnxviz.vision.decode import Decoded, decoded

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Watcher:
    """A layer under observation in one session, which computes nothing behind the layer.

    `sizes` are the channels, rows and columns of the layer's feature maps.
    """

    job: Job
    session: Session
    sizes: tuple[int, int, int]

    def decode(self, numbers: Iterable[int]) -> Generator[Decoded]:
        """The pictures of these numbers, decoded ahead."""
        return decoded(self.job.images, numbers, self.job.query.where, self.job.query.preprocess)

    def summarise(self, pictures: Iterable[Decoded]) -> Summary:
        """The summary of the pictures of one chunk, run in batches of those that can be used."""
        part = _Part(empty(self.sizes[0], self.job.k))
        usable = part.usable(pictures)
        while some := list(islice(usable, self.job.batch)):
            maps = self._maps(np.stack([picture.array for picture in some if picture.array is not None]))
            part.add(maps, some)
        return part.summary()

    def _maps(self, array: npt.NDArray[Any]) -> Maps:
        maps = _observed(self.job, self.session, array)
        if maps.shape[1:] != self.sizes:
            raise ShapeError(
                f"the model leaves its size open, so that layer {self.job.watched.name!r} has no one size; "
                "give one for all pictures (--size HxW)"
            )
        return maps


def watch(job: Job) -> Watcher:
    """Make a layer ready to be observed.

    Raises:
        SelectorError: There is no such layer.
        ShapeError: The layer's first axis is not that of the pictures.
        DeviceError: The device cannot be had, or a run failed.
    """
    session = job.query.session(expose(job.query.model, job.watched.tensor), job.device)
    _, channels, *sizes = _observed(job, session, job.query.pictures.array).shape
    return Watcher(job, session, (channels, sizes[0], sizes[1]))


def _observed(job: Job, session: Session, array: npt.NDArray[Any]) -> Maps:
    """The layer's feature maps [N, C, h, w] for pictures [N, *input]."""
    others, tensor = job.query.others, job.watched.tensor
    # An input that is the same for all pictures fits a batch of one alone.
    at_once = 1 if others else len(array)
    feeds = {job.query.where.name: array}
    answer = run_batched(session, feeds, at_once, [tensor], others)[tensor]
    maps = as_maps(as_floats(job.query.model.tensor(tensor), answer), job.watched)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(maps, np.float32)


@dataclass
class _Part:
    """A chunk while it is reduced: what is known of each of its pictures so far."""

    start: Summary
    maxima: list[Maps] = field(default_factory=list)
    cells: list[npt.NDArray[np.int64]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)
    places: int = 0

    def __post_init__(self) -> None:
        self.counts = empty_counts(len(self.start.sums))
        self.sums, self.least, self.greatest = self.start.sums, self.start.least, self.start.greatest

    def usable(self, pictures: Iterable[Decoded]) -> Iterator[Decoded]:
        """The pictures that can be used; of the others it is noted why not."""
        for picture in pictures:
            if picture.array is None:
                self.failed[picture.number] = (picture.name, picture.reason)
            else:
                yield picture

    def add(self, maps: Maps, pictures: Sequence[Decoded]) -> None:
        """Take in the maps [N, C, h, w] of some pictures."""
        flat = maps.reshape(*maps.shape[:2], -1)
        count(flat, self.counts)
        sums = np.add.reduce(flat, axis=2, dtype=np.float64)
        low = high = flat
        if not np.isfinite(sums).all():  # seldom, and a mask of all places takes its time
            broken = ~np.isfinite(flat)
            low, high = np.where(broken, np.inf, flat), np.where(broken, -np.inf, flat)
            sums = np.where(broken, 0, flat).sum(axis=2, dtype=np.float64)
        cells = high.argmax(axis=2)
        # 0 is added so that a zero has no sign, which comparisons do not see.
        maxima = np.take_along_axis(high, cells[..., None], axis=2)[..., 0] + np.float32(0)
        self.maxima.append(maxima)
        self.cells.append(cells)
        self.names.update((picture.number, picture.name) for picture in pictures)
        self.sums = self.sums + as_units(sums).sum(axis=0)
        self.least = np.minimum(self.least, low.min(axis=(0, 2)) + np.float32(0))
        self.greatest = np.maximum(self.greatest, maxima.max(axis=0))
        self.places += flat.shape[0] * flat.shape[2]

    def summary(self) -> Summary:
        """What the chunk did."""
        if not self.names:
            return replace(self.start, failed=self.failed)
        maxima, cells = np.concatenate(self.maxima).T, np.concatenate(self.cells).T
        k = self.start.values.shape[1]
        numbers = np.broadcast_to(np.array(list(self.names)), maxima.shape)
        order = np.lexsort((numbers, -maxima), axis=1)[:, :k]
        values, found, where = (np.take_along_axis(each, order, axis=1) for each in (maxima, numbers, cells))
        nothing = values == -np.inf  # no activation is finite
        missing = ((0, 0), (0, k - order.shape[1]))
        kept = np.pad(np.where(nothing, -1, found), missing, constant_values=-1)
        return Summary(
            pictures=len(self.names),
            places=self.places,
            values=np.pad(values, missing, constant_values=-np.inf),
            numbers=kept,
            cells=np.pad(np.where(nothing, -1, where), missing, constant_values=-1),
            sums=self.sums,
            least=self.least,
            greatest=self.greatest,
            woke=(maxima > 0).sum(axis=1),
            counts=self.counts,
            names={int(number): self.names[int(number)] for number in np.unique(kept) if number >= 0},
            failed=self.failed,
        )
