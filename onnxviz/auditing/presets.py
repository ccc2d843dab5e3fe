"""The same pictures fed in every plausible way: is the one in use the right one?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.answers import classes_of, divergence
from onnxviz.auditing.findings import Finding, finding
from onnxviz.auditing.subject import Subject
from onnxviz.methods.scores import Scores
from onnxviz.vision.images import PictureInput, prepare
from onnxviz.vision.preprocess import PRESETS, Color, Preprocess
from onnxviz.vision.read import Picture

Array: TypeAlias = npt.NDArray[Any]

TRIED = 16
"""Pictures that are fed in every way."""

_SURE = 8  # pictures without which nothing is said of confidence
# Another way is right that comes so much nearer to the reference than the one in use, which is so far (nats).
_NEARER = ((0.05, 0.25), (1e-4, 0.02))
# How much surer another way must be, in the mean: of three trained networks, fed in each wrong order of
# colours or means, the right way was surer by these at least, and no wrong way surer than the right one.
_MORE_CONFIDENT, _MORE_LOG_CONFIDENT = 0.03, 0.1
_SWAPPED: Mapping[Color, Color] = {"RGB": "BGR", "BGR": "RGB"}


@dataclass(frozen=True)
class Way:
    """A way to feed pictures; `reordered` reads channels last where they come first, and the reverse.

    `like` says that its numbers have the size of those in use, so that confidences can be compared.
    """

    name: str
    preprocess: Preprocess
    like: bool = False
    reordered: bool = False


@dataclass(frozen=True)
class Tried:
    """What the pictures answered, fed in one way; [N], and NaN where it cannot be told."""

    way: Way
    confidence: Array
    entropy: Array
    right: Array
    same: Array
    kl: Array


def ways(used: Preprocess, where: PictureInput, other: Preprocess | None = None) -> list[Way]:
    """The ways worth trying, the one in use first, then that of the reference; each set of numbers once."""
    found = [Way("in use", used, like=True)]
    if other is not None and (other.color == "L") == (used.color == "L"):
        found.append(Way("as the reference", replace(used, **_numbers(other))))
    if where.channels in (3, None):
        swapped = replace(used, color=_SWAPPED.get(used.color, used.color))
        backwards = replace(used, mean=used.mean[::-1], std=used.std[::-1])
        both = replace(swapped, mean=used.mean[::-1], std=used.std[::-1])
        found += [
            Way(f"in use, {swapped.color}", swapped, like=True),
            Way("in use, mean and std in reverse", backwards, like=True),
            Way(f"in use, {swapped.color}, mean and std in reverse", both, like=True),
        ]
        found.append(Way("in use, channels first and last exchanged", used, reordered=True))
    for name, preset in PRESETS.items():
        shaped = replace(preset, size=used.size, resize=used.resize, filter=used.filter)
        if where.channels == 1:
            grey = [float(np.mean(numbers)) for numbers in (preset.mean, preset.std)]
            found.append(Way(name, replace(shaped, color="L", mean=grey[:1], std=grey[1:])))  # type: ignore[arg-type]
            continue
        other = replace(shaped, color=_SWAPPED[shaped.color], mean=shaped.mean[::-1], std=shaped.std[::-1])
        found += [Way(name, shaped), Way(f"{name}, {other.color}", other)]
    if "int" in where.dtype:
        found = [way for way in found if way.preprocess == used or _whole(way.preprocess)]
    seen: dict[tuple[object, ...], Way] = {}
    for way in found:
        seen.setdefault((_key(way.preprocess), way.reordered), way)
    return list(seen.values())


def _numbers(preprocess: Preprocess) -> dict[str, Any]:
    return {name: getattr(preprocess, name) for name in ("color", "scale", "mean", "std")}


def _whole(preprocess: Preprocess) -> bool:
    """Whether pixels stay whole numbers."""
    return (
        preprocess.scale == 1 and set(preprocess.std) == {1.0} and all(m == int(m) for m in preprocess.mean)
    )


def _key(preprocess: Preprocess) -> tuple[object, ...]:
    channels = 1 if preprocess.color == "L" else 3
    mean, std = (tuple(np.broadcast_to(n, channels).tolist()) for n in (preprocess.mean, preprocess.std))
    return preprocess.color, preprocess.scale, mean, std


def tried(
    subject: Subject,
    scores: Scores,
    pictures: Sequence[Picture],
    classes: Sequence[int],
    reference: Array | None,
    batch: int,
    other: Preprocess | None = None,
) -> list[Tried]:
    """Feed pictures in every way.

    Args:
        subject: The file.
        scores: The output that holds the classes.
        pictures: Such as can be read.
        classes: The class of each, -1 where it is not known.
        reference: The reference's probabilities [N, C] of the pictures fed in its own way; or None.
        batch: Pictures per run.
        other: How the reference is fed.
    """
    query = subject.query
    plain = Preprocess(
        size=query.preprocess.size,
        resize=query.preprocess.resize,
        filter=query.preprocess.filter,
        color="L" if query.preprocess.color == "L" else "RGB",
    )
    # In floats, whatever the file takes: what a way makes of the pixels is rounded once, at the end.
    pixels = prepare(list(pictures), replace(query.where, dtype="float32"), plain).array
    wanted = np.array(classes)
    return [
        _answered(way, _chances(subject, scores, _fed(pixels, way, query.where), batch), wanted, reference)
        for way in ways(query.preprocess, query.where, other)
    ]


def _fed(pixels: Array, way: Way, where: PictureInput) -> Array:
    """Pixels [N, *input] in RGB as a way feeds them."""
    axis = 3 if where.layout == "NHWC" else 1
    ordered = np.flip(pixels, axis) if way.preprocess.color == "BGR" else pixels
    shape = [1] * 4
    shape[axis] = -1
    mean, std = (np.asarray(n, np.float32).reshape(shape) for n in (way.preprocess.mean, way.preprocess.std))
    made = (ordered * np.float32(way.preprocess.scale) - mean) / std
    if way.reordered:
        # The bytes of one layout taken for the other's.
        made = np.moveaxis(made, axis, 4 - axis).reshape(made.shape)
    if "int" in where.dtype:
        ends = np.iinfo(where.dtype)
        made = np.clip(np.rint(made), ends.min, ends.max)
    return np.ascontiguousarray(made.astype(where.dtype))


def _chances(subject: Subject, scores: Scores, x: Array, batch: int) -> Array:
    size = subject.at_once(batch)
    rows = []
    for start in range(0, len(x), size):
        part = x[start : start + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        fixed = subject.query.where.batch is not None
        answers = subject.answers(filled if fixed else part, "preprocessing")
        chances = classes_of(answers, scores)
        assert chances is not None
        rows.append(chances[: len(part)])
    return np.concatenate(rows)


def _answered(way: Way, chances: Array, wanted: Array, reference: Array | None) -> Tried:
    if reference is not None and reference.shape != chances.shape:
        reference = None  # other classes
    shares = np.maximum(chances, 0) + 1e-12
    shares = shares / shares.sum(axis=1, keepdims=True)
    first = chances.argmax(axis=1)
    nothing = np.full(len(chances), np.nan)
    return Tried(
        way,
        confidence=chances.max(axis=1),
        entropy=-(shares * np.log(shares)).sum(axis=1),
        right=np.where(wanted >= 0, (first == wanted).astype(float), np.nan),
        same=nothing if reference is None else (first == reference.argmax(axis=1)).astype(float),
        kl=nothing if reference is None else divergence(reference, chances),
    )


def entries(found: Sequence[Tried]) -> list[dict[str, Any]]:
    """The ways as the report holds them."""
    return [
        {
            "name": each.way.name,
            "preprocess": each.way.preprocess.to_dict(),
            "in_use": number == 0,
            "confidence": float(each.confidence.mean()),
            "entropy": float(each.entropy.mean()),
            "accuracy": _mean(each.right),
            "agreement": _mean(each.same),
            "kl": _mean(each.kl),
        }
        for number, each in enumerate(found)
    ]


def _mean(numbers: Array) -> float | None:
    known = numbers[~np.isnan(numbers)]
    return float(known.mean()) if known.size else None


def preset_findings(found: Sequence[Tried], layer: str | None) -> list[Finding]:
    """Whether another way than the one in use looks right, by the best evidence there is.

    Known classes say most, then a reference; without either only ways whose numbers are as large can be
    compared, by how sure the model is of its answer.
    """
    if len(found) < 2:
        return []
    used, *others = found
    for judge in (_by_labels, _by_reference):
        verdict = judge(used, others)
        if verdict is not None:
            better, why = verdict
            return [] if better is None else [_looks_wrong(used, better, why, layer, error=True)]
    better, why = _by_confidence(used, others)
    return [] if better is None else [_looks_wrong(used, better, why, layer, error=False)]


Verdict: TypeAlias = tuple[Tried | None, str]


def _by_labels(used: Tried, others: Sequence[Tried]) -> Verdict | None:
    labelled = ~np.isnan(used.right)
    if labelled.sum() < _SURE:
        return None
    best = max(others, key=lambda each: each.right[labelled].sum())
    gained = int(((best.right > used.right) & labelled).sum())
    lost = int(((best.right < used.right) & labelled).sum())
    # A sign test: half a standard deviation of chance is not enough, two are.
    if gained - lost < max(3.0, 2 * (gained + lost) ** 0.5):
        return None, ""
    right, before = (int(each.right[labelled].sum()) for each in (best, used))
    return best, f"{right} of {int(labelled.sum())} pictures right, {before} in use"


def _by_reference(used: Tried, others: Sequence[Tried]) -> Verdict | None:
    if np.isnan(used.kl).any():
        return None
    far = float(used.kl.mean())
    best = min(others, key=lambda each: float(each.kl.mean()))
    near = float(best.kl.mean())
    if not any(far > apart and near <= closer * far for apart, closer in _NEARER):
        return None, ""
    return best, f"{near:.3g} nats from the reference's answers, {far:.3g} in use"


def _by_confidence(used: Tried, others: Sequence[Tried]) -> Verdict:
    alike = [each for each in others if each.way.like]
    if not alike or len(used.confidence) < _SURE:
        return None, ""
    best = max(alike, key=lambda each: float(each.confidence.mean()))
    gain = float(best.confidence.mean() - used.confidence.mean())
    log_gain = float(np.log(best.confidence).mean() - np.log(used.confidence).mean())
    less_spread = best.entropy.mean() < used.entropy.mean()
    if gain < _MORE_CONFIDENT or log_gain < _MORE_LOG_CONFIDENT or not less_spread:
        return None, ""
    return best, f"mean confidence {best.confidence.mean():.2f}, {used.confidence.mean():.2f} in use"


def _looks_wrong(used: Tried, better: Tried, why: str, layer: str | None, error: bool) -> Finding:
    detail = f"the preprocessing in use looks wrong; with {better.way.name!r}: {why}"
    value = float(used.confidence.mean() - better.confidence.mean())
    return finding("preprocessing", layer, None, value, detail, "error" if error else "warning")
