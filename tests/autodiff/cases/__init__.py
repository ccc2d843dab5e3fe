"""The case table: one file per family of operators, as `onnxviz/autodiff/rules` has them."""

import importlib
import pkgutil

from autodiff.cases.table import CASES

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["CASES"]
