"""Rules and rule sets: which function answers for which operator.

A rule is a function ``(op, node, *cotangents) -> one answer per input of the node``: the cotangents are
those of the node's outputs (None for an output that nothing differentiated reads), `op` writes nodes,
and an answer is the cotangent of an input (a graph value), `ZERO` where the output does not change with
that input, or `None` where the derivative is not written - an error only if that input leads to a target.
An answer of many nodes may be a function that writes them, called only if the input leads to a target.
The rule of a node that reads more than its inputs (a Loop, whose body captures tensors) answers a mapping:
the answer of each value.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, cast

import onnx_ir as ir

from onnxviz.autodiff.functions import Body, function_body, has_function_body, through
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.ops import Ops
from onnxviz.graph.replay import REPLAYED


class _Zero(Enum):
    ZERO = "ZERO"

    def __repr__(self) -> str:
        return "ZERO"


ZERO: Final = _Zero.ZERO
"""The declared zero: the output is constant in this input (a shape, an axis, a comparison)."""

Answer: TypeAlias = ir.Value | Literal[_Zero.ZERO] | Callable[[], ir.Value] | None
Rule: TypeAlias = Callable[..., Sequence[Answer] | Mapping[ir.Value, Answer]]


@dataclass(frozen=True)
class RuleSet:
    """A name, and the rule for each operator: the first special case that applies, else by its type.

    Operators are keyed by type, those outside ONNX's own domain as "domain::Type".
    """

    name: str
    by_type: Mapping[str, Rule] = field(repr=False)
    special: tuple[tuple[Callable[[ir.Node], bool], Rule], ...] = field(default=(), repr=False)

    def find(self, node: ir.Node) -> Rule:
        """The rule for a node; the function body's where the standard defines its operator by one.

        Raises:
            UnsupportedOperator: There is none; the message names the node and the ways out.
        """
        for applies, rule in self.special:
            if applies(node):
                return rule
        kind = operator_key(node)
        if kind in self.by_type:
            return self.by_type[kind]
        if has_function_body(node.domain, node.op_type):
            return function_body
        raise UnsupportedOperator(
            f"no {self.name!r} rule for operator {kind} (node {node_name(node)!r}); "
            f"use the numerical route (--gradient numeric), or register a rule with @vjp({kind!r})"
        )

    def is_constant(self, node: ir.Node) -> bool:
        """Whether a node's operator is declared constant in every input."""
        return self.by_type.get(operator_key(node)) is zero_everywhere

    def override(self, name: str, rules: Mapping[str, Rule]) -> "RuleSet":
        """A rule set of another name that answers for the operators in `rules` and inherits the rest."""
        # A chain and no copy, for what is registered later is inherited too.
        chain = ChainMap(dict(rules), cast(dict[str, Rule], self.by_type))
        return replace(self, name=name, by_type=MappingProxyType(chain))

    def when(self, applies: Callable[[ir.Node], bool], rule: Rule) -> "RuleSet":
        """The same rule set with a special case that comes before all others."""
        return replace(self, special=((applies, rule), *self.special))


_gradient: dict[str, Rule] = {}

GRADIENT: Final = RuleSet("gradient", MappingProxyType(_gradient))
"""The true derivative; every `@vjp` adds to it."""


def vjp(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators, "Type" or "domain::Type", in the rule set `gradient`.

    Raises:
        ValueError: One of the operators has a rule already.
    """

    def register(rule: Rule) -> Rule:
        for operator in operators:
            if operator in _gradient:
                raise ValueError(f"two rules for {operator}")
            _gradient[operator] = rule
        return rule

    return register


def lowering(*operators: str) -> Callable[[Body], Body]:
    """Register how operators, "Type" or "domain::Type", are written in simpler ones; see `functions.through`.

    Raises:
        ValueError: One of the operators has a rule already.
    """

    def register(body: Body) -> Body:
        vjp(*operators)(through(body))
        return body

    return register


def constant_everywhere(*operators: str) -> None:
    """Declare operators whose outputs are piecewise constant: derivative zero in every input."""

    vjp(*operators)(zero_everywhere)


def zero_everywhere(_op: Ops, node: ir.Node, *_cotangents: Any) -> list[Answer]:
    """The rule of what is declared piecewise constant."""
    return [ZERO] * len(node.inputs)


def gradient_of(op: Any, node: ir.Node, *cotangents: ir.Value | None) -> Any:
    """The true gradient of a node: what other rule sets rescale or clip."""
    return GRADIENT.find(node)(op.under(GRADIENT), node, *cotangents)


def operator_key(node: ir.Node) -> str:
    """An operator's key in a rule set."""
    return f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def node_name(node: ir.Node) -> str:
    """What to call a node in a message: its name, else its first output's; a copy has the original's."""
    node = node.meta.get(REPLAYED, node)
    return node.name or (node.outputs[0].name if node.outputs else None) or node.op_type
