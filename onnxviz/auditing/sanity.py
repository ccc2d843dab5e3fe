"""Can the explanations of this file be trusted: do they find what matters, and do they know the weights?"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.findings import Finding, finding
from onnxviz.auditing.subject import Subject
from onnxviz.autodiff.pullback import gradient
from onnxviz.graph.model import Model
from onnxviz.graph.shuffle import shuffled
from onnxviz.methods.attribution.baselines import baseline
from onnxviz.methods.attribution.pose import Posed, pose
from onnxviz.methods.attribution.question import Bench, Question
from onnxviz.methods.explain import explain_each
from onnxviz.methods.query import Query, ask
from onnxviz.methods.target import Target, TargetLike
from onnxviz.quality.curves import deletion, insertion
from onnxviz.quality.similarity import rank_correlation, ssim
from onnxviz.runtime.progress import track
from onnxviz.views.heatmaps import resample
from onnxviz.vision.read import Picture

Array: TypeAlias = npt.NDArray[Any]

STEPS = 14
"""Of the curves."""

_SHUFFLES = 4
_CELLS = 7  # of a random map, in each direction
_TOLERANCE = {"float64": 1e-3, "float32": 0.05, "float16": 0.3, "bfloat16": 0.5}
_STEP_SIZES = (1e-3, 3e-3, 1e-2, 3e-2)  # of the picture's standard deviation
_STAYS = 0.9


def posed(
    subject: Subject, pictures: Sequence[Picture], targets: Sequence[TargetLike]
) -> tuple[Query, Posed]:
    """The pictures and targets put to the audited file."""
    query = subject.query
    asked = ask(query.model, list(pictures), query.preprocess, query.others, query.size)
    return asked, pose(asked, list(enumerate(targets)), Bench(subject.device))


def faithfulness(
    subject: Subject, pictures: Sequence[Picture], targets: Sequence[TargetLike], method: str, seed: int
) -> dict[str, Any]:
    """Insertion and deletion of the file's own maps, against maps that know nothing (Petsiuk et al. 2018)."""
    query, question = _asked(subject, pictures, targets)
    found = explain_each(query, question.pairs, method, seed=seed, device=subject.device)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, float]] = []
    for number, one in track(list(enumerate(found.evidence)), "faithfulness"):
        if one.empty:
            continue
        subject.passes["explanations"] += 4 * (STEPS + 1) + 1
        own = _curves(question, number, one.heatmap, seed)
        chance = _curves(question, number, _blobs(rng, one.heatmap.shape), seed)
        rows.append({**own, **{f"{name}_random": value for name, value in chance.items()}})
    better = [
        row["insertion"] - row["deletion"] > row["insertion_random"] - row["deletion_random"] for row in rows
    ]
    names = ("insertion", "insertion_random", "deletion", "deletion_random")
    return {
        "method": method,
        "pictures": len(rows),
        **{name: float(np.mean([row[name] for row in rows])) if rows else None for name in names},
        "better": float(np.mean(better)) if rows else None,
    }


def _asked(
    subject: Subject, pictures: Sequence[Picture], targets: Sequence[TargetLike]
) -> tuple[Query, Question]:
    query, found = posed(subject, pictures, targets)
    return query, found.question


