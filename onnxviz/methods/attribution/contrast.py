"""CAMs that look beyond one score's gradient: FinerCAM's contrast, ShapleyCAM's curvature."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import ShapeError, TargetError
from onnxviz.graph.extend import extend
from onnxviz.graph.feature_maps import flattened, restored
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.attribution import fragments
from onnxviz.methods.attribution.cams import GRAD_CAM, by_graph
from onnxviz.methods.attribution.method import MAP, Array, Maps, Method
from onnxviz.methods.attribution.question import Question, Subject
from onnxviz.methods.target import Target

_SIMILAR, _GAMMA = 3, 0.6
_REST, _PRODUCT = "onnxviz.rest", "onnxviz.product"


def finer_cam(
    question: Question,
    layers: Sequence[Layer],
    *,
    base: str = "grad-cam",
    similar: int = _SIMILAR,
    gamma: float = _GAMMA,
) -> Maps:
    """Another CAM of y_c less gamma times the mean of the scores most like it (Zhang et al. 2025).

    Args:
        question: What is asked.
        layers: The layer.
        base: The CAM to take.
        similar: How many scores: those nearest to y_c.
        gamma: How much of them is taken away.
    """
    from onnxviz.methods.attribution.table import find_method

    rows = question.rows(range(len(question)))
    finer = [
        finer_target(target, row, similar, gamma)
        for (_, target), row in zip(question.pairs, rows, strict=True)
    ]
    return find_method(base)(question.aimed(finer), layers, {})


def finer_graph(subject: Subject, layers: Sequence[Layer]) -> Model:
    """The graph of FinerCAM over Grad-CAM: a class's cotangent becomes that of the class less its like."""
    base = GRAD_CAM(replace(subject, keep=(*subject.keep, subject.scores.tensor)), layers)

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        assert base.cotangent is not None
        given, scores = values[base.cotangent], values[subject.scores.tensor]
        c, y = (op.Reshape(value, op.ints(0, -1)) for value in (given, scores))
        own = op.ReduceSum(op.Mul(c, y), op.ints(1), keepdims=1)
        distance = op.Where(op.Greater(c, 0), float(np.finfo(np.float16).max), op.Abs(op.Sub(y, own)))
        count = op.Min(op.ints(_SIMILAR), op.Sub(op.Shape(y, start=1), 1))
        _, nearest = op.emit("TopK", [distance, count], {"largest": 0}, outputs=2)
        nearest.type = ir.TensorType(ir.DataType.INT64)
        like = op.OneHot(nearest, op.Shape(y, start=1), np.array([0, 1], np.float32), axis=-1)
        mean = op.CastLike(op.ReduceMean(like, op.ints(1), keepdims=0), c)
        finer = op.Reshape(op.Sub(c, op.Mul(mean, _GAMMA)), op.Shape(given))
        written = set(op.nodes)
        for use in list(given.uses()):
            if use.node not in written:
                use.node.replace_input_with(use.idx, finer)
        return {}

    return subject.rewrite(
        ("finer-cam", layers[0].tensor), lambda: extend(base, "finer", write, (*subject.keep, MAP))
    )


def finer_target(target: Target, row: Array, similar: int = _SIMILAR, gamma: float = _GAMMA) -> Target:
    """A class less what resembles it: y_c - gamma mean of the scores y_d nearest to y_c.

    Raises:
        TargetError: The target is not one class.
    """
    if len(target.terms) != 1 or target.index is None:
        raise TargetError(f"finer-cam contrasts one class with those like it; {target.text!r} is no class")
    [(place, weight)] = target.terms
    distance = np.abs(row.astype(np.float64) - float(row[place]))
    distance[place] = np.inf
    nearest = np.argsort(distance, kind="stable")[: min(similar, len(row) - 1)]
    others = tuple((int(one), -gamma * weight / len(nearest)) for one in nearest)
    return Target(target.text, (*target.terms, *others), target.index)


def shapley_graph(subject: Subject, layers: Sequence[Layer]) -> Model:
    """The graph of ShapleyCAM: sum_k w_k A_k with w_k = mean(g - H A / 2) (Cai 2025, equation 11).

    g and H are the first two derivatives by A of ReST, y_c + log softmax(y)_c. As H A + g is the gradient of
    sum(g A), the graph of the gradient is differentiated once more.
    """
    [layer] = layers
    dtype = subject.model.tensor(layer.tensor).dtype
    if dtype is None or not dtype.is_floating_point():
        raise ShapeError(
            f"layer {layer.name!r} holds integers, and shapley-cam differentiates twice; choose one of floats"
        )
    return subject.rewrite(("shapley-cam", layer.tensor), lambda: _shapley(subject, layer))


def _shapley(subject: Subject, layer: Layer) -> Model:
    at, of = layer.tensor, subject.scores.tensor

    def rest(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        scores = values[of]
        flat = op.Reshape(scores, op.ints(0, -1))
        both = op.Add(flat, op.LogSoftmax(flat, axis=-1))
        return {_REST: op.Reshape(both, op.Shape(scores))}

    first = gradient(
        extend(subject.model, "rest", rest, (at, *subject.keep)), of=_REST, wrt=at, keep=(at, *subject.keep)
    )
    slope = first.gradients[at]

    def product(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        return {_PRODUCT: op.ReduceSum(op.Mul(values[slope], values[at]), keepdims=0)}

    keep = (at, slope, *subject.keep)
    second = gradient(extend(first, "product", product, keep), of=_PRODUCT, wrt=at, keep=keep)

    def cam(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        g, a = values[slope], values[at]
        curved = op.Sub(values[second.gradients[at]], g)
        bent = op.Sub(g, op.Mul(curved, 0.5))
        a, bent = (flattened(op, value, layer) for value in (a, bent))
        return {MAP: restored(op, fragments.grad_cam(op, a, bent), values[at], layer)}

    return extend(second, MAP, cam, subject.keep, cotangent=first.cotangent)


CONTRASTS = (
    Method(
        "finer-cam",
        finer_cam,
        "base",
        "another CAM of y_c - gamma mean of the scores most like it",
        "the base + 1 F",
        "Zhang et al. 2025, arXiv:2501.11309",
        graph=finer_graph,
    ),
    Method(
        "shapley-cam",
        by_graph(shapley_graph),
        "layer",
        "as Grad-CAM with w_k = mean(g - H A / 2) of ReST, y_c + log softmax(y)_c",
        "1 F + 2 B behind the layer",
        "Cai 2025, arXiv:2501.06261",
        graph=shapley_graph,
    ),
)
