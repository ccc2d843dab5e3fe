"""Why did the model answer so: one attribution method, for pictures and targets."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError, TargetError, UnsupportedOperator
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import ModelLike
from onnxviz.methods.attribution.layers import chosen_layers, default_layers
from onnxviz.methods.attribution.method import Maps, Method
from onnxviz.methods.attribution.pose import Posed, pose
from onnxviz.methods.attribution.question import Bench, Question
from onnxviz.methods.attribution.table import find_method
from onnxviz.methods.explanation import Evidence, Explanation
from onnxviz.methods.heatmap import heatmap_of
from onnxviz.methods.judge import judged
from onnxviz.methods.manifest import manifest
from onnxviz.methods.query import Query, ask
from onnxviz.methods.target import Target, TargetLike, expand, probabilities, top
from onnxviz.runtime.devices import resolve as resolve_device
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Images

Array: TypeAlias = npt.NDArray[Any]
Route: TypeAlias = Literal["graph", "numeric", "auto"]
_SATURATED = 0.9999

Selectors: TypeAlias = "str | int | Sequence[str | int] | None"


def explain(
    model: ModelLike,
    images: Images,
    method: str = "grad-cam",
    target: TargetLike | Sequence[TargetLike] | None = None,
    layer: Selectors = None,
    gradient: Route = "auto",
    seed: int = 0,
    *,
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    device: str = "auto",
    batch: int | None = None,
    inputs: Mapping[str, Array] | None = None,
    output: str | None = None,
    labels: str | Path | None = None,
    size: tuple[int, int] | None = None,
    **settings: object,
) -> Explanation:
    """Explain why the model gave each picture its score for a target.

    Args:
        model: A model, path or proto.
        images: A path, folder, list, PIL image, uint8 [H,W,C] array, or float array shaped like the input.
        method: One of `METHODS`.
        target: One for all pictures, or a list with one per picture: a class index, a label, "top1" (the
            default), "A vs B", an output element such as "boxes[0,17,4]", "up" or "down", a class at a place
            such as "dog in 10,20,200,220" or "dog in mask.png", or "like embedding.npy"; see docs/targets.md.
        layer: A selector, or several for methods that take several layers; None: the last activation that has
            places and leads to the target.
        gradient: "graph", "numeric" (finite differences), or "auto": numeric where an operator has no rule.
        seed: For methods that sample; kept in the manifest.
        preprocess: A preset, TOML file, mapping or `Preprocess`; None: the model's metadata, else a guess.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch: Pictures per run; None: chosen.
        inputs: The model's other inputs, by name.
        output: Which output; None: the first that looks like scores.
        labels: A file of class names; None: the model's metadata.
        size: Another (height, width) than the model was exported for, where its graph allows it.
        **settings: The method's own settings, such as `samples=50`; docs/methods.md lists them.

    Raises:
        OnnxvizError: Of the kind that fits: the model, the selector, the target, a picture, or the device.
    """
    if target is None:
        target = "top1"
    given = [target] if isinstance(target, str | int | np.integer | Target) else list(target)
    for one in given:
        if isinstance(one, str) and len(expand(one)) > 1:
            raise TargetError(f"target {one!r} is several; give one per picture, such as 'top1' or an index")
    query = ask(model, images, preprocess, inputs, size)
    given = given * len(query) if len(given) == 1 else given
    if len(given) != len(query):
        raise TargetError(f"{len(given)} targets for {len(query)} pictures; give one, or one per picture")
    return explain_each(
        query,
        list(enumerate(given)),
        method,
        layer,
        gradient,
        seed,
        device=device,
        batch=batch,
        output=output,
        labels=labels,
        settings=settings,
    )


def explain_each(
    query: Query,
    wanted: Sequence[tuple[int, TargetLike]],
    method: str = "grad-cam",
    layer: Selectors = None,
    gradient: Route = "auto",
    seed: int = 0,
    *,
    device: str = "auto",
    batch: int | None = None,
    output: str | None = None,
    labels: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    bench: Bench | None = None,
    quality: bool = False,
) -> Explanation:
    """As `explain`, for pairs of a picture's number and a target, in any number and order.

    `bench` keeps compiled models for another call with the same model; `quality` measures how good each map
    is.
    """
    started = time.perf_counter()
    how = find_method(method)
    chosen = how.read(settings or {})
    if gradient not in ("graph", "numeric", "auto"):
        raise SelectorError(f"no gradient route {gradient!r}; choose graph, numeric or auto")
    bench = bench or Bench(device)
    posed = pose(query, wanted, bench, batch=batch, seed=seed, route=gradient, output=output, labels=labels)
    forwarded = time.perf_counter()
    candidates = _layers(posed.question, how, chosen, layer)
    found, notes = _find_maps(posed.question, how, chosen, candidates)
    evidence = [_evidence(posed, how, chosen, number, one) for number, one in enumerate(found)]
    if quality:
        evidence = [
            one if one.empty else replace(one, quality=judged(posed.question, number, one.heatmap))
            for number, one in enumerate(evidence)
        ]
    return _explanation(
        posed,
        how,
        evidence,
        layer,
        seed=seed,
        settings={**how.settings, **chosen},
        seconds={
            "forward": round(forwarded - started, 3),
            "maps": round(time.perf_counter() - forwarded, 3),
        },
        notes=notes,
    )


@dataclass(frozen=True)
class _Found:
    """The raw map of one pair, how it was taken, and where."""

    raw: Array
    maps: Maps
    layers: tuple[Layer, ...]
    checks: Mapping[str, float]


def base_of(how: Method, settings: Mapping[str, Any]) -> Method:
    """The method itself, or of one that works over another's maps, that other one."""
    seen = {how.name}
    while how.over == "base":
        how = find_method(str({**how.settings, **settings}["base"]))
        settings = {}
        if how.name in seen:
            raise SelectorError(f"{how.name} cannot be its own base")
        seen.add(how.name)
    return how


