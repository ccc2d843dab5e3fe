"""The attribution methods that there are, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from onnxviz.errors import SelectorError, did_you_mean


@dataclass(frozen=True)
class Method:
    """An attribution method: over a layer's feature maps, or over the input's own pixels.

    `rules` is the rule set whose gradient it takes, `caveat` what a user should know beside the picture.
    """

    name: str
    over: Literal["layer", "pixels"]
    rules: str = "auto"
    times_input: bool = False
    caveat: str | None = None


_GUIDED = "it looks alike whatever the weights are, and so fails the sanity check of Adebayo et al. 2018"

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("grad-cam", "layer"),
            Method("gradient", "pixels"),
            Method("input-x-gradient", "pixels", times_input=True),
            Method("guided-backprop", "pixels", "guided-backprop", caveat=_GUIDED),
            Method("deconvnet", "pixels", "deconvnet", caveat=_GUIDED),
        )
    }
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
