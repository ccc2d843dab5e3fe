"""Maps made of several layers: LayerCAM's fusion, RefineCAM, FullGrad."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from onnxviz.errors import ShapeError
from onnxviz.graph.extend import extend
from onnxviz.graph.feature_maps import flattened, restored
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.graph.resample import resized
from onnxviz.methods.attribution import fragments
from onnxviz.methods.attribution.cams import by_graph, cam_graph, floats_at
from onnxviz.methods.attribution.fragments import Fragment
from onnxviz.methods.attribution.layers import stages
from onnxviz.methods.attribution.method import MAP, Maps, Method
from onnxviz.methods.attribution.question import Question, Subject

Fuse: TypeAlias = Callable[[Ops, Sequence[ir.Value]], ir.Value]

_LAYER_CAM = cam_graph(fragments.layer_cam)
GAMMA = 2.0


def layer_cam(question: Question, layers: Sequence[Layer], *, gamma: float = GAMMA) -> Maps:
    """sum_k ReLU(g_ki) A_ki (Jiang et al. 2021); of several layers the largest of tanh(gamma M / max M).

    Args:
        question: What is asked.
        layers: One or several; the maps of several meet at the input's size.
        gamma: How much weak regions are raised before the fusion (equation 9).
    """
    if len(layers) == 1:
        return by_graph(_LAYER_CAM)(question, layers)
    model = fused(question.subject, layers, fragments.layer_cam, largest(gamma))
    return Maps(list(question.run(model)[MAP].astype(np.float64)), model.rules, "graph", layers=tuple(layers))


def layer_cam_graph(subject: Subject, layers: Sequence[Layer]) -> Model:
    """The graph of LayerCAM, at one layer or fused over several."""
    if len(layers) == 1:
        return _LAYER_CAM(subject, layers)
    return fused(subject, layers, fragments.layer_cam, largest(GAMMA))


def refine_cam(question: Question, layers: Sequence[Layer]) -> Maps:
    """The product of several layers' Grad-CAM++ maps, each scaled to [0, 1] (arXiv:2605.14641).

    Args:
        question: What is asked.
        layers: Two or more; where fewer are given, the last of each resolution.

    Raises:
        ShapeError: There are no two layers.
    """
    chosen = _refined_at(question.subject, layers)
    model = refine_graph(question.subject, chosen)
    return Maps(list(question.run(model)[MAP].astype(np.float64)), model.rules, "graph", layers=tuple(chosen))


def refine_graph(subject: Subject, layers: Sequence[Layer]) -> Model:
    """The graph of RefineCAM, which meets its layers in one backward pass."""
    return fused(subject, _refined_at(subject, layers), fragments.grad_cam_plus_plus, product)


def fused(subject: Subject, layers: Sequence[Layer], fragment: Fragment, fuse: Fuse) -> Model:
    """The graph of a fragment at several layers, each map scaled to [0, 1] at the input's size, then fused.

    One backward pass serves them all.
    """
    at = [layer.tensor for layer in layers]
    derived = subject.gradient(at, keep=at)

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        picture, rows = values[subject.input], subject.rows
        height, width = (op.Squeeze(op.shape(picture, axis, axis + 1)) for axis in (rows, rows + 1))
        maps = []
        for layer in layers:
            activation, slope = floats_at(op, subject.model, derived, layer.tensor, values)
            a, g = (flattened(op, value, layer) for value in (activation, slope))
            plane = restored(op, fragment(op, a, g), activation, layer)
            maps.append(resized(op, _scaled(op, plane), height, width))
        return {MAP: fuse(op, maps)}

    return subject.rewrite((fragment, *at, fuse), lambda: extend(derived, MAP, write, subject.keep))


@cache
def largest(gamma: float) -> Fuse:
    """The largest of tanh(gamma M) over the layers."""

    def fuse(op: Ops, maps: Sequence[ir.Value]) -> ir.Value:
        value: ir.Value = op.Max(*(op.Tanh(op.Mul(one, gamma)) for one in maps))
        return value

    return fuse


def product(op: Ops, maps: Sequence[ir.Value]) -> ir.Value:
    """The product over the layers."""
    return reduce(op.Mul, maps)


def _refined_at(subject: Subject, layers: Sequence[Layer]) -> list[Layer]:
    chosen = list(layers) if len(layers) > 1 else stages(subject.model, subject.scores)
    if len(chosen) < 2:
        raise ShapeError("refine-cam needs layers of two resolutions, and this model has one; try grad-cam++")
    return chosen


def _scaled(op: Ops, plane: ir.Value) -> ir.Value:
    """What is positive in maps [N, h, w], each with a maximum of 1; zeros where nothing is."""
    positive = op.Relu(plane)
    top = op.ReduceMax(positive, op.ints(1, 2), keepdims=1)
    scaled: ir.Value = op.Div(positive, op.Where(op.Greater(top, 0), top, 1))
    return scaled


LAYERED = (
    Method(
        "layer-cam",
        layer_cam,
        "layers",
        "sum_k ReLU(g_ki) A_ki; of several layers the largest of tanh(gamma M / max M)",
        "1 F + the B behind the first layer",
        "Jiang et al. 2021, IEEE TIP 30",
        graph=layer_cam_graph,
    ),
    Method(
        "refine-cam",
        refine_cam,
        "layers",
        "the product over layers of Grad-CAM++, each scaled to [0, 1]",
        "1 F + the B behind the first layer",
        "arXiv:2605.14641",
        graph=refine_graph,
    ),
)
