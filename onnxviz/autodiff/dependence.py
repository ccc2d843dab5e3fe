"""Which inputs can change an output: the reverse walk with marks instead of numbers.

A cotangent here is positive where the output depends on an element and 0 where it does not, whatever the
weights and the data are. What is linear passes marks on as if all its weights were 1, what works element by
element as if it were the identity, what reduces or normalises to all that it looks at.

The set of pixels that a unit depends on is its receptive field, exactly: less what each operator cuts off at
a border, with the gaps of dilations, and the unit's own where branches meet.

An operator that is not listed has no rule: then what it depends on is not known.
"""

from collections.abc import Callable, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import onnx_ir as ir

import onnxviz.autodiff.rules  # noqa: F401 - fills GRADIENT
from onnxviz.autodiff.backward import is_float
from onnxviz.autodiff.functions import is_through
from onnxviz.autodiff.rules.helpers import cast_like, data, type_of, unbroadcast
from onnxviz.autodiff.rules.pooling import spread
from onnxviz.autodiff.rules.quantization import IN_TWO
from onnxviz.autodiff.ruleset import GRADIENT, ZERO, Answer, Rule, RuleSet
from onnxviz.graph.families import ELEMENTWISE
from onnxviz.graph.ops import Ops, rank_of
from onnxviz.graph.window import window

_MOVES = """
    CenterCropPad Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Pad Reshape Slice
    SpaceToDepth Split Squeeze Tile Transpose Unsqueeze
"""
_REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
"""


def _marks(op: Ops, g: ir.Value) -> ir.Value:
    """1 where there is a mark: sums of sums would leave the range of floats."""
    return op.Cast(op.Greater(op.Abs(g), 0), to=int(type_of(g)))


def _element_by_element(op: Ops, node: ir.Node, *gs: ir.Value | None) -> list[Answer]:
    """The output at a position depends on each input there; what was broadcast is seen from everywhere."""

    def marks(x: ir.Value) -> ir.Value:
        assert gs[0] is not None
        g = unbroadcast(op, gs[0], x, node.outputs[0])
        # Marks on integers and truths are floats.
        return cast_like(op, g, x) if is_float(x) else g

    return [None if x is None else partial(marks, x) for x in node.inputs]


def _first_alone(_op: Ops, node: ir.Node, *gs: ir.Value | None) -> list[Answer]:
    """As the identity; parameters that are computed from the picture are not followed."""
    return [gs[0], *[None] * (len(node.inputs) - 1)]


def _as_if_ones(operator: str, *dropped: str) -> Rule:
    """The true gradient of an operator that is linear in each operand, of operands that are all 1."""

    def rule(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
        kept = {name: value for name, value in node.attributes.items() if name not in dropped}
        (y,) = op.emit(operator, [_ones_like(op, x, g) for x in node.inputs[:2]], kept)
        y.shape = node.outputs[0].shape
        a, b = GRADIENT.by_type[operator](op, y.producer(), g)
        return [lambda: _marked(op, a), lambda: _marked(op, b), *[None] * (len(node.inputs) - 2)]

    return rule


def _marked(op: Ops, answer: Any) -> ir.Value:
    return _marks(op, answer() if callable(answer) else answer)


def _ones_like(op: Ops, x: ir.Value | None, g: ir.Value) -> ir.Value:
    """Ones of the shape of x and the type of g."""
    assert x is not None
    ones = op.full(op.shape(x), 1, type_of(g))
    ones.shape = x.shape
    return ones


def _pool(op: Ops, node: ir.Node, g: ir.Value, _indices: ir.Value | None = None) -> list[Answer]:
    """All that a window reads, not only the largest."""
    return [_marks(op, spread(op, node, g, window(node)))]


def _everywhere(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
    return [op.Expand(g, op.shape(data(node)))]


def _over(axes_of: Callable[[ir.Node], Sequence[int]]) -> Rule:
    """What normalises over some axes depends on all of them."""

    def rule(op: Ops, node: ir.Node, *gs: ir.Value | None) -> list[Answer]:
        g = gs[0]
        assert g is not None
        anywhere = op.ReduceMax(g, op.ints(*axes_of(node)), keepdims=1)
        return [op.Expand(anywhere, op.shape(data(node))), *[None] * (len(node.inputs) - 1)]

    return rule


def _axis(node: ir.Node) -> list[int]:
    return [node.attributes.get_int("axis", -1)]


def _from_axis(node: ir.Node) -> list[int]:
    rank = rank_of(data(node))
    return list(range(node.attributes.get_int("axis", -1) % rank, rank))


def _behind(first: int) -> Callable[[ir.Node], Sequence[int]]:
    return lambda node: range(first, rank_of(data(node)))


def _resize(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
    """By the true weights, some of which are negative where it is cubic."""
    answers = list(GRADIENT.by_type["Resize"](op, node, g))
    return [lambda: _marked(op, answers[0]), *[ZERO] * (len(node.inputs) - 1)]


_RULES: dict[str, Rule] = {
    **{name: rule for name, rule in GRADIENT.by_type.items() if is_through(rule)},
    **IN_TWO,
    **dict.fromkeys(ELEMENTWISE, _element_by_element),
    **dict.fromkeys(("BatchNormalization", "Dropout"), _first_alone),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _first_alone),
    **{name: GRADIENT.by_type[name] for name in _MOVES.split()},
    **dict.fromkeys(_REDUCTIONS.split(), GRADIENT.by_type["ReduceSum"]),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _everywhere),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    "Conv": _as_if_ones("Conv"),
    "ConvTranspose": _as_if_ones("ConvTranspose"),
    "Gemm": _as_if_ones("Gemm", "alpha", "beta"),
    "MatMul": _as_if_ones("MatMul"),
    "Resize": _resize,
    **dict.fromkeys(("Softmax", "LogSoftmax", "LpNormalization"), _over(_axis)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _over(_from_axis)),
    "InstanceNormalization": _over(_behind(2)),
    "GroupNormalization": _over(_behind(1)),
    "LRN": _over(lambda _node: (1,)),
}

DEPENDENCE = RuleSet("dependence", MappingProxyType(_RULES))
