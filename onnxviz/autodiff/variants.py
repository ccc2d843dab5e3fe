"""Rule sets that change a few operators of the true gradient and inherit the rest."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import onnx_ir as ir

import onnxviz.autodiff.rules  # noqa: F401 - fills GRADIENT
from onnxviz.autodiff.lrp import LRP_RULE_SETS
from onnxviz.autodiff.rectifiers import is_clip_at_zero, is_quantiser_at_zero
from onnxviz.autodiff.rules.quantization import STRAIGHT_THROUGH_RULES, may_clip, unclipped
from onnxviz.autodiff.ruleset import GRADIENT, ZERO, Answer, RuleSet, gradient_of
from onnxviz.graph.ops import Ops


def _deconvnet_relu(op: Ops, _node: ir.Node, g: ir.Value) -> list[Answer]:
    """Rectify what comes down, whatever the unit did on the way up (Zeiler & Fergus 2014, section 2.1)."""
    return [op.Relu(g)]


def _guided_relu(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
    """Pass what is positive on both ways (Springenberg et al. 2015, figure 1)."""
    return list(gradient_of(op, node, op.Relu(g)))


def _deconvnet_clip(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
    return [op.Relu(g), *[ZERO] * (len(node.inputs) - 1)]


def _deconvnet_quantiser(op: Ops, node: ir.Node, g: ir.Value) -> Any:
    """Pass what comes down, whatever the range cut off on the way up; rectify it if that was a ReLU."""
    rule = unclipped(STRAIGHT_THROUGH, [str(node.outputs[0].name)]).find(node)
    return rule(op, node, op.Relu(g) if is_quantiser_at_zero(node) else g)


def _guided_quantiser(op: Ops, node: ir.Node, g: ir.Value) -> Any:
    return STRAIGHT_THROUGH.find(node)(op, node, op.Relu(g))


STRAIGHT_THROUGH = GRADIENT.override("straight-through", STRAIGHT_THROUGH_RULES)
DECONVNET = (
    STRAIGHT_THROUGH.override("deconvnet", {"Relu": _deconvnet_relu})
    .when(is_clip_at_zero, _deconvnet_clip)
    .when(may_clip, _deconvnet_quantiser)
)
GUIDED_BACKPROP = (
    STRAIGHT_THROUGH.override("guided-backprop", {"Relu": _guided_relu})
    .when(is_clip_at_zero, _guided_relu)
    .when(is_quantiser_at_zero, _guided_quantiser)
)

GRADIENTS = (GRADIENT, STRAIGHT_THROUGH, GUIDED_BACKPROP, DECONVNET)

RULE_SETS: Mapping[str, RuleSet] = MappingProxyType(
    {rules.name: rules for rules in (*GRADIENTS, *LRP_RULE_SETS)}
)