def _layers(
    question: Question, how: Method, settings: Mapping[str, Any], selectors: Selectors
) -> list[tuple[Layer, ...]]:
    """Where to take the maps, in the order in which to try; nowhere for pixel methods."""
    over = base_of(how, settings).over
    if over == "pixels":
        return [()]
    if selectors is None:
        return [(layer,) for layer in default_layers(question.model, question.scores)]
    layers = chosen_layers(question.model, selectors)
    if over == "layer" and len(layers) > 1:
        raise SelectorError(f"{how.name} takes one layer, not {len(layers)}; layer-cam takes several")
    return [tuple(layers)]


def _find_maps(
    question: Question, how: Method, settings: Mapping[str, Any], candidates: Sequence[tuple[Layer, ...]]
) -> tuple[list[_Found], list[str]]:
    """The raw map of each pair; and what there is to say of the way to them.

    A map that is zero everywhere means that its target does not depend on the layer: the next is tried.
    """
    if question.route == "numeric" and not how.numeric:
        raise SelectorError(f"{how.name} takes no finite differences; leave out --gradient numeric")
    found: dict[int, _Found] = {}
    notes: dict[str, None] = {}
    left = list(range(len(question)))
    for layers in candidates:
        maps = _maps_at(question.some(left), how, settings, layers)
        notes |= dict.fromkeys(maps.notes)
        at = maps.layers or layers
        found |= {
            number: _Found(raw, maps, at, maps.check(place))
            for place, (number, raw) in enumerate(zip(left, maps.raw, strict=True))
        }
        left = [number for number in left if not found[number].raw.any()]
        if not left:
            break
    return [found[number] for number in range(len(question))], list(notes)


def _maps_at(question: Question, how: Method, settings: Mapping[str, Any], layers: Sequence[Layer]) -> Maps:
    try:
        return how(question, layers, settings)
    except UnsupportedOperator as err:
        if question.route == "graph" or not how.numeric:
            raise
        maps = how(replace(question, route="numeric"), layers, settings)
        note = f"finite differences were used: {str(err).partition('; use ')[0]}"
        return replace(maps, notes=(*maps.notes, note))


def _evidence(posed: Posed, how: Method, settings: Mapping[str, Any], number: int, found: _Found) -> Evidence:
    question = posed.question
    picture, target = question.pairs[number]
    raw = found.raw
    if raw.ndim == 2:
        plane = raw - raw.min() if how.relative else raw
        heatmap, empty = heatmap_of(plane, question.query.input_size)
    else:
        plane = _plane(raw, question, base_of(how, settings).signed)
        heatmap, empty = heatmap_of(plane, question.query.input_size, percentile=99)
    chances = probabilities(posed.answers[picture], question.scores).reshape(-1)
    probability = float(chances[target.terms[0][0]]) if len(target.terms) == 1 else None
    score = target.score(posed.rows[picture])
    maps = found.maps
    return Evidence(
        picture,
        target,
        score,
        probability,
        raw,
        heatmap,
        found.layers,
        maps.route,
        maps.rules,
        empty,
        found.checks,
        {},
    )


