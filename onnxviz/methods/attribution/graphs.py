"""The CAMs that take no gradient, by name, each as what writes it as one graph.

Each is called with a `Site`, the tensors to output before the map, and the method's own settings; `base` (an
array) stands for `baseline`, and `seed` is a setting where the method draws.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from onnxviz.graph.model import Model
from onnxviz.methods.attribution import looped, looped_scores
from onnxviz.methods.attribution.null import random_model

GRAPHS: Mapping[str, Callable[..., Model]] = MappingProxyType(
    {
        "ablation-cam": looped.ablation_cam,
        "recipro-cam": looped.recipro_cam,
        "score-cam": looped_scores.score_cam,
        "faster-score-cam": looped_scores.faster_score_cam,
        "ss-cam": looped_scores.ss_cam,
        "is-cam": looped_scores.is_cam,
        "random": random_model,
    }
)
