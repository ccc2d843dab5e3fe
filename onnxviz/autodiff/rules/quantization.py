"""Quantisers, and what `straight-through` makes of them.

In truth what rounds is constant almost everywhere. `straight-through` is the saturating straight-through
estimator (Bengio et al. 2013, with the range clipped, as PyTorch's fake_quantize has it): the rounding
counts as the identity where its result lies within the range of the integer type, and as a constant beyond.
An integer is differentiated as the number it is, so a dequantiser and the sums of ConvInteger are linear.
"""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.backward import is_float
from onnxviz.autodiff.functions import Body, through
from onnxviz.autodiff.rules.helpers import Answers, Cotangent, cast_like, data
from onnxviz.autodiff.ruleset import Rule, RuleSet, constant_everywhere, gradient_of, operator_key, vjp
from onnxviz.graph.ops import Ops, rank_of

_SUMS = ("ConvInteger", "MatMulInteger")
_rules: dict[str, Rule] = {}
_unclipped: dict[str, Rule] = {}
_in_two: dict[str, Rule] = {}

STRAIGHT_THROUGH_RULES: Mapping[str, Rule] = MappingProxyType(_rules)
IN_TWO: Mapping[str, Rule] = MappingProxyType(_in_two)
"""What works on quantised numbers, through the same on floats and a QuantizeLinear of that."""


def is_quantiser(node: ir.Node) -> bool:
    """Whether a node makes integers that stand for floats, from floats or from such integers."""
    return (operator_key(node) in _rules and node.op_type != "Cast") or node.op_type in _SUMS


