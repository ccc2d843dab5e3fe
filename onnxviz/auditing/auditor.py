"""`Auditor`: both files under observation; pictures in, sums out."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import reduce
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.answers import against, classes_of
from onnxviz.auditing.job import Job, seeded
from onnxviz.auditing.subject import Subject
from onnxviz.auditing.sums import Sums, merge
from onnxviz.auditing.watch import Watched, alone, watched
from onnxviz.errors import ShapeError
from onnxviz.graph.expose import expose
from onnxviz.runtime.session import Session
from onnxviz.vision.decode import Decoded, decoded
from onnxviz.vision.read import Picture

Array: TypeAlias = npt.NDArray[Any]

_LARGEST = {"float16": 65504.0}


@dataclass(frozen=True)
class Both:
    """One picture as each of the two files takes it; of no reference there is None."""

    audited: Decoded
    reference: Decoded | None

    @property
    def reason(self) -> str | None:
        """Why it cannot be used; None where it can."""
        bad = [each for each in (self.audited, self.reference) if each is not None and each.array is None]
        return bad[0].reason if bad else None


@dataclass(frozen=True)
class Auditor:
    """The sessions that one process needs to reduce pictures.

    `watch` makes the figures of the audited file's layers, `own` those of each layer alone, and `exposed`
    the activations of the reference that both compare with; None where there is nothing to compare.
    """

    job: Job
    audited: Subject
    reference: Subject | None
    watch: tuple[Watched, Session]
    own: tuple[Watched, Session] | None
    exposed: Session | None

    def decode(self, numbers: Iterable[int]) -> Generator[Both]:
        """The pictures of these numbers as each file takes them, decoded ahead."""
        return decode(self.job.images, numbers, self.audited, self.reference)

    def summarise(self, pictures: Iterable[Both]) -> Sums:
        """What the pictures of one chunk did."""
        failed: dict[int, tuple[str, str]] = {}
        usable = _usable(pictures, failed)
        size = at_once(self.audited, self.reference, self.job.batch)
        parts: list[Sums] = []
        while some := list(islice(usable, size)):
            parts.append(self._run(some, size, alone=len(parts) % self.job.stride == 0))
        return reduce(merge, [*parts, self._passes()], Sums(failed=failed))

    def _passes(self) -> Sums:
        """How often the files were run; what is told here is no longer counted there."""
        counts = {
            f"sum:passes:{who}:{why}": np.array(count)
            for who, each in (("audited", self.audited), ("reference", self.reference))
            if each is not None
            for why, count in each.passes.items()
        }
        for each in (self.audited, self.reference):
            if each is not None:
                each.passes.clear()
        return Sums(counts)

    def _run(self, pictures: Sequence[Both], size: int, alone: bool) -> Sums:
        """What some pictures did; a file that takes a fixed number is given the last one again and again."""
        n, numbers = len(pictures), [each.audited.number for each in pictures]
        names = [each.audited.name for each in pictures]
        fixed = size if self._fixed else n
        x = _stacked([each.audited for each in pictures], fixed)
        answers = {name: rows[:n] for name, rows in self.audited.answers(x, "answers").items()}
        found = Sums(
            {"sum:pictures": np.array(n), **self._accuracy("accuracy", self.audited, answers, numbers)}
        )
        fed: dict[str, Any] = {}
        if self.reference is not None:
            y = _stacked([each.reference for each in pictures if each.reference is not None], fixed)
            theirs = {name: rows[:n] for name, rows in self.reference.answers(y, "answers").items()}
            found = merge(found, against(numbers, names, answers, theirs, self.job.outputs))
            found = merge(found, Sums(self._accuracy("reference", self.reference, theirs, numbers)))
            if self.exposed is not None:
                tensors = list(dict.fromkeys(self.watch[0].references.values()))
                fed = self.reference.run(self.exposed, y, "layers", on_device=tensors)
        found = merge(found, self._figures("", self.watch, x, n, numbers, fed, "layers"))
        if self.own is not None and alone:
            found = merge(found, self._figures("own-", self.own, x, n, numbers, fed, "layers alone"))
        return found

    @property
    def _fixed(self) -> bool:
        both = [each for each in (self.audited, self.reference) if each is not None]
        return any(each.query.where.batch is not None for each in both)

    def _figures(
        self,
        kind: str,
        watching: tuple[Watched, Session],
        x: Array,
        n: int,
        numbers: Sequence[int],
        fed: dict[str, Any],
        why: str,
    ) -> Sums:
        """The layers' figures for some pictures, each over the pictures."""
        what, session = watching
        extra = {name: fed[tensor] for name, tensor in what.references.items()}
        out = self.audited.run(session, x, why, extra)
        weights = np.array([seeded(number) for number in numbers])
        arrays: dict[str, Array] = {}
        for (tensor, figure), name in what.outputs.items():
            rows = out[name].astype(np.float64)
            rows = rows[:n] if len(rows) == len(x) else rows
            if figure == "high":
                arrays[f"max:high:{tensor}"] = np.fmax.reduce(rows, axis=0)
                most = _LARGEST.get(self.audited.model.tensor(tensor).dtype.numpy().name, np.inf)  # type: ignore[union-attr]
                beyond = (rows > most) | (rows == np.inf)
                arrays[f"sum:infinite:{tensor}"] = beyond.sum(axis=0)
            elif figure == "low":
                arrays[f"min:low:{tensor}"] = np.fmin.reduce(rows, axis=0)
                arrays[f"sum:minus-infinite:{tensor}"] = (rows == -np.inf).sum(axis=0)
            elif figure == "total":
                arrays[f"sum:nan:{tensor}"] = np.isnan(rows).sum(axis=0)
                arrays[f"sum:total:{tensor}"] = np.where(np.isfinite(rows), rows, 0).sum(axis=0)
                if len(rows) == n:
                    arrays[f"sum:print:{tensor}"] = (
                        np.nan_to_num(rows, posinf=0, neginf=0) * weights[:, None]
                    ).sum(axis=0)
            else:
                arrays[f"sum:{kind}{figure}:{tensor}"] = rows.sum(axis=0)
        return Sums(arrays)

    def _accuracy(
        self, name: str, who: Subject, answers: dict[str, Array], numbers: Sequence[int]
    ) -> dict[str, Array]:
        """How many of the labelled pictures are answered rightly."""
        outputs = self.job.outputs
        scores = outputs.scores if who is self.audited else outputs.reference_scores
        chances = classes_of(answers, scores)
        wanted = np.array([self.job.classes[number] for number in numbers])
        if chances is None or (wanted < 0).all():
            return {}
        right = (chances.argmax(axis=1) == wanted) & (wanted >= 0)
        return {
            f"sum:{name}:right": np.array(right.sum()),
            f"sum:{name}:labelled": np.array((wanted >= 0).sum()),
        }


