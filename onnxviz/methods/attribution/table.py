"""All attribution methods, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from onnxviz.errors import SelectorError, did_you_mean
from onnxviz.methods.attribution.method import Method

METHODS: Mapping[str, Method] = MappingProxyType({})


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        SelectorError: There is none; the nearest are suggested.
    """
    if name not in METHODS:
        near = did_you_mean(name, METHODS)
        raise SelectorError(f"no method {name!r}{near}; there are {', '.join(METHODS)}")
    return METHODS[name]
