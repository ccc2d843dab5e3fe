"""The same picture and the same class explained on both files: does each answer for the same reason?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.findings import Finding, finding
from onnxviz.auditing.matching import Match
from onnxviz.auditing.subject import Subject
from onnxviz.errors import OnnxvizError, UnsupportedOperator
from onnxviz.methods.attribution.question import Bench
from onnxviz.methods.explain import explain_each
from onnxviz.methods.explanation import Explanation
from onnxviz.methods.query import ask
from onnxviz.methods.target import TargetLike
from onnxviz.quality.similarity import rank_correlation, ssim
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track
from onnxviz.views.heatmaps import resample
from onnxviz.vision.labels import name_of
from onnxviz.vision.read import Picture

Array: TypeAlias = npt.NDArray[Any]

STRONGEST = 0.1
"""The share of places whose overlap is measured."""

_ALIKE = 0.5  # of a median rank correlation: less is another reason
_AT_ONCE = 8
_WORST = 6
_MEASURES = ("spearman", "ssim", "iou", "centre_shift")


@dataclass(frozen=True)
class Reasons:
    """One picture and target explained on both files; heatmaps [H, W] in [0, 1], None where there is none."""

    number: int
    picture: str
    target: str
    audited: Array | None
    reference: Array | None
    pixels: npt.NDArray[np.uint8]
    box: tuple[float, float, float, float]

    @property
    def known(self) -> bool:
        """Whether there are two maps to compare."""
        return self.audited is not None and self.reference is not None

    @property
    def alike(self) -> dict[str, float]:
        """How alike the two maps are."""
        assert self.audited is not None
        assert self.reference is not None
        return likeness(self.audited, self.reference)


@dataclass(frozen=True)
class Drift:
    """All that was explained on both files, and where."""

    method: str
    layer: str | None
    reference_layer: str | None
    reasons: tuple[Reasons, ...]
    repeated: Mapping[str, float | None]


def likeness(one: Array, other: Array) -> dict[str, float]:
    """How alike two maps [H, W] are: rank correlation, SSIM, overlap of the strongest, shift of centres.

    The shift is that of the centres of mass, as a share of the diagonal. A map of another size is resampled.
    """
    if one.shape != other.shape:
        one = resample(one, (other.shape[0], other.shape[1]))
    rows, columns = other.shape
    centres = [_centre(each) for each in (one, other)]
    shift = float(np.hypot(*(centres[0] - centres[1])) / np.hypot(rows, columns))
    a, b = _strongest(one), _strongest(other)
    return {
        "spearman": rank_correlation(one, other),
        "ssim": ssim(one, other),
        "iou": float((a & b).sum() / (a | b).sum()),
        "centre_shift": shift,
    }


def _centre(heat: Array) -> Array:
    mass = heat.astype(np.float64)
    total = mass.sum()
    places = np.indices(heat.shape)
    return np.array([(each * mass).sum() / total for each in places]) if total > 0 else np.zeros(2)


def _strongest(heat: Array) -> Array:
    """Where the strongest tenth of a map lies; equal places are taken row by row."""
    chosen = np.zeros(heat.size, bool)
    chosen[np.argsort(-heat.ravel(), kind="stable")[: max(1, round(STRONGEST * heat.size))]] = True
    return chosen


def explained(
    audited: Subject,
    reference: Subject,
    matches: Sequence[Match],
    pictures: Mapping[int, Picture],
    targets: Mapping[int, TargetLike],
    method: str,
    seed: int,
    labels: Sequence[str] | None,
) -> Drift:
    """Explain pictures on both files: each for the class that the reference gave it.

    Args:
        audited: The file.
        reference: What it is compared with; its map is taken at the method's own layer.
        matches: Tell at which layer of the audited file the map is taken.
        pictures: By their number in the set.
        targets: For each picture.
        method: A method of `explain`.
        seed: For methods that sample.
        labels: What the classes are called.

    Raises:
        OnnxvizError: The method does not suit one of the files.
    """
    reasons: list[Reasons] = []
    benches = Bench(audited.device), Bench(reference.device)
    ours: str | None = None
    names: tuple[str | None, str | None] = (None, None)
    repeated: Mapping[str, float | None] = dict.fromkeys(_MEASURES)
    numbers = list(pictures)
    for start, stop in track(list(batches(len(numbers), _AT_ONCE)), "explanations"):
        part = numbers[start:stop]
        wanted = [(place, targets[number]) for place, number in enumerate(part)]
        given = [pictures[number] for number in part]
        theirs = _explain(reference, given, wanted, method, None, seed, benches[1])
        if start == 0:
            ours = _partner(theirs, matches, audited)
        mine = _explain(audited, given, wanted, method, ours, seed, benches[0])
        if start == 0:
            again = _explain(audited, given, wanted, method, ours, seed, benches[0])
            repeated = _repeated(mine, again)
            names = mine.layer, theirs.layer
        for place, number in enumerate(part):
            one, other = mine.evidence[place], theirs.evidence[place]
            reasons.append(
                Reasons(
                    number,
                    theirs.pictures.names[place],
                    other.target.text if other.target.index is None else name_of(other.target.index, labels),
                    None if one.empty else one.heatmap,
                    None if other.empty else other.heatmap,
                    theirs.pictures.pixels[place],
                    theirs.pictures.boxes[place],
                )
            )
    return Drift(method, *names, tuple(reasons), repeated)


def _explain(
    subject: Subject,
    pictures: Sequence[Picture],
    wanted: Sequence[tuple[int, TargetLike]],
    method: str,
    layer: str | None,
    seed: int,
    bench: Bench,
) -> Explanation:
    query = subject.query
    asked = ask(query.model, list(pictures), query.preprocess, query.others, query.size)
    subject.passes["explanations"] += len(pictures)
    how: dict[str, Any] = {"device": subject.device, "bench": bench}
    if layer is None:
        return explain_each(asked, wanted, method, seed=seed, **how)
    try:
        return explain_each(asked, wanted, method, layer, seed=seed, **how)
    except UnsupportedOperator:
        raise
    except OnnxvizError:  # a method over pixels has no layer, and a quantised layer may have no gradient
        return explain_each(asked, wanted, method, seed=seed, **how)


def _partner(found: Explanation, matches: Sequence[Match], audited: Subject) -> str | None:
    """The tensor of floats in the audited file that is the layer where the reference was explained."""
    layers = {layer.tensor for one in found.evidence for layer in one.layers}
    if len(layers) != 1:
        return None
    [tensor] = layers
    for match in matches:
        if tensor in {layer.tensor for layer in match.reference.stage.members}:
            return _as_floats(audited, match.audited.layer.tensor)
    return None


def _as_floats(subject: Subject, tensor: str) -> str:
    """A tensor, or what dequantises it."""
    value = subject.model.tensor(tensor)
    if value.dtype is None or not value.dtype.is_integer():
        return tensor
    readers = [use.node for use in value.uses() if use.node.op_type == "DequantizeLinear"]
    return str(readers[0].outputs[0].name) if readers else tensor


def _repeated(one: Explanation, other: Explanation) -> dict[str, float | None]:
    pairs = [
        likeness(a.heatmap, b.heatmap)
        for a, b in zip(one.evidence, other.evidence, strict=True)
        if not a.empty and not b.empty
    ]
    known = {name: [pair[name] for pair in pairs if not np.isnan(pair[name])] for name in _MEASURES}
    return {
        name: (max if name == "centre_shift" else min)(found) if found else None
        for name, found in known.items()
    }


def drift_entry(found: Drift) -> tuple[dict[str, Any], list[Reasons]]:
    """What was found as the report holds it, and the pictures that differ most, the worst first."""
    known = [each for each in found.reasons if each.known]
    measured = [each.alike for each in known]
    order = sorted(range(len(known)), key=lambda i: np.nan_to_num(measured[i]["spearman"], nan=-2.0))
    worst = [known[i] for i in order[:_WORST]]
    entry = {
        "method": found.method,
        "layer": found.layer,
        "reference_layer": found.reference_layer,
        "pictures": len(found.reasons),
        "empty": len(found.reasons) - len(known),
        **{name: _spread([each[name] for each in measured]) for name in _MEASURES},
        "noise": dict(found.repeated),
        "worst": [
            {
                "picture": known[i].picture,
                "number": known[i].number,
                "target": known[i].target,
                **measured[i],
                "image": f"drift-{rank}.png",
            }
            for rank, i in enumerate(order[:_WORST])
        ],
    }
    return entry, worst


def _spread(numbers: Sequence[float]) -> dict[str, float | None]:
    known = np.array([number for number in numbers if not np.isnan(number)])
    if not known.size:
        return dict.fromkeys(("mean", "median", "least", "greatest", "p5", "p95"))
    low, middle, high = np.percentile(known, [5, 50, 95])
    return {
        "mean": float(known.mean()),
        "median": float(middle),
        "least": float(known.min()),
        "greatest": float(known.max()),
        "p5": float(low),
        "p95": float(high),
    }


def drift_findings(entry: Mapping[str, Any]) -> list[Finding]:
    """Whether the files give the same answer for other reasons."""
    median = entry["spearman"]["median"]
    if median is None or median >= _ALIKE:
        return []
    detail = (
        f"explained by {entry['method']}, half of the pictures have maps with a rank correlation below "
        f"{median:.2f} between the two files"
    )
    return [finding("explanation-drift", entry["layer"], None, median, detail)]
