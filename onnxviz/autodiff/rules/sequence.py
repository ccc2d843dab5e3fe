"""Sequences and optionals: the cotangent of a sequence is one as long, whose tensors have the same shapes.

The cotangent of an optional is that of what it holds.
"""

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.backward import Backward
from onnxviz.autodiff.functions import function_body
from onnxviz.autodiff.rules.helpers import Answers, data
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops, constant_of

vjp("SequenceMap")(function_body)


@vjp("Optional", "OptionalGetElement")
def _optional(_op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return [g for _ in node.inputs]


@vjp("SequenceConstruct")
def _construct(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    return [op.SequenceAt(g, op.scalar(place)) for place in range(len(node.inputs))]


@vjp("SequenceAt")
def _at(op: Backward, node: ir.Node, g: ir.Value) -> Answers:
    return op.at(data(node), _from_the_front(op, node), g), ZERO


@vjp("SequenceInsert")
def _insert(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    rest = node.inputs[2:]
    place = _place_of_inserted(op, *rest)
    return op.SequenceErase(g, place), op.SequenceAt(g, place), *(ZERO for _ in rest)


@vjp("SequenceErase")
def _erase(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    s, rest = data(node), node.inputs[1:]
    place = _from_the_front(op, node) if rest else None
    erased = op.SequenceAt(s, place or op.scalar(-1))
    return op.SequenceInsert(g, op.zeros_like(erased), place), *(ZERO for _ in rest)


@vjp("SplitToSequence")
def _split(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    rest = node.inputs[1:]
    stacked = not rest and not node.attributes.get_int("keepdims", 1)
    joined = op.ConcatFromSequence(g, axis=node.attributes.get_int("axis", 0), new_axis=int(stacked))
    return joined, *(ZERO for _ in rest)


@vjp("ConcatFromSequence")
def _concat(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    s, axis = data(node), node.attributes.get_int("axis")
    if node.attributes.get_int("new_axis", 0):
        return (op.SplitToSequence(g, axis=axis, keepdims=0),)
    sizes = op.nested([op.element(s)], lambda op, x: [op.Shape(x, start=axis, end=axis + 1 or None)])
    each = op.SequenceMap(s, body=sizes)
    each.type = ir.SequenceType(ir.TensorType(ir.DataType.INT64))
    widths = op.ConcatFromSequence(each, axis=0)
    return (op.SplitToSequence(g, widths, axis=axis),)


def _from_the_front(op: Ops, node: ir.Node) -> ir.Value:
    """The place that a node names, counted from the front: a negative one means another when one is gone."""
    s, place = node.inputs
    assert place is not None
    known = constant_of(place)
    if known is not None and known >= 0:
        return place
    return op.Mod(op.Cast(place, to=int(ir.DataType.INT64)), op.SequenceLength(s))


def _place_of_inserted(op: Ops, place: ir.Value | None = None) -> ir.Value:
    """Where an element lies that was inserted at `place`: at -1, before the last, it is the second last."""
    if place is None:
        return op.scalar(-1)
    known = constant_of(place)
    if known is not None:
        return op.constant(np.where(known < 0, known - 1, known))
    return op.Where(op.Less(place, 0), op.Sub(place, 1), place)
