"""A model and its explanation in one ONNX file, which needs nothing but an ONNX runtime."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.pullback import fresh_name
from onnxviz.errors import SelectorError, ShapeError
from onnxviz.graph.expose import prune
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Derivative, Model, ModelLike, load
from onnxviz.graph.normalise import with_shapes
from onnxviz.graph.ops import Ops
from onnxviz.graph.resample import exact, resized, spread, weights
from onnxviz.methods.attribution.layers import chosen_layers, default_layers
from onnxviz.methods.attribution.method import MAP, Method
from onnxviz.methods.attribution.question import Bench, Subject
from onnxviz.methods.attribution.table import METHODS, find_method
from onnxviz.methods.scores import Scores, find_scores
from onnxviz.vision.fold import Folded, folded
from onnxviz.vision.images import PictureInput, picture_input
from onnxviz.vision.preprocess import Preprocess, choose

METADATA_KEY = "onnxviz.explainer"

_PERCENTILE = 99  # of a gradient's magnitudes, which becomes 1; see `heatmap_of`


def explainer(
    model: ModelLike,
    method: str = "grad-cam",
    layer: str | int | Sequence[str | int] | None = None,
    fold_preprocess: bool = False,
    *,
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    output: str | None = None,
) -> Model:
    """The model that answers as the given one does, and why: standard operators, no onnxviz needed.

    It has the model's inputs and `target`, int64 [N]: the class of each picture; below 0, its top class. (Of
    an output without an axis of classes it is the number of an element.) It has the model's outputs and
    `heatmap`, float32 [N, H, W] in [0, 1], at the size of the model's input; zeros where the map is empty.

    Args:
        model: A model, path or proto.
        method: A method that is one graph; `onnxviz explain --list-methods` says which.
        layer: A selector; None: the last activation that has places and leads to the target.
        fold_preprocess: Take a picture, `image` uint8 [N, H, W, 3] in RGB of any size, in place of the
            model's own input, and preprocess it in the graph; the heatmap has the picture's size.
        preprocess: For `fold_preprocess`: as in `explain`.
        output: Which output is explained; None: the first that looks like scores.

    Raises:
        SelectorError: There is no such method, layer or output, or the method is no graph.
        ShapeError: The layer has no feature maps.
        UnsupportedOperator: An operator behind the layer has no rule.
    """
    model, how = load(model), find_method(method)
    if how.graph is None:
        able = ", ".join(name for name, each in METHODS.items() if each.graph is not None)
        raise SelectorError(f"{method} is no single graph and cannot be exported; these can: {able}")
    where = picture_input(model.inputs)
    scores = find_scores(model, output)
    keep = tuple(dict.fromkeys(value.name for value in model.outputs))
    kept = tuple(dict.fromkeys((*keep, scores.output)))
    subject = Subject(model, scores, where.name, Bench("cpu"), kept)
    layers = _layers(subject, how, layer)
    raw = how.graph(subject, layers)

    copy = raw.ir_model.clone()
    graph = copy.graph
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    names = {name: fresh_name(name, values) for name in ("target", "heatmap", "image")}
    op = Ops(graph, "explainer")
    picture = values[where.name]
    batch = picture.shape[0] if picture.shape is not None else None

    target = ir.Value(name=names["target"], type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([batch]))
    graph.inputs.append(target)
    if raw.cotangent is not None:
        given = values[raw.cotangent]
        given.replace_all_uses_with(
            _cotangent(op, target, values[scores.output], values[scores.tensor], scores)
        )
        graph.inputs.remove(given)
    heat = _heatmap(op, values[MAP], picture, where, how)
    rows, columns = _places(where)
    if fold_preprocess:
        image = _image(names["image"], picture)
        chosen = choose(preprocess, model.metadata, where)
        heat = _laid(op, heat, _fold(op, graph, picture, image, where, chosen))
        picture, rows, columns = image, 1, 2
    heat = op.Identity(heat)
    heat.name, heat.type = names["heatmap"], ir.TensorType(ir.DataType.FLOAT)
    assert picture.shape is not None
    heat.shape = ir.Shape([picture.shape[axis] for axis in (0, rows, columns)])

    graph.outputs.clear()
    graph.outputs.extend([*(values[name] for name in keep), heat])
    prune(copy)
    graph.sort()
    Derivative(rules=raw.rules).mark(copy)
    said = {"method": method, "layer": [one.name for one in layers], "output": scores.output, **names}
    if not fold_preprocess:
        del said["image"]
    copy.metadata_props[METADATA_KEY] = json.dumps(said)
    return Model(with_shapes(copy), model.path)


def _layers(
    subject: Subject, how: Method, selectors: str | int | Sequence[str | int] | None
) -> Sequence[Layer]:
    if how.over == "pixels":
        return []
    several = how.over == "layers"
    if selectors is None:
        return default_layers(subject.model, subject.scores)[:1]
    layers = chosen_layers(subject.model, selectors)
    if len(layers) > 1 and not several:
        raise SelectorError(f"an exported {how.name} takes one layer, not {len(layers)}")
    return layers


def _cotangent(op: Ops, target: ir.Value, answer: ir.Value, like: ir.Value, scores: Scores) -> ir.Value:
    """1 at each picture's target among the scores, 0 elsewhere; shaped like the scores, `like`."""
    flat = op.Reshape(answer, op.ints(0, -1) if scores.batched else op.ints(1, -1))
    if scores.has_places and scores.class_axis is not None:
        element = _best_element(op, target, answer, scores.class_axis)
    else:
        element = op.Where(op.Less(target, 0), _arg_max(op, flat), target)
    one_hot = op.OneHot(element, op.Shape(flat, start=1), np.array([0, 1], np.float32), axis=-1)
    return op.CastLike(op.Reshape(one_hot, op.shape(like)), like)


