"""Which output of one file is which of another, and which of them hold the classes."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.answers import Outputs
from onnxviz.auditing.findings import Finding
from onnxviz.errors import ShapeError
from onnxviz.graph.model import Model
from onnxviz.methods.scores import Scores, find_scores

Array: TypeAlias = npt.NDArray[Any]


def class_scores(model: Model, output: str | None = None) -> Scores | None:
    """The output that holds one score for each class of a picture; None where there is none.

    Raises:
        SelectorError: There is no output of that name.
    """
    try:
        scores = find_scores(model, output)
    except ShapeError:
        return None
    return None if scores.class_axis is None or scores.has_places or not scores.batched else scores


def paired(
    audited: Mapping[str, Array],
    reference: Mapping[str, Array],
    scores: Scores | None,
    reference_scores: Scores | None,
) -> tuple[Outputs, list[Finding]]:
    """The outputs of two files that are the same, by what they answer to a few pictures.

    Outputs of one size are paired: the classes first, then those of one name, then those that are nearest.
    """
    pairs: dict[str, str] = {}
    left = dict(reference)
    if scores is not None and reference_scores is not None:
        ours, theirs = scores.output, reference_scores.output
        if _size(audited[ours]) == _size(left[theirs]):
            pairs[ours] = theirs
            del left[theirs]
    for name, rows in audited.items():
        fits = [other for other in left if _size(left[other]) == _size(rows)] if name not in pairs else []
        if fits:
            chosen = name if name in fits else min(fits, key=lambda other: _distance(rows, left[other]))
            pairs[name] = chosen
            del left[chosen]
    classes = scores is not None and scores.output in pairs and reference_scores is not None
    found = Outputs(pairs, scores if classes else None, reference_scores if classes else None)
    missing = [name for name in audited if name not in pairs]
    return found, [
        Finding(
            "outputs-differ",
            "error",
            detail=f"output {name!r} {list(audited[name].shape[1:])} is none of the reference's "
            f"({', '.join(f'{other} {list(rows.shape[1:])}' for other, rows in reference.items())}); "
            "agreement is not measured there",
        )
        for name in missing
    ]


def _size(rows: Array) -> int:
    return rows.size


def _distance(one: Array, other: Array) -> float:
    a, b = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    return float(np.nan_to_num(np.abs(a - b), nan=np.inf).sum())