def decode(
    images: Sequence[Picture], numbers: Iterable[int], audited: Subject, reference: Subject | None
) -> Generator[Both]:
    """The pictures of these numbers as each file takes them, decoded ahead; once where they take the same."""
    numbers = list(numbers)
    mine, other = audited.query, None if reference is None else reference.query
    same = other is not None and (mine.where, mine.preprocess) == (
        replace(other.where, name=mine.where.name, batch=mine.where.batch),
        other.preprocess,
    )
    with closing(decoded(images, numbers, mine.where, mine.preprocess)) as first:
        if other is None or same:
            for picture in first:
                yield Both(picture, picture if same else None)
            return
        with closing(decoded(images, numbers, other.where, other.preprocess)) as second:
            for pair in zip(first, second, strict=True):
                yield Both(*pair)


def auditor(job: Job) -> Auditor:
    """Make both files of a job ready.

    Raises:
        OnnxvizError: A file cannot be loaded or run.
    """
    audited = job.audited.ready()
    reference = None if job.reference is None else job.reference.ready()
    return ready(job, audited, reference)


def ready(job: Job, audited: Subject, reference: Subject | None) -> Auditor:
    """As `auditor`, with files that are ready already."""
    if reference is None or not job.pairs:
        watch = watched(audited.model, audited.stages)
        return Auditor(job, audited, reference, (watch, audited.session(watch.model)), None, None)
    watch = watched(audited.model, audited.stages, job.pairs, reference.model)
    own = alone(audited.model, job.pairs, reference.model)
    tensors = list(dict.fromkeys(pair.theirs.tensor for pair in job.pairs))
    return Auditor(
        job,
        audited,
        reference,
        (watch, audited.session(watch.model)),
        (own, audited.session(own.model)),
        reference.session(expose(reference.model, tensors)),
    )


def at_once(audited: Subject, reference: Subject | None, batch: int) -> int:
    """How many pictures both files take at once.

    Raises:
        ShapeError: They fix different numbers.
    """
    sizes = {each.at_once(batch) for each in (audited, reference) if each is not None}
    fixed = {
        each.query.where.batch
        for each in (audited, reference)
        if each is not None and each.query.where.batch is not None
    }
    if len(fixed) > 1:
        raise ShapeError(
            f"the two files fix different batch sizes, {' and '.join(map(str, sorted(fixed)))}; "
            "export one of them with an open batch axis"
        )
    return fixed.pop() if fixed else min(sizes)


def _usable(pictures: Iterable[Both], failed: dict[int, tuple[str, str]]) -> Iterator[Both]:
    """The pictures that both files can take; of the others it is noted why not."""
    for picture in pictures:
        if picture.reason is None:
            yield picture
        else:
            failed[picture.audited.number] = (picture.audited.name, picture.reason)


def _stacked(pictures: Sequence[Decoded], size: int) -> Array:
    arrays = [each.array for each in pictures if each.array is not None]
    return np.stack([*arrays, *[arrays[-1]] * (size - len(arrays))])
