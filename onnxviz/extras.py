"""Packages that come with an extra of this one, imported only when they are used."""

from importlib import import_module
from typing import Any

from onnxviz.errors import DependencyError


def required(module: str, extra: str) -> Any:
    """A module of a package that comes with an extra.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise DependencyError(
            f'{module.partition(".")[0]} is not installed; pip install "onnxviz[{extra}]"'
        ) from None
