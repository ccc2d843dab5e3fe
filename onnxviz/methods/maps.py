"""The raw maps of one method: by a gradient graph, or by finite differences where it cannot be built."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.autodiff.numeric import Steps, channel_steps
from onnxviz.autodiff.pullback import find_rules, gradient
from onnxviz.autodiff.rules.quantization import unclipped
from onnxviz.autodiff.ruleset import RuleSet
from onnxviz.autodiff.variants import STRAIGHT_THROUGH
from onnxviz.errors import ShapeError
from onnxviz.graph.expose import cut
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.quantisation import as_floats, scale_of
from onnxviz.methods.cam import grad_cam
from onnxviz.methods.method import Method
from onnxviz.methods.query import Query, of_pictures
from onnxviz.methods.scores import Scores, quantised_scores
from onnxviz.methods.target import Target
from onnxviz.runtime.batching import batches, run_batched
from onnxviz.runtime.progress import track
from onnxviz.runtime.session import Session

Array: TypeAlias = npt.NDArray[Any]

_CHUNK = 16


@dataclass(frozen=True)
class Ask:
    """Which maps are wanted: of a method, for pairs of a picture's number and a target.

    `shape` is that of the scores for all pictures of the query together.
    """

    query: Query
    method: Method
    scores: Scores
    shape: tuple[int, ...]
    pairs: Sequence[tuple[int, Target]]
    device: str
    batch: int | None


def graph_maps(question: Ask, layer: Layer | None) -> tuple[list[Array], str]:
    """The maps by a gradient graph: at a layer [h, w] each, or over the input, shaped like it; and the rules.

    Raises:
        UnsupportedOperator: An operator between the layer and the scores has no rule.
    """
    query, method, scores = question.query, question.method, question.scores
    at = query.where.name if layer is None else layer.tensor
    model = gradient(query.model, of=scores.tensor, wrt=at, rules=_rules(question), keep=[at])
    session = Session(model, question.device)
    maps: list[Array] = []
    together = question.shape[0] == len(query) if question.shape else False
    pieces = batches(len(question.pairs), (question.batch or _CHUNK) if together else 1)
    for start, stop in track(list(pieces), method.name):
        pairs = question.pairs[start:stop]
        part = query.some([picture for picture, _ in pairs])
        seed = _cotangent(question, model, [target for _, target in pairs])
        found = part.run(session, 0, len(part), {str(model.cotangent): seed}, batch=question.batch)
        slopes, values = _by_floats(query.model, model, at, found)
        if layer is None:
            maps += list(slopes * values if method.times_input else slopes)
        else:
            weights = as_maps(slopes, layer).astype(np.float64).mean(axis=(2, 3))
            maps += list(grad_cam(as_maps(values, layer), weights))
    return maps, str(model.rules)


def _rules(question: Ask) -> str | RuleSet:
    """The method's rules; what quantises the scores never clips, or a sure answer has no gradient."""
    ends = quantised_scores(question.query.model, question.scores)
    rules = question.method.rules
    if not ends:
        return rules
    return unclipped(STRAIGHT_THROUGH if rules == "auto" else find_rules(rules), ends)


def numeric_maps(question: Ask, layer: Layer) -> list[Array]:
    """Grad-CAM by finite differences: the tail of the model, run on copies with one channel moved."""
    halves = cut(question.query.model, layer.tensor, question.scores.tensor)
    head, tail = Session(halves.head, question.device), Session(halves.tail, question.device)
    maps: list[Array] = []
    for picture, target in question.pairs:
        part = question.query.some([picture])
        found = part.run(head, 0, 1, batch=1)
        crossing = {name: found[name] for name in halves.crossing}
        if found[layer.tensor].dtype.kind in "iu":
            raise ShapeError(
                f"layer {layer.name!r} holds integers, which take no small steps; use --gradient graph"
            )
        feature_maps = as_maps(found[layer.tensor], layer)
        weights = np.zeros(feature_maps.shape[1])
        assert layer.channel is not None
        copies = (question.batch or 2 * _CHUNK) if _can_repeat(crossing) else 1
        plan = list(channel_steps(found[layer.tensor], layer.channel, copies))
        for steps in track(plan, f"finite differences at {layer.name}"):
            values = _tail_scores(question, tail, layer, steps, crossing, target, copies)
            weights[steps.channels] = steps.derivatives(values, feature_maps[0, 0].size)
        maps += list(grad_cam(feature_maps, weights[None]))
    return maps


def _by_floats(model: Model, derived: Model, at: str, found: dict[str, Array]) -> tuple[Array, Array]:
    """The slopes and values at a tensor; where it is quantised, by the floats that its numbers stand for."""
    tensor, slopes = model.tensor(at), found[derived.gradients[at]]
    scale = None
    if found[at].dtype.kind in "iu" and derived.taken_at[at] == at:
        scale = scale_of(tensor)
    value: ir.Value | None = model.tensor(derived.taken_at[at])
    # From the first floats back to the integers, whose axes may be in another order.
    while value is not None and value is not tensor:
        node = value.producer()
        assert node is not None
        if node.op_type == "Transpose":
            slopes = slopes.transpose(np.argsort(node.attributes.get_ints("perm", range(slopes.ndim)[::-1])))
        [value] = node.inputs[:1]
    if slopes.shape != found[at].shape:
        raise ShapeError(
            f"tensor {at!r} becomes floats in another shape; use a layer method, such as grad-cam"
        )
    return slopes if scale is None else slopes / scale[0], as_floats(tensor, found[at])


def _tail_scores(
    question: Ask,
    tail: Session,
    layer: Layer,
    steps: Steps,
    crossing: dict[str, Array],
    target: Target,
    copies: int,
) -> Array:
    """The target's score for each copy, [2K]."""
    n = len(steps.copies)
    feeds, shared = {layer.tensor: steps.copies}, crossing
    if _can_repeat(crossing):
        feeds |= {name: np.repeat(array, n, axis=0) for name, array in crossing.items()}
        shared = {}
    name = question.scores.tensor
    answers = tail.run({**feeds, **shared}) if n == 1 else run_batched(tail, feeds, copies, shared=shared)
    return np.array([target.score(row) for row in of_pictures(answers[name], n, name)])


def _can_repeat(crossing: dict[str, Array]) -> bool:
    """Whether what crosses the cut may be repeated; a computed shape fits the batch it was computed for."""
    return all(array.dtype.kind == "f" and array.shape[:1] == (1,) for array in crossing.values())


def _cotangent(question: Ask, model: Model, targets: Sequence[Target]) -> Array:
    """The weights of each picture's target at their places, zero elsewhere; shaped like the scores."""
    [info] = [value for value in model.inputs if value.name == model.cotangent]
    first, *rest = question.shape
    seed = np.zeros((first // len(question.query) * len(targets), *rest), info.dtype)
    flat = seed.reshape(len(targets), -1)
    for row, target in enumerate(targets):
        for place, weight in target.terms:
            flat[row, place] += weight
    return seed
