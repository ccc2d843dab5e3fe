"""Do both files answer alike: shares, distances, and the pictures that changed their class."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.answers import MOST_CLASSES, Outputs
from onnxviz.auditing.comparison import of_outputs
from onnxviz.auditing.findings import Finding, finding
from onnxviz.auditing.matching import Match
from onnxviz.auditing.probing import Repeat
from onnxviz.auditing.sums import Sums
from onnxviz.vision.labels import name_of

Array: TypeAlias = npt.NDArray[Any]

# Shares of a class's spread over the pictures, and of its distance from the reference's of the same number.
_FAR, _FITS = 0.25, 0.05
_EXACTLY_FAR, _EXACTLY_FITS = 1e-3, 1e-4
_EXPLAINED = 0.8
_SAME_FILTER = 0.98
# How far the answers may be apart, as a share of the reference's norm, before it is a finding.
_APART = {"float": 1e-2, "half": 5e-2, "quantised": 0.5}


def agreement(sums: Sums, outputs: Outputs, repeat: Repeat, labels: Sequence[str] | None) -> dict[str, Any]:
    """The answers of both files as the report holds them."""
    pictures = int(sums.number("sum:pictures"))
    by_output = {
        ours: {
            "reference": theirs,
            **of_outputs(sums, ours),
            "noise_max_abs": repeat.max_abs.get(ours),
        }
        for ours, theirs in outputs.pairs.items()
    }
    main = outputs.scores.output if outputs.scores is not None else next(iter(by_output), None)
    whole = by_output[main] if main is not None else dict.fromkeys(_WHOLE)
    classes = outputs.scores is not None and pictures > 0
    return {
        "pictures": pictures,
        "top1": sums.number("sum:same") / pictures if classes else None,
        "top5": sums.number("sum:top5") / pictures if classes else None,
        "kl": sums.number("sum:kl") / pictures if classes else None,
        "kl_max": sums.number("max:kl") if classes else None,
        **{name: whole[name] for name in _WHOLE},
        "accuracy": _share(sums, "accuracy"),
        "reference_accuracy": _share(sums, "reference"),
        "flips": [
            {
                "picture": each.picture,
                "number": each.number,
                "reference": each.reference,
                "reference_label": name_of(each.reference, labels),
                "audited": each.audited,
                "audited_label": name_of(each.audited, labels),
                "margin": each.margin,
                "probability": each.probability,
            }
            for each in sums.flips
        ],
        "flip_count": int(pictures - sums.number("sum:same")) if classes else 0,
        "worst": [
            {"picture": each.picture, "number": each.number, "kl": each.kl, "max_abs": each.max_abs}
            for each in sums.worst
            if each.max_abs > 0
        ],
        "outputs": by_output,
        "noise": {
            "top1": repeat.top1,
            "top5": repeat.top5,
            "kl": repeat.kl,
            "max_abs": None if main is None else repeat.max_abs[main],
            "mean_abs": None if main is None else repeat.mean_abs[main],
            "relative_l2": None if main is None else repeat.relative_l2[main],
            "pictures": repeat.pictures,
        },
    }


_WHOLE = ("max_abs", "mean_abs", "cosine", "relative_l2")


def accuracy(sums: Sums) -> float | None:
    """The share of the labelled pictures that the audited file answers rightly; None of none."""
    return _share(sums, "accuracy")


def _share(sums: Sums, name: str) -> float | None:
    labelled = sums.number(f"sum:{name}:labelled")
    return sums.number(f"sum:{name}:right") / labelled if labelled else None


def moved_classes(sums: Sums) -> dict[int, int]:
    """The classes that are the reference's under another number: the audited number to the reference's.

    A class has moved where its scores over the pictures are far from the reference's of the same number, and
    at one other's. They are permuted where the classes that moved are at one another's places, and few are
    far from the reference's and nowhere else: those differ for another reason.
    """
    parts = [sums.get(f"sum:column:{name}") for name in ("a", "r", "aa", "rr", "ar")]
    a, r, aa, rr, ar = (np.zeros(0) if part is None else part for part in parts)
    pictures = sums.number("sum:pictures")
    if not a.size or pictures < 4 or not np.isfinite(ar).all():
        return {}
    distance = np.maximum(aa[:, None] + rr[None, :] - 2 * ar, 0)
    spread = np.maximum(aa - a * a / pictures, 0) + np.maximum(rr - r * r / pictures, 0)
    own = np.diagonal(distance)
    nearest = distance.argmin(axis=1)
    best = distance[np.arange(len(own)), nearest]
    far = own > _FAR * spread / 2
    there = (far & (best < _FITS * own)) | ((own > _EXACTLY_FAR * spread / 2) & (best < _EXACTLY_FITS * own))
    return permuted({int(i): int(nearest[i]) for i in np.nonzero(there)[0]}, int((far | there).sum()))


def permuted(moved: Mapping[int, int], far: int) -> dict[int, int]:
    """What moved, if it is a permutation that explains most of the `far` classes; else nothing."""
    both = set(moved) & set(moved.values())
    if len(both) < 2 or len(both) < _EXPLAINED * max(len(moved), far):
        return {}
    return {i: j for i, j in moved.items() if i in both}


def moved_filters(match: Match | None) -> dict[int, int]:
    """The classes whose filters in the last layer are the reference's of another class."""
    if match is None or match.audited.filters is None or match.reference.filters is None:
        return {}
    ours, theirs = (
        _directions(each.filters.weights) for each in (match.audited, match.reference) if each.filters
    )
    if ours.shape != theirs.shape or not np.isfinite(ours).all() or len(ours) > MOST_CLASSES:
        return {}
    own = (ours * theirs).sum(axis=1)
    odd = np.nonzero(own < _SAME_FILTER)[0]
    likeness = ours[odd] @ theirs.T
    nearest = likeness.argmax(axis=1)
    found = {
        int(i): int(j)
        for i, j, like in zip(odd, nearest, likeness.max(axis=1, initial=-1), strict=True)
        if like > _SAME_FILTER
    }
    return permuted(found, len(odd))


def _directions(rows: Array) -> Array:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(size > 0, size, 1))


def agreement_findings(
    sums: Sums,
    entry: Mapping[str, Any],
    precision: str,
    last: Match | None,
    labels: Sequence[str] | None,
) -> list[Finding]:
    """Whether the classes are permuted, and whether the answers differ more than rounding explains."""
    moved = moved_classes(sums) or moved_filters(last)
    if moved:
        told = ", ".join(f"{i} is {j} ({name_of(j, labels)})" for i, j in list(moved.items())[:4])
        more = f", and {len(moved) - 4} more" if len(moved) > 4 else ""
        detail = f"{len(moved)} classes answer as others of the reference: class {told}{more}"
        layer = None if last is None else last.audited.stage.name
        return [finding("classes-permuted", layer, None, len(moved), detail)]
    apart = entry["relative_l2"]
    if apart is None or np.isnan(apart) or apart > _APART[precision]:
        far = "no number" if apart is None or np.isnan(apart) else f"{apart:.2g} of the reference's norm"
        detail = f"the answers differ by {far}, where {precision} numbers may differ by {_APART[precision]:g}"
        return [finding("outputs-diverge", None, None, apart, detail)]
    return []
