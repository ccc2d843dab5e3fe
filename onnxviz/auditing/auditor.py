"""`Auditor`: both files under observation; pictures in, sums out."""

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import reduce
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.answers import against, classes_of, columns, scores_rows
from onnxviz.auditing.job import Job, seeded
from onnxviz.auditing.subject import Subject
from onnxviz.auditing.sums import Sums, merge
from onnxviz.auditing.watch import Watched, alone, closer, watched
from onnxviz.errors import ShapeError
from onnxviz.graph.expose import expose
from onnxviz.runtime.session import Session
from onnxviz.vision.decode import Decoded, decoded
from onnxviz.vision.read import Picture

Array: TypeAlias = npt.NDArray[Any]

WHYS = ("layers", "layers, closer", "layers alone")
"""What the audited file's layers are run for: all pictures, some, and some with each layer alone."""

_FLOAT32 = float(np.finfo(np.float32).max)
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

    `watch` makes the figures of the audited file's layers for all pictures, `close` more of them for some,
    `own` those of each layer alone, and `exposed` the activations of the reference that the two compare with;
    None where there is nothing to compare. `answering` are the two files as they ship. Several threads may
    summarise at once; `readers` threads decode pictures for each of them.
    """

    job: Job
    audited: Subject
    reference: Subject | None
    answering: tuple[Session, Session | None]
    watch: tuple[Watched, Session]
    close: tuple[Watched, Session] | None
    own: tuple[Watched, Session] | None
    exposed: Session | None
    readers: int | None = None

    def decode(self, numbers: Iterable[int]) -> Generator[Both]:
        """The pictures of these numbers as each file takes them, decoded ahead."""
        return decode(self.job.images, numbers, self.audited, self.reference, self.readers)

    def summarise(self, pictures: Iterable[Both]) -> Sums:
        """What the pictures of one chunk did."""
        failed: dict[int, tuple[str, str]] = {}
        usable = _usable(pictures, failed)
        size = at_once(self.audited, self.reference, self.job.batch)
        parts: list[Sums] = []
        rows: list[tuple[Array, Array]] = []
        while some := list(islice(usable, size)):
            # By the pictures' numbers, so that it does not matter who runs them.
            closer = some[0].audited.number // size % self.job.stride == 0
            parts.append(self._run(some, size, closer, rows))
        if rows:
            parts.append(columns(*(np.concatenate(each) for each in zip(*rows, strict=True))))
        return self._by_tensor(reduce(merge, parts, Sums(failed=failed)))

    def _run(
        self, pictures: Sequence[Both], size: int, closer: bool, scores: list[tuple[Array, Array]]
    ) -> Sums:
        """What some pictures did; a file that takes a fixed number is given the last one again and again.

        The scores of the classes in both files go into `scores`.
        """
        n, numbers = len(pictures), [each.audited.number for each in pictures]
        names = [each.audited.name for each in pictures]
        fixed = size if self._fixed else n
        x = _stacked([each.audited for each in pictures], fixed)
        whys = ["answers", WHYS[0]]
        answers = self.audited.floats(self.audited.run(self.answering[0], x, None))
        answers = {name: rows[:n] for name, rows in answers.items()}
        found = Sums(
            {"sum:pictures": np.array(n), **self._accuracy("accuracy", self.audited, answers, numbers)}
        )
        fed: dict[str, Any] = {}
        if self.reference is not None:
            same = all(each.reference is each.audited for each in pictures)
            others = [each.reference for each in pictures if each.reference is not None]
            y = x if same else _stacked(others, fixed)
            assert self.answering[1] is not None
            theirs = self.reference.floats(self.reference.run(self.answering[1], y, None))
            theirs = {name: rows[:n] for name, rows in theirs.items()}
            found = merge(found, _passes("reference", ["answers"], fixed))
            found = merge(found, against(numbers, names, answers, theirs, self.job.outputs))
            outputs = self.job.outputs
            both = scores_rows(answers, outputs.scores), scores_rows(theirs, outputs.reference_scores)
            if both[0] is not None and both[1] is not None:
                scores.append((both[0], both[1]))
            found = merge(found, Sums(self._accuracy("reference", self.reference, theirs, numbers)))
            if self.exposed is not None and self.close is not None and closer:
                tensors = list(dict.fromkeys(self.close[0].references.values()))
                fed = self.reference.run(self.exposed, y, None, on_device=tensors)
                found = merge(found, _passes("reference", [WHYS[0]], fixed))
        found = merge(found, self._figures("", self.watch, x, n, numbers, fed, WHYS[0]))
        if closer and self.close is not None:
            found = merge(found, Sums({"sum:closer": np.array(n)}))
            found = merge(found, self._figures("", self.close, x, n, numbers, fed, WHYS[1]))
            whys.append(WHYS[1])
        if self.own is not None and closer:
            found = merge(found, self._figures("own-", self.own, x, n, numbers, fed, WHYS[2]))
            whys.append(WHYS[2])
        return merge(found, _passes("audited", whys, fixed))

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
        out = self.audited.run(session, x, None, extra)
        arrays: dict[str, Array] = {}
        for name, (figure, tensors) in what.outputs.items():
            rows = out[name].astype(np.float64)
            rows = rows[:n] if len(rows) == len(x) else rows
            key = f"{why}/{name}:{kind}"
            if figure == "high":
                arrays |= {
                    f"max:{key}high": np.fmax.reduce(rows, axis=0),
                    f"sum:{key}infinite": (rows > self._most(tensors)).sum(axis=0),
                }
            elif figure == "low":
                arrays |= {
                    f"min:{key}low": np.fmin.reduce(rows, axis=0),
                    f"sum:{key}minus-infinite": (rows < -self._most(tensors)).sum(axis=0),
                }
            elif figure == "mean":
                known = np.nan_to_num(rows, posinf=0, neginf=0)
                arrays |= {
                    f"sum:{key}nan": np.isnan(rows).sum(axis=0),
                    f"sum:{key}mean": known.sum(axis=0),
                }
                if len(rows) == n:
                    weights = np.array([seeded(number) for number in numbers])
                    arrays[f"sum:{key}print"] = (known * weights[:, None]).sum(axis=0)
            else:
                arrays[f"sum:{key}{figure}"] = rows.sum(axis=0)
        return Sums(arrays)

    def _most(self, tensors: Sequence[tuple[str, int]]) -> Any:
        """The largest number that each channel's type holds, float32's where it is wider."""
        most = [self._largest(tensor) for tensor, _ in tensors]
        return most[0] if len(set(most)) == 1 else np.repeat(most, [count for _, count in tensors])

    def _largest(self, tensor: str) -> float:
        dtype = self.audited.model.tensor(tensor).dtype
        return _LARGEST.get("" if dtype is None else dtype.numpy().name, _FLOAT32)

    def _by_tensor(self, sums: Sums) -> Sums:
        """Sums with the figures of each tensor apart."""
        arrays: dict[str, Array] = {}
        layouts = {
            f"{why}/{name}": tensors
            for why, watching in zip(WHYS, (self.watch, self.close, self.own), strict=True)
            if watching is not None
            for name, (_, tensors) in watching[0].outputs.items()
        }
        for key, array in sums.arrays.items():
            way, _, rest = key.partition(":")
            found = next((name for name in layouts if rest.startswith(f"{name}:")), None)
            if found is None:
                arrays[key] = array
                continue
            figure, start = rest[len(found) + 1 :], 0
            for tensor, channels in layouts[found]:
                stop = len(array) if channels < 0 else start + channels
                arrays[f"{way}:{figure}:{tensor}"] = array[start:stop]
                start = stop
        return replace(sums, arrays=arrays)

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
    images: Sequence[Picture],
    numbers: Iterable[int],
    audited: Subject,
    reference: Subject | None,
    readers: int | None = None,
) -> Generator[Both]:
    """The pictures of these numbers as each file takes them, decoded ahead; once where they take the same."""
    numbers = list(numbers)
    mine, other = audited.query, None if reference is None else reference.query
    same = other is not None and (mine.where, mine.preprocess) == (
        replace(other.where, name=mine.where.name, batch=mine.where.batch),
        other.preprocess,
    )
    with closing(decoded(images, numbers, mine.where, mine.preprocess, readers)) as first:
        if other is None or same:
            for picture in first:
                yield Both(picture, picture if same else None)
            return
        with closing(decoded(images, numbers, other.where, other.preprocess, readers)) as second:
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


def ready(job: Job, audited: Subject, reference: Subject | None, streams: int = 1) -> Auditor:
    """As `auditor`, with files that are ready already; so many threads will summarise at once."""
    threads = 0 if streams == 1 else max(1, (os.cpu_count() or 1) // streams)
    readers = None if streams == 1 else 1
    watch = watched(audited.model, audited.stages)
    watching = (watch, audited.session(watch.model, threads))
    answering = audited.as_shipped(threads), None if reference is None else reference.as_shipped(threads)

    def made(what: Watched) -> tuple[Watched, Session] | None:
        return (what, audited.session(what.model, threads)) if what.outputs else None

    if reference is None or not job.pairs:
        close = closer(audited.model, audited.stages)
        return Auditor(job, audited, reference, answering, watching, made(close), None, None, readers)
    close = closer(audited.model, audited.stages, job.pairs, reference.model)
    own = alone(audited.model, job.pairs, reference.model)
    tensors = list(dict.fromkeys(pair.theirs.tensor for pair in job.pairs))
    return Auditor(
        job,
        audited,
        reference,
        answering,
        watching,
        made(close),
        made(own),
        reference.session(expose(reference.model, tensors), threads),
        readers,
    )


def _passes(who: str, whys: Sequence[str], count: int) -> Sums:
    """So many pictures run through a file, for each of these reasons."""
    return Sums({f"sum:passes:{who}:{why}": np.array(count) for why in whys})


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
