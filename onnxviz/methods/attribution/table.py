"""All attribution methods, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from onnxviz.errors import SelectorError, did_you_mean
from onnxviz.methods.attribution.attention import ATTENTION
from onnxviz.methods.attribution.cams import GRADIENT_CAMS
from onnxviz.methods.attribution.composed import COMPOSED
from onnxviz.methods.attribution.contrast import CONTRASTS
from onnxviz.methods.attribution.full_grad import FULL_GRAD
from onnxviz.methods.attribution.layered import LAYERED
from onnxviz.methods.attribution.lime import LIME
from onnxviz.methods.attribution.method import Method
from onnxviz.methods.attribution.occlusion import OCCLUSION
from onnxviz.methods.attribution.paths import PATHS
from onnxviz.methods.attribution.pixels import PIXEL_GRADIENTS
from onnxviz.methods.attribution.rise import RISE
from onnxviz.methods.attribution.sampled import SAMPLED
from onnxviz.methods.attribution.shapley import SHAPLEY
from onnxviz.methods.attribution.sobol import SOBOL

FAMILIES: Mapping[str, tuple[Method, ...]] = MappingProxyType(
    {
        "Class activation maps": (*GRADIENT_CAMS, *CONTRASTS, *LAYERED, FULL_GRAD),
        "Attention": ATTENTION,
        "Gradients over the pixels": (*PIXEL_GRADIENTS, *PATHS),
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
