"""Two files' answers to the same pictures, against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.sums import Flip, Sums, Worst, farthest, largest_margins
from onnxviz.methods.scores import Scores
from onnxviz.methods.target import probabilities

Array: TypeAlias = npt.NDArray[Any]

MOST_CLASSES = 4096
"""Of more classes it is not asked whether they are permuted: that takes the square of their number."""

_TINY = 1e-12


@dataclass(frozen=True)
class Outputs:
    """Which output of one file is which of the other; `scores` are those of the output that holds classes."""

    pairs: Mapping[str, str]
    scores: Scores | None = None
    reference_scores: Scores | None = None


def against(
    numbers: Sequence[int],
    names: Sequence[str],
    audited: Mapping[str, Array],
    reference: Mapping[str, Array],
    outputs: Outputs,
) -> Sums:
    """How the answers to some pictures [N, ...] differ, output by output and class by class."""
    arrays: dict[str, Array] = {}
    farther = np.zeros(len(numbers))
    both_chances = classes_of(audited, outputs.scores), classes_of(reference, outputs.reference_scores)
    for ours, theirs in outputs.pairs.items():
        a, r = audited[ours].astype(np.float64), reference[theirs].astype(np.float64)
        if outputs.scores is not None and ours == outputs.scores.output and _differ_in_kind(outputs):
            a, r = (chances for chances in both_chances if chances is not None)
        a, r = a.reshape(len(numbers), -1), r.reshape(len(numbers), -1)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            d = np.abs(a - r)
        farther = np.maximum(farther, np.nan_to_num(d, nan=np.inf).max(axis=1))
        arrays |= {
            f"max:answer-abs:{ours}": np.array(d.max()),
            f"sum:answer-abs:{ours}": np.array(d.sum()),
            f"sum:answer-count:{ours}": np.array(d.size),
            f"sum:answer-noise:{ours}": np.array((d * d).sum()),
            f"sum:answer-signal:{ours}": np.array((r * r).sum()),
            f"sum:answer-energy:{ours}": np.array((a * a).sum()),
        }
    ours_chances, theirs_chances = both_chances
    if ours_chances is None or theirs_chances is None:
        worst = [
            Worst(n, name, None, float(far)) for n, name, far in zip(numbers, names, farther, strict=True)
        ]
        return Sums(arrays, worst=farthest(worst))
    kl = divergence(theirs_chances, ours_chances)
    first = ours_chances.argmax(axis=1), theirs_chances.argmax(axis=1)
    arrays |= {
        "sum:same": np.array((first[0] == first[1]).sum()),
        "sum:top5": np.array(top5_overlap(ours_chances, theirs_chances).sum()),
        "sum:kl": np.array(kl.sum()),
        "max:kl": np.array(kl.max()),
    }
    flips = [
        Flip(
            numbers[i],
            names[i],
            int(theirs),
            int(ours),
            float(theirs_chances[i, theirs] - theirs_chances[i, ours]),
            float(theirs_chances[i, theirs]),
        )
        for i, (ours, theirs) in enumerate(zip(*first, strict=True))
        if ours != theirs
    ]
    worst = [
        Worst(n, name, float(far), float(distance))
        for n, name, far, distance in zip(numbers, names, kl, farther, strict=True)
    ]
    return Sums(arrays, largest_margins(flips), farthest(worst))


def classes_of(answers: Mapping[str, Array], scores: Scores | None) -> npt.NDArray[np.float64] | None:
    """The probabilities of the classes for pictures, [N, C]; None where the file has no classes."""
    if scores is None:
        return None
    rows = answers[scores.output]
    return np.stack([probabilities(row, scores).reshape(-1) for row in rows])


def divergence(reference: Array, audited: Array) -> npt.NDArray[np.float64]:
    """The KL divergence of the audited from the reference's probabilities [N, C], in nats; [N].

    Probabilities that are no distribution over the classes (sigmoids) are made one.
    """
    p, q = (np.maximum(each, 0) + _TINY for each in (reference, audited))
    p, q = (each / each.sum(axis=1, keepdims=True) for each in (p, q))
    return np.asarray(np.maximum((p * np.log(p / q)).sum(axis=1), 0))


def top5_overlap(audited: Array, reference: Array) -> npt.NDArray[np.float64]:
    """The share of the reference's five first classes that are among the audited file's five; [N]."""
    k = min(5, audited.shape[1])
    ours, theirs = (np.argsort(-each, axis=1, kind="stable")[:, :k] for each in (audited, reference))
    return np.asarray((ours[:, :, None] == theirs[:, None, :]).any(axis=1).mean(axis=1))


def _differ_in_kind(outputs: Outputs) -> bool:
    """Whether one file ends in a Softmax and the other does not: only probabilities can be compared."""
    assert outputs.scores is not None
    assert outputs.reference_scores is not None
    return outputs.scores.squashed != outputs.reference_scores.squashed


def columns(a: Array, r: Array) -> Sums:
    """What tells whether the classes are in another order: sums of products of each class with each.

    Args:
        a: The audited file's scores of the classes for pictures, [N, C]; see `scores_rows`.
        r: The reference's.
    """
    if a.shape != r.shape or a.shape[1] > MOST_CLASSES:
        return Sums()
    return Sums(
        {
            "sum:column:a": a.sum(axis=0),
            "sum:column:r": r.sum(axis=0),
            "sum:column:aa": (a * a).sum(axis=0),
            "sum:column:rr": (r * r).sum(axis=0),
            "sum:column:ar": a.T @ r,
        }
    )


def scores_rows(answers: Mapping[str, Array], scores: Scores | None) -> npt.NDArray[np.float64] | None:
    """The scores of the classes [N, C], of probabilities the logarithm; None where there are no classes."""
    if scores is None:
        return None
    rows = answers[scores.output]
    flat = rows.astype(np.float64).reshape(len(rows), -1)
    if scores.squashed in ("Softmax", "Sigmoid"):
        return np.asarray(np.log(np.maximum(flat, 1e-9)))
    return flat