def _blobs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A map that knows nothing, as smooth as maps are: single pixels that go would harm any picture more."""
    return resample(rng.random((_CELLS, _CELLS)).astype(np.float32), (shape[0], shape[1]))


def _curves(question: Question, number: int, heat: Array, seed: int) -> dict[str, float]:
    [x] = question.inputs([number])
    target = question.pairs[number][1]

    def predict(inputs: Array) -> Array:
        rows = question.rows([number] * len(inputs), inputs)
        return np.array([question.chance(target, row) for row in rows])

    black, blurred = (baseline(question, number, spec) for spec in ("black", "blur"))
    places = question.places
    return {
        "insertion": insertion(predict, x, heat, blurred, places, STEPS, seed).area,
        "deletion": deletion(predict, x, heat, black, places, STEPS, seed).area,
    }


def randomisation(
    subject: Subject, picture: Picture, target: TargetLike, method: str, seed: int
) -> dict[str, Any] | None:
    """How alike a map stays as weights are shuffled, from the last layer to the first (Adebayo et al. 2018).

    None where the map is empty, or the file has no weights. A few steps of the cascade are taken, the last
    with all weights shuffled.
    """
    query, question = _asked(subject, [picture], [target])
    layers = [layer for layer in reversed(query.model.layers) if layer.params]
    own = explain_each(query, question.pairs, method, seed=seed, device=subject.device)
    if own.evidence[0].empty or not layers:
        return None
    where = own.evidence[0].layers
    at = [layer.tensor for layer in where] or None
    steps = []
    for count in track(_counts(len(layers)), "shuffling weights"):
        changed = Query(
            shuffled(query.model, layers[:count], seed),
            query.where,
            query.preprocess,
            query.pictures,
            query.others,
            query.size,
        )
        other = explain_each(changed, question.pairs, method, at, seed=seed, device=subject.device)
        one, heat = own.evidence[0].heatmap, other.evidence[0].heatmap
        empty = bool(other.evidence[0].empty)
        steps.append(
            {
                "layer": layers[count - 1].name,
                # An empty map is no likeness.
                "ssim": 0.0 if empty else ssim(one, heat),
                "rank_correlation": 0.0 if empty else abs(rank_correlation(one, heat)),
            }
        )
        subject.passes["explanations"] += 1
    last = steps[-1]
    return {
        "method": method,
        "ssim": last["ssim"],
        "rank_correlation": last["rank_correlation"],
        "layers": steps,
    }


def _counts(layers: int) -> list[int]:
    return sorted({max(1, round(layers * part / _SHUFFLES)) for part in range(1, _SHUFFLES + 1)})


def gradient_check(subject: Subject, picture: Picture, target: TargetLike, seed: int) -> dict[str, Any]:
    """The gradient of the score along a direction, by the graph and by central differences on this very file.

    The direction is half the gradient's own and half random: along its own a gradient is easily told, and a
    random part finds what it leaves out. Of several step sizes that one counts where the two agree best, as
    neither rounding nor the kinks of a ReLU are at fault.
    """
    query, found = posed(subject, [picture], [target])
    question = found.question
    scores, [(_, aim)] = question.scores, question.pairs
    model = query.model
    at = query.where.name
    made = gradient(model, of=scores.tensor, wrt=at)
    taken = made.taken_at.get(at, at)
    bench = Bench(subject.device)
    entry: dict[str, Any] = {
        "of": scores.tensor,
        "wrt": taken,
        "directional": None,
        "numeric": None,
        "relative_error": None,
        "rules": made.rules,
        "applies": made.rules == "gradient" and taken == at,
    }
    if not entry["applies"]:
        return entry
    asked = Question(query, scores, question.shape, question.pairs, bench)
    found_gradient = asked.run(made)[made.gradients[at]][0].astype(np.float64)
    subject.passes["explanations"] += 1 + 2 * len(_STEP_SIZES)
    size = float(np.linalg.norm(found_gradient))
    if not np.isfinite(size) or size == 0:
        return entry
    noise = np.random.default_rng(seed).standard_normal(found_gradient.shape)
    direction = found_gradient / size + noise / np.linalg.norm(noise)
    direction /= np.linalg.norm(direction)
    by_graph = float((found_gradient * direction).sum())
    by_steps = min(
        (_difference(asked, aim, direction, step) for step in _STEP_SIZES),
        key=lambda value: abs(value - by_graph) if np.isfinite(value) else np.inf,
    )
    entry["directional"], entry["numeric"] = by_graph, by_steps
    entry["relative_error"] = abs(by_graph - by_steps) / max(abs(by_graph), abs(by_steps), 1e-30)
    return entry


def _difference(asked: Question, target: Target, direction: Array, step: float) -> float:
    """The central difference of the score along a direction; a step is a share of the picture's spread."""
    [x] = asked.inputs().astype(np.float64)
    size = step * float(x.std() or 1.0) * float(np.sqrt(direction.size)) / 10
    moved = np.stack([x + size * direction, x - size * direction]).astype(asked.inputs().dtype)
    up, down = (target.score(row) for row in asked.rows([0, 0], moved))
    # What was fed is rounded: the difference is over the distance that was really gone.
    gone = float(((moved[0].astype(np.float64) - moved[1].astype(np.float64)) * direction).sum())
    return (up - down) / gone if gone else float("nan")


def sanity_findings(
    model: Model, dtype: str, faithful: Mapping[str, Any] | None, checks: Mapping[str, Any]
) -> list[Finding]:
    """Whether explanations are worth looking at."""
    findings = []
    if faithful is not None and faithful["pictures"] >= 4 and (faithful["better"] or 0) < 0.5:
        detail = (
            f"{faithful['method']} finds what matters better than chance in {faithful['better']:.0%} of "
            f"{faithful['pictures']} pictures"
        )
        findings.append(finding("unfaithful", None, None, faithful["better"], detail))
    shuffled_ = checks.get("randomisation")
    if shuffled_ is not None and shuffled_["ssim"] > _STAYS and shuffled_["rank_correlation"] > _STAYS:
        detail = f"{shuffled_['method']} stays alike (SSIM {shuffled_['ssim']:.2f}) with all weights shuffled"
        findings.append(finding("insane-explanation", None, None, shuffled_["ssim"], detail))
    checked = checks.get("gradient")
    if checked is not None and checked["relative_error"] is not None:
        off = checked["relative_error"]
        allowed = max(_TOLERANCE.get(kind, 0.05) for kind in (dtype, *(v.dtype for v in model.outputs)))
        if off > allowed:
            detail = (
                f"the gradient along a direction is {checked['directional']:.4g}, but finite differences on "
                f"this file say {checked['numeric']:.4g}"
            )
            findings.append(finding("gradient-check", None, None, off, detail))
    return findings
