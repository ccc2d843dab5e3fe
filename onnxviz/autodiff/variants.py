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
from onnxviz.graph.ops import Ops, rank_of


def _deconvnet_relu(op: Ops, _node: ir.Node, g: ir.Value) -> list[Answer]:
    """Rectify what comes down, whatever the unit did on the way up (Zeiler & Fergus 2014, section 2.1)."""
    return [op.Relu(g)]


def _guided_relu(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
    """Pass what is positive on both ways (Springenberg et al. 2015, figure 1)."""
    return list(gradient_of(op, node, op.Relu(g)))


def _redirected_relu(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
    """Wake a dead sample: where nothing passes, what would raise an input below 0 does.

    The redirected ReLU of lucid, for an ascent: `g` says where the output is to go.
    """
    (plain,) = gradient_of(op, node, g)
    return [_woken(op, plain, g, op.And(op.Less(node.inputs[0], 0), op.Less(g, 0)))]


def _redirected_clip(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
    """The same for both ends of a clip, a ReLU6 say: what would lead back into its range passes."""
    plain, *others = gradient_of(op, node, g)
    x, low, high = (*node.inputs, None, None)[:3]
    outwards = []
    if low is not None:
        outwards.append(op.And(op.Less(x, low), op.Less(g, 0)))
    if high is not None:
        outwards.append(op.And(op.Greater(x, high), op.Greater(g, 0)))
    if not outwards:
        return [plain, *others]
    return [_woken(op, plain, g, outwards[0] if len(outwards) == 1 else op.Or(*outwards)), *others]


def _woken(op: Ops, plain: ir.Value, g: ir.Value, outwards: ir.Value) -> ir.Value:
    """The plain cotangent of each sample that has one; else `g`, but for what leads outwards."""
    rest = op.ints(*range(1, rank_of(g)))
    alive = op.Greater(op.ReduceMax(op.Abs(plain), rest, keepdims=1), 0)
    return op.Where(alive, plain, op.Where(outwards, 0, g))


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
REDIRECTED = STRAIGHT_THROUGH.override(
    "redirected-relu", {"Relu": _redirected_relu, "Clip": _redirected_clip}
)

GRADIENTS = (GRADIENT, STRAIGHT_THROUGH, GUIDED_BACKPROP, DECONVNET, REDIRECTED)

RULE_SETS: Mapping[str, RuleSet] = MappingProxyType(
    {rules.name: rules for rules in (*GRADIENTS, *LRP_RULE_SETS)}
)
