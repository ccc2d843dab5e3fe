"""What a channel, a unit, a layer or a class would like to see: gradient ascent in the input."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError
from onnxviz.graph.model import ModelLike
from onnxviz.methods.ascent.numeric import Sampler
from onnxviz.methods.ascent.objective import Objective
from onnxviz.methods.ascent.plan import Asked, Plan, Route, plan_for
from onnxviz.methods.ascent.problem import MEANS, SCORES
from onnxviz.methods.ascent.recipe import Recipe, find_recipe
from onnxviz.methods.ascent.run import Run
from onnxviz.methods.ascent.shown import shown
from onnxviz.methods.ascent.transforms import Size
from onnxviz.methods.ascent.wishes import Wish
from onnxviz.methods.manifest import manifest
from onnxviz.methods.target import expand, probabilities_of
from onnxviz.vision.labels import name_of
from onnxviz.vision.preprocess import Preprocess

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Maximized:
    """The pictures that raised objectives most.

    Attributes:
        images: uint8 [n, H, W, C], as the recipe shows them.
        losses: float32 [n, steps]: the objective before each step; NaN where a run was stopped before.
        channels: The channel that each picture raises; -1 where it is none.
        woke: bool [n]: whether the objective moved at all. A picture that did not wake is noise.
        names: What each picture raises, for people.
        copies: Which of several pictures of the same objective each is.
        pictures: float32 [n, H, W, C], 0 to 255, not yet stretched for show.
        before, after: By layer: the mean of each channel for the start and for the picture, [n, channels].
        scores_before, scores_after: The scores, [n, elements]; None where the model has none.
        transparency: float32 [n, H, W]: how much each pixel mattered, in [0, 1]; MaCo only.
        reports: What was known of each step, where it was asked for: by step, then by picture.
        finished: Whether all steps were done.
        rest: What a later run needs to go on from here; empty where it is finished.
        manifest: Where all this comes from.
        warnings: What to know about it.
    """

    images: npt.NDArray[np.uint8]
    losses: Array
    channels: tuple[int, ...]
    woke: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    copies: tuple[int, ...]
    pictures: Array
    before: Mapping[str, Array]
    after: Mapping[str, Array]
    scores_before: Array | None
    scores_after: Array | None
    transparency: Array | None
    reports: tuple[tuple[Mapping[str, Any], ...], ...]
    finished: bool
    rest: Mapping[str, Array]
    manifest: Mapping[str, Any]
    warnings: tuple[str, ...]

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the pictures, the numbers and the manifest into a folder; see `save_maximized`."""
        from onnxviz.methods.save_maximized import save_maximized

        return save_maximized(self, folder, overwrite=overwrite)


def maximize(
    model: ModelLike,
    layer: str | int | Sequence[str | int] | None = None,
    channels: str | int | Sequence[int] | None = None,
    target: str | int | Sequence[str | int] | None = None,
    recipe: str | Recipe = "lucid",
    seed: int = 0,
    *,
    objective: str | Objective | Sequence[str | Objective] | None = None,
    copies: int = 1,
    start: Any = None,
    magnitude: Any = None,
    picture: Size | None = None,
    gradient: Route = "auto",
    sampler: Sampler | None = None,
    report: bool = False,
    resume: Mapping[str, Array] | None = None,
    partial: bool = False,
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    inputs: Mapping[str, Array] | None = None,
    size: Size | None = None,
    device: str = "auto",
    batch: int | None = None,
    output: str | None = None,
    labels: str | Path | None = None,
    **settings: object,
) -> Maximized:
    """Pictures that raise channels, units, layers, classes, or any expression of them.

    Args:
        model: A model, path or proto.
        layer, channels: Selectors, and "0,3,8-15", "all", a number or numbers: a picture for each channel.
            None: the last convolution, its first 9 channels.
        target: A class by index or name, or another target of `explain`; or several: a picture for each.
        recipe: `chollet`, `hvass`, `hvass-b`, `yosinski`, `lucid`, `maco`, `deepdream`, or one of your own.
        seed: Of all that is drawn.
        objective: Expressions (see `parse_objective`) or objectives of `onnxviz.methods.ascent.objective`.
        copies: So many pictures of each objective, each from another start.
        start: A picture to begin from; None: what the recipe begins with.
        magnitude: For MaCo: a folder or list of pictures whose mean spectrum is kept; None: 1 / f.
        picture: Height and width of the picture that is made; None: the model's own where that is fixed,
            else the recipe's.
        gradient: Differentiate the graph, estimate from values, or the one that is possible.
        sampler: How to estimate; None: SPSA with 16 pairs.
        report: Whether to keep, for each step, the predicted class and the gradient's range.
        resume: The `rest` of a run that was stopped, to go on from; all else must be as it was then.
        partial: Whether a run that is stopped (Ctrl-C) gives what it has, with `finished` false.
        preprocess, inputs, size, device, batch, output, labels: As in `explain`.
        settings: Settings of the recipe; see `Recipe`.

    Raises:
        OnnxvizError: Of the kind that fits.
        KeyboardInterrupt: The run was stopped, and `partial` is false.
    """
    chosen = replace(recipe, **settings) if isinstance(recipe, Recipe) else find_recipe(recipe, **settings)  # type: ignore[arg-type]
    if copies < 1:
        raise SelectorError(f"copies is at least 1, not {copies}")
    targets = [one for text in _listed(target) for one in expand(text)]
    plan = plan_for(
        model,
        Asked(layer, channels, targets, _listed(objective), copies),
        chosen,
        seed=seed,
        start=start,
        magnitude=magnitude,
        picture=picture,
        route=gradient,
        sampler=sampler,
        report=report,
        preprocess=preprocess,
        inputs=inputs,
        size=size,
        device=device,
        batch=batch,
        output=output,
        labels=labels,
    )
    run = Run(plan, resume)
    try:
        run.climb()
    except KeyboardInterrupt:
        if not partial:
            raise
    return _maximized(run, recipe if isinstance(recipe, str) else "own")