def _best_element(op: Ops, target: ir.Value, answer: ir.Value, axis: int) -> ir.Value:
    """The element of an answer [N, ...] that holds the class at the place where it is strongest, [N]."""
    assert answer.shape is not None
    rank = len(answer.shape)
    order = [*(place for place in range(rank) if place != axis), axis]
    moved = op.Transpose(answer, perm=order)
    classes = op.Shape(moved, start=rank - 1)
    table = op.Reshape(moved, op.Concat(op.ints(0, -1), classes, axis=0))
    top = _arg_max(op, op.ReduceMax(table, op.ints(1), keepdims=0))
    chosen = op.Where(op.Less(target, 0), top, target)
    # Counted as the answer lies in memory, then moved as the answer is.
    count = op.Squeeze(op.Shape(op.Reshape(answer, op.ints(0, -1)), start=1))
    inner = op.Reshape(op.Range(op.scalar(0), count, op.scalar(1)), op.Shape(answer, start=1))
    places = op.Reshape(
        op.Transpose(inner, perm=[one - 1 for one in order[1:]]), op.Concat(op.ints(-1), classes, axis=0)
    )
    column = op.Unsqueeze(chosen, op.ints(1, 2))
    own = op.Expand(column, op.Concat(op.Shape(table, end=2), op.ints(1), axis=0))
    best = _arg_max(op, op.Squeeze(op.GatherElements(table, own, axis=2), op.ints(2)))
    return op.GatherND(
        places, op.Concat(op.Unsqueeze(best, op.ints(1)), op.Unsqueeze(chosen, op.ints(1)), axis=1)
    )


def _arg_max(op: Ops, rows: ir.Value) -> ir.Value:
    return op.ArgMax(rows, axis=1, keepdims=0)