def _plane(raw: Array, question: Question, signed: bool) -> Array:
    """A map over the pixels as one plane: the sum of its channels where it shares the score out.

    Else their largest magnitude (Simonyan et al. 2014).
    """
    channels = 2 if question.places == (0, 1) else 0
    exact = raw.astype(np.float64)
    return np.asarray(exact.sum(axis=channels) if signed else np.abs(exact).max(axis=channels))


def _explanation(
    posed: Posed,
    how: Method,
    evidence: Sequence[Evidence],
    selectors: Selectors,
    *,
    seed: int,
    settings: Mapping[str, Any],
    seconds: Mapping[str, float],
    notes: Sequence[str],
) -> Explanation:
    query, scores = posed.question.query, posed.question.scores
    why = "given" if selectors is not None else "the last activation with places that leads to the target"
    names = dict.fromkeys(layer.name for one in evidence for layer in one.layers)
    return Explanation(
        heatmap=np.stack([one.heatmap for one in evidence]),
        raw=_stacked([one.raw for one in evidence]),
        target=tuple(one.target.text if one.target.index is None else one.target.index for one in evidence),
        score=np.array([one.score for one in evidence]),
        probability=np.array([np.nan if one.probability is None else one.probability for one in evidence]),
        layer=", ".join(names) or None,
        method=how.name,
        manifest=manifest(
            query.model,
            **_entries(posed, how, evidence, why),
            settings=settings,
            top5=[top(posed.answers[picture], scores, posed.labels) for picture in range(len(query))],
            device=str(resolve_device(posed.question.bench.device)),
            seed=seed,
            seconds=seconds,
            warnings=[*_warnings(posed, how), *notes, *_empties(query, evidence)],
        ),
        pictures=query.pictures,
        evidence=tuple(evidence),
    )


def _stacked(raws: Sequence[Array]) -> Array:
    """One array [N, ...]; an array of arrays where their sizes differ, as those of several layers may."""
    if len({raw.shape for raw in raws}) == 1:
        return np.stack(raws)
    stacked = np.empty(len(raws), object)
    stacked[:] = raws
    return stacked


def _warnings(posed: Posed, how: Method) -> list[str]:
    query, scores, found = posed.question.query, posed.question.scores, []
    if query.preprocess.source.startswith("guess"):
        found.append(f"preprocessing: {query.preprocess.source}")
    if how.caveat is not None:
        found.append(f"{how.name}: {how.caveat}")
    if scores.squashed is not None and any(
        probabilities(posed.answers[picture], scores).max(initial=0) > _SATURATED
        for picture in range(len(query))
    ):
        found.append(
            f"the {scores.squashed} is saturated, its gradient vanishes; the score before it is explained"
        )
    if posed.answers.dtype.kind == "f" and not np.isfinite(posed.answers).all():
        found.append(f"output {scores.output!r} holds values that are NaN or infinite")
    return found


def _empties(query: Query, evidence: Sequence[Evidence]) -> list[str]:
    return [
        f"{query.pictures.names[one.picture]}, {one.target.text}: empty map: {one.empty}"
        for one in evidence
        if one.empty is not None
    ]


def _entries(posed: Posed, how: Method, evidence: Sequence[Evidence], why: str) -> dict[str, Any]:
    query, scores = posed.question.query, posed.question.scores
    layers = dict.fromkeys(layer for one in evidence for layer in one.layers)
    rules = dict.fromkeys(one.rules for one in evidence if one.rules is not None)
    return {
        "preprocess": query.preprocess.to_dict(),
        "pictures": list(query.pictures.names),
        "method": how.name,
        "rules": ", ".join(rules) or None,
        "gradient": list(dict.fromkeys(one.route for one in evidence)),
        "layer": [
            {"name": layer.name, "op": layer.op, "shape": list(layer.shape or ()), "why": why}
            for layer in layers
        ],
        "output": {
            "name": scores.output,
            "differentiated": scores.tensor,
            "stepped_over": scores.squashed,
        },
        "maps": [
            {
                "picture": one.picture,
                "target": one.target.text,
                "empty": one.empty,
                **({"completeness": one.checks} if one.checks else {}),
                **({"quality": one.quality} if one.quality else {}),
            }
            for one in evidence
        ],
        "target": [{"index": one.target.index, "label": one.target.text} for one in evidence],
        "score": [one.score for one in evidence],
        "probability": [one.probability for one in evidence],
    }