def _listed(given: Any) -> list[Any]:
    """Nothing, one thing or several as a list."""
    if given is None:
        return []
    return [given] if isinstance(given, str | int | Objective) else list(given)


def _maximized(run: Run, name: str) -> Maximized:
    """What a run has made, shown and described."""
    plan, made = run.plan, run.made()
    recipe, numbers = plan.recipe, [number for batch in made for number in batch.numbers]
    wishes = [plan.wishes[number] for number in numbers]
    pictures = _joined([batch.pictures for batch in made]).transpose(0, 2, 3, 1)
    losses = _joined([_padded(batch.values, recipe.steps * recipe.octaves) for batch in made])
    woke = np.array([bool(np.nanmax(row) > np.nanmin(row)) for row in losses], bool)
    before, after = (_by_layer([batch.watched[i] for batch in made]) for i in (0, 1))
    scores = [before.pop(SCORES, None), after.pop(SCORES, None)]
    clear = [batch.transparency for batch in made if batch.transparency is not None]
    warnings = [*run.warnings, *_asleep(wishes, woke)]
    finished = run.finished
    if not finished:
        warnings.append(f"stopped after {run.steps_done} of {run.steps_in_all} steps")
    entries = manifest(
        plan.model,
        device=run.device,
        preprocess=plan.preprocess.to_dict(),
        method="maximize",
        recipe={"name": name, **asdict(recipe)},
        gradient=run.route,
        queries=run.queries,
        layer=[layer.name for layer in plan.layers.values()],
        target=[wish.name for wish in wishes],
        channels=[wish.channel for wish in wishes],
        copies=[wish.copy for wish in wishes],
        size=list(plan.size),
        seed=plan.seed,
        loss_first=[float(row[0]) for row in losses],
        loss_last=[float(row[np.isfinite(row)][-1]) if np.isfinite(row).any() else None for row in losses],
        woke=woke.tolist(),
        risen=_risen(wishes, plan, before, after),
        stability=_stability(wishes, pictures, after),
        top5=_top5(scores[1], plan),
        finished=finished,
        seconds={"run": round(run.seconds, 3)},
        warnings=warnings,
    )
    return Maximized(
        images=shown(pictures, recipe.display),
        losses=losses,
        channels=tuple(wish.channel for wish in wishes),
        woke=woke,
        names=tuple(wish.name for wish in wishes),
        copies=tuple(wish.copy for wish in wishes),
        pictures=pictures,
        before=before,
        after=after,
        scores_before=scores[0],
        scores_after=scores[1],
        transparency=_transparency(clear) if clear else None,
        reports=tuple(tuple(run.reports.get(number, ())) for number in numbers),
        finished=finished,
        rest={} if finished else run.rest(),
        manifest=entries,
        warnings=tuple(warnings),
    )