def straight_through(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators in the rule set `straight-through`."""

    def register(rule: Rule) -> Rule:
        _rules.update(dict.fromkeys(operators, rule))
        return rule

    return register


constant_everywhere("QuantizeLinear", "com.microsoft::QuantizeLinear")


@straight_through("QuantizeLinear", "com.microsoft::QuantizeLinear")
def _quantize(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = round(x / s) + z within the type's range: dx = g / s, and ds = -dx x / s as in LSQ (Esser 2020)."""
    (x, s, *zero), (y,) = node.inputs, node.outputs
    assert x is not None
    assert s is not None
    like = x if is_float(x) else s
    scale = _spread(op, node, s, like)
    shift = op.constant(np.zeros((), like.dtype.numpy()))  # type: ignore[union-attr]
    if zero and zero[0] is not None:
        shift = _spread(op, node, zero[0], like)
    dtype = y.dtype or ir.DataType.UINT8
    low, high = (op.Sub(_limit(end, like), shift) for end in (dtype.min, dtype.max))
    steps = op.Div(cast_like(op, x, like), scale)
    rounded = op.Round(steps) if dtype.is_integer() else steps
    inside = op.And(op.GreaterOrEqual(rounded, low), op.LessOrEqual(rounded, high))
    passed = op.Where(inside, cast_like(op, g, like), 0)
    dx = op.Div(passed, scale)
    ds = _gathered(op, node, op.Neg(op.Mul(dx, steps)), s)
    return dx, cast_like(op, ds, s), *(z and _gathered(op, node, passed, z) for z in zero)


@vjp("DynamicQuantizeLinear")
@through
def _dynamic_scale(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    """The scale is that of the range of x, 0 included, over 255 steps; what is quantised is constant."""
    x = data(node)
    high, low = (reduce(x, keepdims=0) for reduce in (op.ReduceMax, op.ReduceMin))
    return [None, op.Div(op.Sub(op.Max(high, 0), op.Min(low, 0)), 255), None]


@straight_through("DynamicQuantizeLinear")
def _dynamic_quantize(op: Ops, node: ir.Node, g: Cotangent, *parameters: Cotangent) -> Any:
    """dx = g / scale: the range is that of x; beside integers, scale and zero point count as constants."""
    if g is None:
        return gradient_of(op, node, None, *parameters)
    return (op.Div(g, node.outputs[1]),)


@vjp("DequantizeLinear", "com.microsoft::DequantizeLinear")
def _dequantize(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = (x - z) s."""
    x, s, *zero = node.inputs
    assert x is not None
    assert s is not None
    dx = op.Mul(g, _spread(op, node, s, g))
    ds = _gathered(op, node, op.Mul(g, _less_zero_point(op, node, g)), s)
    return dx, cast_like(op, ds, s), *(z and op.Neg(_gathered(op, node, dx, z)) for z in zero)


@straight_through("Cast")
def _cast(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """The sums of integer operators go on as floats: a cast keeps the number."""
    x = data(node)
    return (g,) if x.dtype is not None and x.dtype.is_integer() else gradient_of(op, node, g)


def _less_zero_point(op: Ops, node: ir.Node, like: ir.Value) -> ir.Value:
    x, _, zero = (*node.inputs, None)[:3]
    assert x is not None
    number = cast_like(op, x, like)
    return number if zero is None else op.Sub(number, _spread(op, node, zero, like))


def spell_out_dequantisers(op: Ops, graph: ir.Graph) -> None:
    """Write, in place, the (x - z) s of a DequantizeLinear in plain operators for those of `op` that read it.

    ONNX Runtime (1.31) moves a DequantizeLinear behind a Transpose that reads it, and quantises again
    between: to uint8 where it should be int8, or it fails. The forward nodes keep theirs.
    """
    written, found = set(op.nodes), False
    for node in list(graph):
        if node.op_type != "DequantizeLinear" or data(node).dtype == ir.DataType.UINT8:
            continue
        (y,), (_, s, *_) = node.outputs, node.inputs
        readers = [(use.node, use.idx) for use in y.uses() if use.node in written]
        if readers and s is not None:
            plain = op.Mul(_less_zero_point(op, node, y), _spread(op, node, s, y))
            plain.type, plain.shape = y.type, y.shape
            for reader, place in readers:
                reader.replace_input_with(place, plain)
            found = True
    if found:
        graph.sort()


def _spread(op: Ops, node: ir.Node, s: ir.Value, like: ir.Value) -> ir.Value:
    """A scale or zero point as wide as the data: one for all, one per place on an axis, or one per block."""
    x, block = data(node), node.attributes.get_int("block_size", 0)
    floats = cast_like(op, s, like)
    if _is_single(s):
        return floats if s.shape == [] else op.Reshape(floats, op.ints())
    axis = _axis(node)
    if rank_of(s) == 1:
        return op.Reshape(floats, op.ints(-1, *[1] * (rank_of(x) - axis - 1)))
    places = op.Range(op.scalar(0), op.Squeeze(op.shape(x, axis, axis + 1)), op.scalar(1))
    return op.Gather(floats, op.Div(places, block), axis=axis)


def _gathered(op: Ops, node: ir.Node, g: ir.Value, s: ir.Value) -> ir.Value:
    """The transpose of `_spread`: sums of g, shaped like the scale s."""
    x = data(node)
    if _is_single(s):
        return op.Reshape(op.ReduceSum(g, keepdims=0), op.shape(s))
    axis, block = _axis(node), node.attributes.get_int("block_size", 0)
    if rank_of(s) == 1:
        return op.ReduceSum(g, op.ints(*(i for i in range(rank_of(x)) if i != axis)), keepdims=0)
    size, blocks = op.shape(x, axis, axis + 1), op.shape(s, axis, axis + 1)
    missing = op.Sub(op.Mul(blocks, block), size)
    full = op.Pad(g, op.Concat(op.ints(0), missing, axis=0), None, op.ints(axis))
    split = op.Concat(op.shape(x, 0, axis), blocks, op.ints(block), op.shape(x, axis + 1), axis=0)
    return op.ReduceSum(op.Reshape(full, split), op.ints(axis + 1), keepdims=0)


def _is_single(s: ir.Value) -> bool:
    return s.shape is not None and all(size == 1 for size in s.shape) and len(s.shape) < 2


def _axis(node: ir.Node) -> int:
    return node.attributes.get_int("axis", 1) % rank_of(data(node))


def _limit(end: Any, like: ir.Value) -> float:
    """An end of a type's range; the largest float where it lies beyond (uint16 and half floats)."""
    assert like.dtype is not None
    return float(max(like.dtype.min, min(end, like.dtype.max)))


def may_clip(node: ir.Node) -> bool:
    """Whether a node cuts off what lies beyond the range of its integers, which `unclipped` undoes."""
    return operator_key(node) in _unclipped


def unclipped(rules: RuleSet, tensors: Collection[str]) -> RuleSet:
    """`rules`, but the quantisers that make `tensors` count as lines beyond their ranges too.

    So a score that lies at the end of its range still says what it comes from.
    """

    def makes_one(node: ir.Node) -> bool:
        return operator_key(node) in _unclipped and any(y.name in tensors for y in node.outputs)

    def rule(op: Any, node: ir.Node, *gs: Cotangent) -> Any:
        return _unclipped[operator_key(node)](op, node, *gs)

    return rules.when(makes_one, rule)


def _quantize_unclipped(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, s = node.inputs[:2]
    assert s is not None
    assert x is not None
    dx = op.Div(cast_like(op, g, x), _spread(op, node, s, x))
    return dx, *(None for _ in node.inputs[1:])


_unclipped |= dict.fromkeys(("QuantizeLinear", "com.microsoft::QuantizeLinear"), _quantize_unclipped)


def behind_floats(body: Body, scale: int, clips: bool = True) -> Rule:
    """The rule of an operator that is `body` on floats, then quantised by the inputs from `scale` on.

    g / scale where the integer that came out lies strictly inside its type's range (a Relu is often nothing
    but the end of that range) if it `clips`, and from there back through the floats.
    """
    back = through(body)

    def rule(op: Any, node: ir.Node, g: ir.Value) -> Mapping[ir.Value, Any]:
        (y,), (s, *zero) = node.outputs, node.inputs[scale : scale + 2]
        assert s is not None
        dtype = y.dtype or ir.DataType.UINT8
        came = op.Cast(y, to=int(ir.DataType.FLOAT))
        inside = op.And(op.Greater(came, float(dtype.min)), op.Less(came, float(dtype.max)))
        passed = op.Div(op.Where(inside, g, 0) if clips else g, s)

        def dscale() -> ir.Value:
            """y = t / s + z of the floats t: ds = -g t / s^2."""
            slope = op.ReduceSum(op.Div(op.Mul(passed, body(op, node)), s), keepdims=0)
            ds: ir.Value = op.reshape_like(op.Neg(slope), s)
            return ds

        answers = {**back(op, node, passed), s: dscale}
        return answers | {value: None for value in zero if value is not None}

    return rule


def quantised(*operators: str, scale: int) -> Callable[[Body], Body]:
    """Register operators that are `body` on floats, then quantised: see `behind_floats`."""

    def register(body: Body) -> Body:
        constant_everywhere(*operators)
        straight_through(*operators)(behind_floats(body, scale))
        _unclipped.update(dict.fromkeys(operators, behind_floats(body, scale, clips=False)))

        @through
        def spelled(op: Ops, node: ir.Node) -> Any:
            return op.QuantizeLinear(body(op, node), *node.inputs[scale : scale + 2])

        _in_two.update(dict.fromkeys(operators, spelled))
        return body

    return register
