"""Maps made of several layers: LayerCAM's fusion, RefineCAM, FullGrad."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.errors import ShapeError
from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution import fragments
from onnxviz.methods.attribution.cams import by_graph, cam_graph
from onnxviz.methods.attribution.layers import stages
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import Question
from onnxviz.views.heatmaps import resample

_LAYER_CAM = cam_graph(fragments.layer_cam)
_GRAD_CAM_PLUS_PLUS = by_graph(cam_graph(fragments.grad_cam_plus_plus))


def layer_cam(question: Question, layers: Sequence[Layer], *, gamma: float = 2.0) -> Maps:
    """sum_k ReLU(g_ki) A_ki (Jiang et al. 2021); of several layers the largest of tanh(gamma M / max M).

    Args:
        question: What is asked.
        layers: One or several; the maps of several meet at the input's size.
        gamma: How much weak regions are raised before the fusion (equation 9).
    """
    if len(layers) == 1:
        return by_graph(_LAYER_CAM)(question, layers)
    each = [by_graph(_LAYER_CAM)(question, [layer]) for layer in layers]
    fused = [
        np.max([np.tanh(gamma * resample(_scaled(one), question.query.input_size)) for one in row], axis=0)
        for row in zip(*(maps.raw for maps in each), strict=True)
    ]
    return Maps(fused, each[0].rules, "graph", layers=tuple(layers))


def refine_cam(question: Question, layers: Sequence[Layer]) -> Maps:
    """The product of several layers' Grad-CAM++ maps, each scaled to [0, 1] (arXiv:2605.14641).

    Args:
        question: What is asked.
        layers: Two or more; where fewer are given, the last of each resolution.

    Raises:
        ShapeError: There are no two layers.
    """
    chosen = list(layers) if len(layers) > 1 else stages(question.model, question.scores)
    if len(chosen) < 2:
        raise ShapeError("refine-cam needs layers of two resolutions, and this model has one; try grad-cam++")
    each = [_GRAD_CAM_PLUS_PLUS(question, [layer]) for layer in chosen]
    refined = [
        np.prod([resample(_scaled(one), question.query.input_size) for one in row], axis=0)
        for row in zip(*(maps.raw for maps in each), strict=True)
    ]
    return Maps(refined, each[0].rules, "graph", layers=tuple(chosen))


def _scaled(raw: Array) -> npt.NDArray[np.float64]:
    """What is positive in a map, with a maximum of 1; zeros where nothing is."""
    positive = np.maximum(raw.astype(np.float64), 0)
    top = positive.max()
    return np.asarray(positive / top if top > 0 else positive)


LAYERED = (
    Method(
        "layer-cam",
        layer_cam,
        "layers",
        "sum_k ReLU(g_ki) A_ki; of several layers the largest of tanh(gamma M / max M)",
        "1 F + the B behind the layer, for each layer",
        "Jiang et al. 2021, IEEE TIP 30",
        graph=_LAYER_CAM,
    ),
    Method(
        "refine-cam",
        refine_cam,
        "layers",
        "the product over layers of Grad-CAM++, each scaled to [0, 1]",
        "1 F + the B behind the layer, for each layer",
        "arXiv:2605.14641",
    ),
)