def _joined(arrays: Sequence[Array]) -> Array:
    return np.concatenate(arrays) if arrays else np.zeros((0, 1, 1, 1), np.float32)


def _padded(values: Array, steps: int) -> Array:
    """Values [steps so far, n] as [n, steps], NaN where they are not known."""
    padded = np.full((values.shape[1], steps), np.nan, np.float32)
    padded[:, : len(values)] = values.T
    return padded


def _by_layer(watched: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """What was watched, joined over the batches, by the layer's name; NaN where a batch did not watch it."""
    keys = dict.fromkeys(key for one in watched for key in one)
    joined = {}
    for key in keys:
        width = next(one[key].shape[1] for one in watched if key in one)
        rows = [
            one[key] if key in one else np.full((len(next(iter(one.values()))), width), np.nan, np.float32)
            for one in watched
        ]
        joined[key.removeprefix(MEANS)] = np.concatenate(rows)
    return joined


def _asleep(wishes: Sequence[Wish], woke: Array) -> list[str]:
    asleep = [wish.name for wish, awake in zip(wishes, woke, strict=True) if not awake]
    if not asleep:
        return []
    listed = ", ".join(asleep[:8]) + (" ..." if len(asleep) > 8 else "")
    return [
        f"{len(asleep)} never woke, and their pictures are the start: {listed}; try another start or seed"
    ]


def _risen(
    wishes: Sequence[Wish], plan: Plan, before: Mapping[str, Array], after: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """What else rises: for each picture of a channel its own rise, its rank, and the five largest."""
    found: list[dict[str, Any]] = []
    for row, wish in enumerate(wishes):
        layers = [layer.name for layer in plan.layers_of(wish.objective).values()]
        if len(layers) != 1:
            found.append({})
            continue
        rise = after[layers[0]][row] - before[layers[0]][row]
        order = np.argsort(-rise, kind="stable")
        entry: dict[str, Any] = {
            "layer": layers[0],
            "most": [{"channel": int(c), "rise": float(rise[c])} for c in order[:5]],
        }
        if wish.channel >= 0:
            entry |= {
                "own": float(rise[wish.channel]),
                "rank": int(np.flatnonzero(order == wish.channel)[0]) + 1,
            }
        found.append(entry)
    return found


def _stability(
    wishes: Sequence[Wish], pictures: Array, after: Mapping[str, Array]
) -> dict[str, dict[str, float]]:
    """How alike the copies of one objective are: mean correlation of pixels, and of the layers' channels."""
    found = {}
    for name in dict.fromkeys(wish.name for wish in wishes):
        rows = [row for row, wish in enumerate(wishes) if wish.name == name]
        if len(rows) < 2:
            continue
        answers = np.concatenate([array[rows] for array in after.values()], axis=1) if after else None
        found[name] = {"pixels": _alike(pictures[rows].reshape(len(rows), -1))}
        if answers is not None and answers.shape[1] > 1:
            found[name]["channels"] = _alike(answers)
    return found


def _alike(rows: Array) -> float:
    """The mean Pearson correlation of all pairs of rows; NaN where one is constant."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(length > 0, length, np.nan)
    table = unit @ unit.T
    return float(table[np.triu_indices(len(rows), 1)].mean())


def _top5(scores: Array | None, plan: Plan) -> list[list[dict[str, Any]]]:
    if scores is None or plan.scores is None or plan.scores.class_axis is None or plan.scores.has_places:
        return []
    return [_likeliest(row, plan) for row in scores]


def _likeliest(row: Array, plan: Plan) -> list[dict[str, Any]]:
    assert plan.scores is not None
    chances = probabilities_of(row, plan.scores)
    order = np.argsort(-chances, kind="stable")[:5]
    return [
        {"index": int(i), "label": name_of(int(i), plan.labels), "probability": float(chances[i])}
        for i in order
    ]


def _transparency(parts: Sequence[Array]) -> Array:
    """The sum over the channels, from 0 to 1 for each picture; values above the 98th percentile are 1."""
    total = np.concatenate(parts).sum(axis=1)
    highest = np.percentile(total, 98, axis=(1, 2), keepdims=True)
    return np.asarray(np.clip(total / np.where(highest > 0, highest, 1), 0, 1), np.float32)
