"""Objectives from text: `channel(conv10, 285) - 0.5 * channel(conv10, 281)`; nothing in it is executed."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxviz.errors import SelectorError, did_you_mean
from onnxviz.methods.ascent.objective import (
    Alignment,
    Diversity,
    Energy,
    Interpolate,
    Keep,
    Objective,
    Score,
    channel,
    direction,
    neuron,
)

GRAMMAR = (
    "channel(LAYER, K), neuron(LAYER, K[, ROW, COLUMN]), layer(LAYER), direction(LAYER, FILE.npy[, POWER]), "
    "target(T), interpolate(LAYER, K1, K2), diversity(LAYER), alignment(LAYER), keep(OBJECTIVE); "
    "with + - * / and numbers; names of layers with other signs than letters in quotes"
)


def _direction(layer: str | int, file: str, power: float = 0.0) -> Objective:
    try:
        vector = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise SelectorError(f"direction: cannot read {file!r} as a .npy file of numbers: {err}") from None
    if not isinstance(vector, np.ndarray) or vector.ndim != 1 or vector.dtype.kind not in "fiu":
        raise SelectorError(f"direction: {file!r} holds no vector of numbers")
    return direction(layer, vector, power)


_CALLS: Mapping[str, Callable[..., Objective]] = {
    "channel": channel,
    "neuron": neuron,
    "layer": Energy,
    "direction": _direction,
    "target": Score,
    "interpolate": Interpolate,
    "diversity": Diversity,
    "alignment": Alignment,
    "keep": Keep,
}
_SIGNS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse_objective(text: str) -> Objective:
    """The objective that a text says.

    Raises:
        SelectorError: It cannot be read; the message says where, and what can be written.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SelectorError(f"cannot read the objective {text!r}; write {GRAMMAR}") from None
    try:
        found = _read(tree.body)
    except RecursionError:
        raise SelectorError("the objective is nested too deeply") from None
    if not isinstance(found, Objective):
        raise SelectorError(f"{text!r} is no objective; write {GRAMMAR}")
    return found


def _read(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
        return node.value
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_read(node.value)}.{node.attr}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number_or_objective(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        return _combined(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _called(node.func.id, [_read(argument) for argument in node.args])
    raise SelectorError(f"cannot read {ast.unparse(node)!r} in an objective; write {GRAMMAR}")


def _combined(node: ast.BinOp) -> Any:
    left, right = _number_or_objective(node.left), _number_or_objective(node.right)
    if isinstance(node.op, ast.Div) and (isinstance(right, Objective) or right == 0):
        raise SelectorError(f"{ast.unparse(node)!r}: an objective is divided by a number other than 0")
    return _SIGNS[type(node.op)](left, right)


def _number_or_objective(node: ast.AST) -> Any:
    found = _read(node)
    if isinstance(found, str | bool):
        raise SelectorError(f"{ast.unparse(node)!r} is neither a number nor an objective; write {GRAMMAR}")
    return found


def _called(name: str, arguments: list[Any]) -> Objective:
    if name not in _CALLS:
        raise SelectorError(f"no objective {name!r}{did_you_mean(name, _CALLS)}; write {GRAMMAR}")
    try:
        _check(name, arguments)
        return _CALLS[name](*arguments)
    except TypeError:
        raise SelectorError(f"{name} takes other arguments; write {GRAMMAR}") from None


def _check(name: str, arguments: list[Any]) -> None:
    """Refuse arguments of another kind than the objective takes."""
    kinds: Mapping[str, tuple[Any, ...]] = {
        "channel": (str | int, int),
        "neuron": (str | int, int, int, int),
        "layer": (str | int,),
        "direction": (str | int, str, int | float),
        "target": (str | int,),
        "interpolate": (str | int, int, int),
        "diversity": (str | int,),
        "alignment": (str | int,),
        "keep": (Objective,),
    }
    for argument, kind in zip(arguments, kinds[name], strict=False):
        if isinstance(argument, bool) or not isinstance(argument, kind):
            raise TypeError(name)
