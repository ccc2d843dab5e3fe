"""A first look at a file: what each layer computes for a few pictures, and whether it does so twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.answers import classes_of, divergence, top5_overlap
from onnxviz.auditing.matching import Match, Probe, match, signature
from onnxviz.auditing.subject import Subject
from onnxviz.auditing.weights import filters
from onnxviz.graph.expose import expose
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.graph.quantisation import as_floats
from onnxviz.methods.scores import Scores

Array: TypeAlias = npt.NDArray[Any]

PROBED = 4
"""Pictures of the first look."""

_CERTAIN = 0.9


@dataclass(frozen=True)
class Repeat:
    """How far a second run of the same file is from the first: the noise floor.

    `layers` maps the tensor measured to the sums of squares of its difference and of itself; `max_abs`,
    `mean_abs` and `relative_l2` are by output; `top1`, `top5` and `kl` are of its classes, None where it has
    none.
    """

    layers: Mapping[str, tuple[float, float]]
    max_abs: Mapping[str, float]
    mean_abs: Mapping[str, float]
    relative_l2: Mapping[str, float]
    top1: float | None
    top5: float | None
    kl: float | None
    pictures: int


@dataclass(frozen=True)
class Look:
    """What is known of a file after a few pictures.

    Attributes:
        probes: Each stage's signature.
        repeat: The noise floor.
        denormal: int64 [C] by tensor, how many activations of each channel were denormal.
        answers: The file's answers to the pictures, by output.
    """

    probes: tuple[Probe, ...]
    repeat: Repeat
    denormal: Mapping[str, Array]
    answers: Mapping[str, Array]


def look(subject: Subject, pictures: Sequence[Array], scores: Scores | None) -> Look:
    """Run a few pictures [*input] one by one, twice."""
    tensors = [stage.tensor for stage in subject.stages]
    session = subject.session(expose(subject.model, tensors))
    seen: dict[str, list[Array]] = {tensor: [] for tensor in tensors}
    repeated: dict[str, tuple[float, float]] = dict.fromkeys(tensors, (0.0, 0.0))
    denormal: dict[str, Array] = {}
    sizes: dict[str, tuple[int, int]] = {}
    answers = _answers(subject, pictures)
    for picture in pictures:
        x = _filled(subject, picture)
        first, second = (subject.run(session, x, "first look") for _ in range(2))
        for stage in subject.stages:
            maps = _maps(subject, first[stage.tensor], stage.end)
            noise, signal = repeated[stage.tensor]
            again = _maps(subject, second[stage.tensor], stage.end)
            with np.errstate(invalid="ignore", over="ignore"):
                noise += float(np.nan_to_num((again - maps) ** 2).sum(dtype=np.float64))
                signal += float(np.nan_to_num(maps**2).sum(dtype=np.float64))
            repeated[stage.tensor] = noise, signal
            seen[stage.tensor].append(signature([maps]))
            tiny = (maps != 0) & (np.abs(maps) < np.finfo(np.float32).tiny)
            denormal[stage.tensor] = denormal.get(stage.tensor, 0) + tiny.sum(axis=(0, 2, 3))
            sizes[stage.tensor] = (maps.shape[1], maps.shape[2] * maps.shape[3])
    count = max(1, len(subject.model.layers))
    probes = tuple(
        Probe(
            stage,
            stage.end,
            sizes[stage.tensor],
            np.concatenate(seen[stage.tensor]),
            filters(subject.model, stage),
            stage.layer.index / count,
        )
        for stage in subject.stages
    )
    return Look(probes, _repeat(subject, pictures, answers, repeated, scores), denormal, answers)


def matched(audited: Look, reference: Look, subject: Subject, pictures: Sequence[Array]) -> tuple[Match, ...]:
    """The layers of two files that are the same.

    Where what ends a stage of one file is fused away in the other, an inner layer of the reference's chain
    may be what agrees: it is sought where the ends do not.
    """
    found = list(match(audited.probes, reference.probes))
    doubtful = [number for number, each in enumerate(found) if each.correlation < _CERTAIN]
    inner = {
        layer.tensor: (each.reference.stage, layer)
        for each in (found[number] for number in doubtful)
        for layer in each.reference.stage.members[:-1]
    }
    if not inner:
        return tuple(found)
    session = subject.session(expose(subject.model, list(inner)))
    seen: dict[str, list[Array]] = {tensor: [] for tensor in inner}
    for picture in pictures:
        out = subject.run(session, _filled(subject, picture), "first look")
        for tensor, (_, layer) in inner.items():
            seen[tensor].append(_maps(subject, out[tensor], layer))
    for number in doubtful:
        old = found[number]
        for layer in old.reference.stage.members[:-1]:
            maps = seen[layer.tensor]
            sizes = (maps[0].shape[1], maps[0].shape[2] * maps[0].shape[3])
            probe = Probe(
                old.reference.stage, layer, sizes, signature(maps), old.reference.filters, old.reference.order
            )
            for better in match([old.audited], [probe]):
                if better.correlation > max(found[number].correlation, _CERTAIN):
                    found[number] = better
    return tuple(found)


def _maps(subject: Subject, array: Array, layer: Layer) -> Array:
    return as_maps(as_floats(subject.model.tensor(layer.tensor), array), layer).astype(np.float32)


def _filled(subject: Subject, picture: Array) -> Array:
    """A picture as often as the model's fixed batch asks."""
    return np.stack([picture] * (subject.query.where.batch or 1))


def _answers(subject: Subject, pictures: Sequence[Array]) -> dict[str, Array]:
    """The answers to pictures run one by one."""
    rows: dict[str, list[Array]] = {}
    for picture in pictures:
        for name, value in subject.answers(_filled(subject, picture), "first look").items():
            rows.setdefault(name, []).append(value[:1] if value.ndim else value)
    return {
        name: np.stack(found) if not found[0].ndim else np.concatenate(found) for name, found in rows.items()
    }


def _repeat(
    subject: Subject,
    pictures: Sequence[Array],
    answers: Mapping[str, Array],
    layers: Mapping[str, tuple[float, float]],
    scores: Scores | None,
) -> Repeat:
    """The answers once more, several pictures at once where the model takes several."""
    many = subject.query.where.batch is None and not subject.query.others
    again = subject.answers(np.stack(pictures), "first look") if many else _answers(subject, pictures)
    largest, mean, relative = {}, {}, {}
    for name, rows in answers.items():
        exact = rows.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            moved = np.nan_to_num(again[name].astype(np.float64) - exact, posinf=0, neginf=0)
            moved = np.abs(moved)
        size = float(np.linalg.norm(np.nan_to_num(exact, posinf=0, neginf=0)))
        largest[name] = float(moved.max(initial=0.0))
        mean[name] = float(moved.mean()) if moved.size else 0.0
        relative[name] = float(np.linalg.norm(moved)) / size if size else 0.0
    one, other = classes_of(answers, scores), classes_of(again, scores)
    classes: tuple[float | None, float | None, float | None] = (None, None, None)
    if one is not None and other is not None:
        same = (one.argmax(axis=1) == other.argmax(axis=1)).mean()
        classes = (float(same), float(top5_overlap(other, one).mean()), float(divergence(one, other).mean()))
    return Repeat(layers, largest, mean, relative, *classes, len(pictures))
