"""Why did the model answer so: one attribution method, for pictures and targets."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.errors import SelectorError, ShapeError, TargetError, UnsupportedOperator
from onnxviz.graph.expose import expose
from onnxviz.graph.flow import ancestors
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model, ModelLike
from onnxviz.graph.quantisation import as_floats, scale_of
from onnxviz.graph.selectors import select_one
from onnxviz.methods.explanation import Evidence, Explanation
from onnxviz.methods.heatmap import heatmap_of
from onnxviz.methods.manifest import manifest
from onnxviz.methods.maps import Ask, graph_maps, numeric_maps
from onnxviz.methods.method import Method, find_method
from onnxviz.methods.query import Query, ask, of_pictures
from onnxviz.methods.scores import Scores, before_scores, find_scores
from onnxviz.methods.target import Target, TargetLike, expand, output_named, probabilities, resolve, top
from onnxviz.runtime.batching import batches
from onnxviz.vision.labels import read_labels
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Images

Array: TypeAlias = npt.NDArray[Any]
Route: TypeAlias = Literal["graph", "numeric", "auto"]
Found: TypeAlias = tuple[Array, str, str, "Layer | None"]

_CHUNK = 16


def explain(
    model: ModelLike,
    images: Images,
    method: str = "grad-cam",
    target: TargetLike | Sequence[TargetLike] | None = None,
    layer: str | int | None = None,
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
) -> Explanation:
    """Explain why the model gave each picture its score for a target.

    Args:
        model: A model, path or proto.
        images: A path, folder, list, PIL image, uint8 [H,W,C] array, or float array shaped like the input.
        method: One of `METHODS`.
        target: One for all pictures, or a list with one per picture: a class index, a label, "top1" (the
            default), "A vs B", or an output element such as "boxes[0,17,4]".
        layer: A selector; None: the last activation that has places and leads to the target.
        gradient: "graph", "numeric" (finite differences), or "auto": numeric where an operator has no rule.
        seed: For methods that sample; kept in the manifest.
        preprocess: A preset, TOML file, mapping or `Preprocess`; None: the model's metadata, else a guess.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch: Pictures per run; None: chosen.
        inputs: The model's other inputs, by name.
        output: Which output; None: the first that looks like scores.
        labels: A file of class names; None: the model's metadata.
        size: Another (height, width) than the model was exported for, where its graph allows it.

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
    )


def explain_each(
    query: Query,
    wanted: Sequence[tuple[int, TargetLike]],
    method: str = "grad-cam",
    layer: str | int | None = None,
    gradient: Route = "auto",
    seed: int = 0,
    *,
    device: str = "auto",
    batch: int | None = None,
    output: str | None = None,
    labels: str | Path | None = None,
) -> Explanation:
    """As `explain`, for pairs of a picture's number and a target, in any number and order."""
    started = time.perf_counter()
    how = find_method(method)
    if gradient not in ("graph", "numeric", "auto"):
        raise SelectorError(f"no gradient route {gradient!r}; choose graph, numeric or auto")
    scores = find_scores(query.model, output if output is not None else _one_output(wanted))
    classes = read_labels(labels, query.model.metadata)
    values, used = _forward(query, scores, device, batch)
    answers = as_floats(query.model.tensor(scores.output), values[scores.output])
    if not scores.batched:
        answers = answers.reshape(len(query), -1, *answers.shape[1:])
    asked = [(picture, resolve(one, scores, answers[picture], classes)) for picture, one in wanted]
    forwarded = time.perf_counter()

    rows = of_pictures(values[scores.tensor], len(query), scores.tensor)
    question = Ask(query, how, scores, values[scores.tensor].shape, asked, used, batch)
    found, notes = _find_maps(question, _layers(query.model, how, scores, layer), gradient)
    evidence = [
        _evidence(query, how, scores, picture, target, rows[picture], answers[picture], one)
        for (picture, target), one in zip(asked, found, strict=True)
    ]
    why = "given" if layer is not None else "the last activation with places that leads to the target"
    names = dict.fromkeys(one.layer.name for one in evidence if one.layer is not None)
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
            **_entries(query, how, scores, evidence, why),
            top5=[top(answers[picture], scores, classes) for picture in range(len(query))],
            device=used,
            seed=seed,
            seconds={
                "forward": round(forwarded - started, 3),
                "maps": round(time.perf_counter() - forwarded, 3),
            },
            warnings=[*_warnings(query, how, scores, answers), *notes, *_empties(query, evidence)],
        ),
        pictures=query.pictures,
        evidence=tuple(evidence),
    )


def default_layers(model: Model, scores: Scores) -> list[Layer]:
    """The layers that Grad-CAM may be taken at, the last first: floats (quantised or not) with places.

    Each leads to the scores past no other of them; there are several where the scores have several heads.

    Raises:
        ShapeError: There is none.
    """
    before = before_scores(model, scores)
    found: list[Layer] = []
    covered: set[ir.Value] = set()
    for layer in reversed(model.layers):
        value = model.tensor(layer.tensor)
        floats = (value.dtype is not None and value.dtype.is_floating_point()) or scale_of(value) is not None
        if layer.is_spatial and floats and value in before and value not in covered:
            found.append(layer)
            covered |= ancestors([value])
    if not found:
        raise ShapeError(
            f"no layer with feature maps leads to output {scores.output!r}; "
            "use a pixel method, such as --method gradient"
        )
    return found


def _one_output(wanted: Sequence[tuple[int, TargetLike]]) -> str | None:
    """The output that targets such as `boxes[0,17,4]` name; None where none does."""
    named = {name for _, target in wanted if (name := output_named(target)) is not None}
    if len(named) > 1:
        raise TargetError(f"targets on several outputs ({', '.join(sorted(named))}); explain one at a time")
    return next(iter(named), None)


