"""See what an exported ONNX model sees, on the runtime that ships it.

    import onnxviz

    found = onnxviz.explain("model.onnx", "cat.png", method="grad-cam")
    found.save("cat")

Names are loaded when first used: importing this package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxviz.auditing.audit import audit
    from onnxviz.autodiff.pullback import gradient
    from onnxviz.autodiff.ruleset import ZERO, RuleSet, vjp
    from onnxviz.errors import OnnxvizError
    from onnxviz.graph.expose import expose
    from onnxviz.graph.layers import Layer
    from onnxviz.graph.model import Model, load
    from onnxviz.graph.ops import Ops
    from onnxviz.methods.activations import activations
    from onnxviz.methods.deconv import deconv
    from onnxviz.methods.explain import explain
    from onnxviz.methods.explainer import explainer
    from onnxviz.methods.explanation import Explanation
    from onnxviz.methods.kernels import kernels
    from onnxviz.methods.maximize import Maximized, maximize
    from onnxviz.methods.projection import Projections
    from onnxviz.methods.target import Target
    from onnxviz.methods.top.images import TopImages, top_images
    from onnxviz.runtime.session import Session
    from onnxviz.vision.preprocess import Preprocess

__version__ = "0.1.0"

_HOMES = {
    "Explanation": "methods.explanation",
    "Layer": "graph.layers",
    "Maximized": "methods.maximize",
    "Model": "graph.model",
    "OnnxvizError": "errors",
    "Ops": "graph.ops",
    "Preprocess": "vision.preprocess",
    "Projections": "methods.projection",
    "RuleSet": "autodiff.ruleset",
    "Session": "runtime.session",
    "Target": "methods.target",
    "TopImages": "methods.top.images",
    "ZERO": "autodiff.ruleset",
    "activations": "methods.activations",
    "audit": "auditing.audit",
    "deconv": "methods.deconv",
    "explain": "methods.explain",
    "explainer": "methods.explainer",
    "expose": "graph.expose",
    "gradient": "autodiff.pullback",
    "kernels": "methods.kernels",
    "load": "graph.model",
    "maximize": "methods.maximize",
    "top_images": "methods.top.images",
    "vjp": "autodiff.ruleset",
}

__all__ = [
    "ZERO",
    "Explanation",
    "Layer",
    "Maximized",
    "Model",
    "OnnxvizError",
    "Ops",
    "Preprocess",
    "Projections",
    "RuleSet",
    "Session",
    "Target",
    "TopImages",
    "activations",
    "audit",
    "deconv",
    "explain",
    "explainer",
    "expose",
    "gradient",
    "kernels",
    "load",
    "maximize",
    "top_images",
    "vjp",
]


def __getattr__(name: str) -> Any:
    """Load a public name, or a module such as `onnxviz.testing`, when it is first used."""
    if name in _HOMES:
        value = getattr(import_module(f"onnxviz.{_HOMES[name]}"), name)
    elif name in ("errors", "testing"):
        value = import_module(f"onnxviz.{name}")
    else:
        raise AttributeError(f"module 'onnxviz' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*__all__, "__version__", "errors", "testing"])
