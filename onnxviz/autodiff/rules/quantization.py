"""Quantisers: constant almost everywhere in truth, the identity within their range by straight-through."""

from collections.abc import Mapping

import onnx_ir as ir

from onnxviz.autodiff.ruleset import Rule

STRAIGHT_THROUGH_RULES: Mapping[str, Rule] = {}


def is_quantiser(node: ir.Node) -> bool:
    """Whether a node turns floats into integers that stand for them."""
    return node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")