def _heatmap(op: Ops, raw: ir.Value, picture: ir.Value, where: PictureInput, how: Method) -> ir.Value:
    """The raw map as `heatmap_of` shows it: what is positive, at the input's size, with a maximum of 1."""
    inner = op.ints(*range(1, _rank(raw)))
    over_pixels = _rank(raw) == 4
    if how.relative:
        raw = op.Sub(raw, op.ReduceMin(raw, inner, keepdims=1))
    height, width = (op.Squeeze(op.shape(picture, axis, axis + 1)) for axis in _places(where))
    if over_pixels:
        channels = op.ints(3 if where.layout == "NHWC" else 1)
        strength = (
            op.ReduceSum(raw, channels, keepdims=0)
            if how.signed
            else op.ReduceMax(op.Abs(raw), channels, keepdims=0)
        )
        positive = op.Cast(op.Relu(strength), to=ir.DataType.FLOAT)
        highest = _percentile(op, positive)
        highest = op.Where(op.Greater(highest, 0), highest, _highest(op, positive))
    else:
        positive = op.Cast(op.Relu(raw), to=ir.DataType.FLOAT)
        positive = resized(op, op.Div(positive, _or_one(op, _highest(op, positive))), height, width)
        highest = _highest(op, positive)
    heat = op.Min(op.Div(positive, _or_one(op, highest)), 1.0)
    # What is not finite makes a sum of zeros NaN; such a map is never painted.
    zeros = op.ReduceSum(op.Mul(raw, 0), inner, keepdims=0)
    return op.Where(op.Equal(op.Reshape(zeros, op.ints(-1, 1, 1)), 0), heat, 0)


def _places(where: PictureInput) -> tuple[int, int]:
    """The axes of rows and columns of the model's input."""
    return (1, 2) if where.layout == "NHWC" else (2, 3)


def _highest(op: Ops, maps: ir.Value) -> ir.Value:
    return op.ReduceMax(maps, op.ints(1, 2), keepdims=1)


def _percentile(op: Ops, maps: ir.Value) -> ir.Value:
    """The value below which `_PERCENTILE` of a map's numbers lie, as numpy.percentile has it, [N, 1, 1]."""
    flat = op.Reshape(maps, op.ints(0, -1))
    count = op.Shape(flat, start=1)
    position = op.Mul(op.Sub(count, 1), _PERCENTILE)
    below = op.Div(position, 100)
    share = op.Div(op.Cast(op.Mod(position, 100), to=ir.DataType.FLOAT), 100.0)
    largest, _ = op.emit("TopK", [flat, op.Sub(count, below)], {}, outputs=2)
    last = op.Sub(op.Sub(count, below), 1)
    low = op.Gather(largest, last, axis=1)
    high = op.Gather(largest, op.Max(op.Sub(last, 1), 0), axis=1)
    return op.Unsqueeze(op.Add(low, op.Mul(share, op.Sub(high, low))), op.ints(2))


def _or_one(op: Ops, highest: ir.Value) -> ir.Value:
    return op.Where(op.Greater(highest, 0), highest, 1)


def _rank(value: ir.Value) -> int:
    assert value.shape is not None
    return len(value.shape)


def _image(name: str, picture: ir.Value) -> ir.Value:
    """The input that takes a picture of any size in the model's input's place."""
    assert picture.shape is not None
    shape = ir.Shape([picture.shape[0], f"{name}_height", f"{name}_width", 3])
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.UINT8), shape=shape)


def _fold(
    op: Ops, graph: ir.Graph, picture: ir.Value, image: ir.Value, where: PictureInput, preprocess: Preprocess
) -> Folded:
    """Put the preprocessing of a picture in the place of the model's input."""
    height, width = preprocess.size or (where.height, where.width)
    if height is None or width is None:
        raise ShapeError(
            f"input {where.name!r} leaves its size open, so a folded preprocessing must say it; give a size"
        )
    made = folded(op, image, where, preprocess, (height, width))
    picture.replace_all_uses_with(made.value)
    graph.inputs[list(graph.inputs).index(picture)] = image
    return made


def _laid(op: Ops, heat: ir.Value, made: Folded) -> ir.Value:
    """A heatmap of the model's input on the picture that it was cut from; 0 beyond."""
    for axis, span in ((1, made.down), (2, made.across)):
        cells = op.Squeeze(op.Shape(heat, start=axis, end=axis + 1))
        scale = op.Div(exact(op, cells), op.Sub(span.stop, span.start))
        start = op.Mul(op.Neg(span.start), scale)
        stop = op.Mul(op.Sub(exact(op, span.length), span.start), scale)
        heat = spread(op, weights(op, span.length, cells, start, stop, bounded=True), heat, axis)
    return op.Clip(heat, 0.0, 1.0)