def _forward(query: Query, scores: Scores, device: str, batch: int | None) -> tuple[dict[str, Array], str]:
    """The scores of every picture, the output and the tensor behind it; and the device really used."""
    names = list(dict.fromkeys([scores.output, scores.tensor]))
    session = query.session(expose(query.model, names), device)
    first = next(iter(query.model.tensor(scores.tensor).shape or ()), None)
    # Where a fixed batch was flattened into other axes, pictures can only be run one by one.
    flattened = not scores.batched or (isinstance(first, int) and first not in (query.where.batch, 1))
    size = 1 if flattened else batch or _CHUNK
    pieces = [query.run(session, *piece, batch=batch) for piece in batches(len(query), size)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}, str(session.device)


def _layers(model: Model, how: Method, scores: Scores, selector: str | int | None) -> list[Layer | None]:
    """The layers to take the maps at, in the order in which to try them; none for pixel methods."""
    if how.over == "pixels":
        return [None]
    if selector is None:
        return [*default_layers(model, scores)]
    layer = select_one(model, selector)
    if layer.channel is None or not layer.grid:
        raise ShapeError(
            f"layer {layer.name!r} has no feature maps; choose one with places, "
            "or a pixel method such as --method gradient"
        )
    return [layer]


def _find_maps(question: Ask, layers: Sequence[Layer | None], route: Route) -> tuple[list[Found], list[str]]:
    """The raw map of each pair, with the route taken and its layer; and what there is to say of the route.

    A map that is zero everywhere means that its target does not depend on the layer: the next is tried.
    """
    if route == "numeric" and question.method.over == "pixels":
        raise SelectorError(
            f"method {question.method.name!r} needs the gradient as a graph; leave out --gradient numeric"
        )
    found: dict[int, Found] = {}
    notes: dict[str, None] = {}
    open_pairs = list(range(len(question.pairs)))
    for layer in layers:
        rest = replace(question, pairs=[question.pairs[number] for number in open_pairs])
        maps, taken, rules, note = _maps_at(rest, layer, route)
        notes |= dict.fromkeys(note)
        found |= {number: (raw, taken, rules, layer) for number, raw in zip(open_pairs, maps, strict=True)}
        open_pairs = [number for number in open_pairs if not found[number][0].any()]
        if not open_pairs:
            break
    return [found[number] for number in range(len(question.pairs))], list(notes)


def _maps_at(question: Ask, layer: Layer | None, route: Route) -> tuple[list[Array], str, str, list[str]]:
    if layer is not None and route == "numeric":
        return numeric_maps(question, layer), "numeric", "gradient", []
    try:
        maps, rules = graph_maps(question, layer)
        return maps, "graph", rules, []
    except UnsupportedOperator as err:
        if layer is None or route == "graph":
            raise
        note = f"finite differences were used: {str(err).partition('; use ')[0]}"
        return numeric_maps(question, layer), "numeric", "gradient", [note]


def _evidence(
    query: Query,
    how: Method,
    scores: Scores,
    picture: int,
    target: Target,
    row: Array,
    answer: Array,
    found: Found,
) -> Evidence:
    raw, route, rules, layer = found
    if how.over == "layer":
        heatmap, empty = heatmap_of(raw, query.input_size)
    else:
        heatmap, empty = heatmap_of(_strength(raw, query), query.input_size, percentile=99)
    chances = probabilities(answer, scores).reshape(-1)
    probability = float(chances[target.terms[0][0]]) if len(target.terms) == 1 else None
    return Evidence(picture, target, target.score(row), probability, raw, heatmap, layer, route, rules, empty)


def _strength(raw: Array, query: Query) -> Array:
    """How strong a pixel's attribution is: the largest magnitude of its channels (Simonyan et al. 2014)."""
    channels = -1 if query.where.layout == "NHWC" else 0
    return np.asarray(np.abs(raw.astype(np.float64)).max(axis=channels))


def _stacked(raws: Sequence[Array]) -> Array:
    """One array [N, ...]; an array of arrays where their sizes differ, as those of several layers may."""
    if len({raw.shape for raw in raws}) == 1:
        return np.stack(raws)
    stacked = np.empty(len(raws), object)
    stacked[:] = raws
    return stacked


def _warnings(query: Query, how: Method, scores: Scores, answers: Array) -> list[str]:
    found = []
    if query.preprocess.source.startswith("guess"):
        found.append(f"preprocessing: {query.preprocess.source}")
    if how.caveat is not None:
        found.append(f"{how.name}: {how.caveat}")
    if answers.dtype.kind == "f" and not np.isfinite(answers).all():
        found.append(f"output {scores.output!r} holds values that are NaN or infinite")
    return found


def _empties(query: Query, evidence: Sequence[Evidence]) -> list[str]:
    return [
        f"{query.pictures.names[one.picture]}, {one.target.text}: empty map: {one.empty}"
        for one in evidence
        if one.empty is not None
    ]


def _entries(
    query: Query, how: Method, scores: Scores, evidence: Sequence[Evidence], why: str
) -> dict[str, Any]:
    layers = dict.fromkeys(one.layer for one in evidence if one.layer is not None)
    return {
        "preprocess": query.preprocess.to_dict(),
        "pictures": list(query.pictures.names),
        "method": how.name,
        "rules": ", ".join(dict.fromkeys(one.rules for one in evidence)),
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
        "maps": [{"picture": one.picture, "target": one.target.text, "empty": one.empty} for one in evidence],
        "target": [{"index": one.target.index, "label": one.target.text} for one in evidence],
        "score": [one.score for one in evidence],
        "probability": [one.probability for one in evidence],
    }
