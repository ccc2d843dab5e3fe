"""All attribution methods, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from onnxviz.errors import SelectorError, did_you_mean
from onnxviz.methods.attribution.ablation import ABLATIONS
from onnxviz.methods.attribution.attention import ATTENTION
from onnxviz.methods.attribution.cams import GRADIENT_CAMS
from onnxviz.methods.attribution.composed import COMPOSED
from onnxviz.methods.attribution.contrast import CONTRASTS
from onnxviz.methods.attribution.deep_lift import DEEP_LIFT
from onnxviz.methods.attribution.full_grad import FULL_GRAD
from onnxviz.methods.attribution.layered import LAYERED
from onnxviz.methods.attribution.lime import LIME
from onnxviz.methods.attribution.method import Method
from onnxviz.methods.attribution.null import CONTROLS
from onnxviz.methods.attribution.occlusion import OCCLUSION
from onnxviz.methods.attribution.paths import PATHS
from onnxviz.methods.attribution.pixels import PIXEL_GRADIENTS
from onnxviz.methods.attribution.recipro import RECIPROCALS
from onnxviz.methods.attribution.rise import RISE
from onnxviz.methods.attribution.sampled import SAMPLED
from onnxviz.methods.attribution.score_cams import SCORE_CAMS
from onnxviz.methods.attribution.shapley import SHAPLEY
from onnxviz.methods.attribution.sobol import SOBOL

FAMILIES: Mapping[str, tuple[Method, ...]] = MappingProxyType(
    {
        "Class activation maps": (*GRADIENT_CAMS, *CONTRASTS, *LAYERED, FULL_GRAD),
        "Class activation maps without a gradient": (*SCORE_CAMS, *ABLATIONS, *RECIPROCALS, *CONTROLS),
        "Attention": ATTENTION,
        "Gradients over the pixels": (*PIXEL_GRADIENTS, *PATHS, DEEP_LIFT),
        "Perturbation": (OCCLUSION, RISE, LIME, *SHAPLEY, SOBOL),
        "Over another method": (*SAMPLED, *COMPOSED),
    }
)

METHODS: Mapping[str, Method] = MappingProxyType(
    {method.name: method for family in FAMILIES.values() for method in family}
)


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        SelectorError: There is none; the nearest are suggested.
    """
    if name not in METHODS:
        near = did_you_mean(name, METHODS)
        raise SelectorError(f"no method {name!r}{near}; there are {', '.join(METHODS)}")
    return METHODS[name]
