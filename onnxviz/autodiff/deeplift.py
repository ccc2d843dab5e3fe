"""DeepLIFT's rescale rule: multipliers that share out a difference from a baseline, not a slope.

Shrikumar et al. 2017, "Learning important features through propagating activation differences". Every rule
reads a value x and its twin x', what it would be for the baseline; the twins are the forward graph, written
once more. With D the difference of the two, a rule's multipliers m satisfy sum m Dx = g Dy for the cotangent
g of y, so that the multipliers of the input add up to the difference of the scores.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from onnxviz.autodiff.backward import is_float
from onnxviz.autodiff.functions import function_body, is_through, through
from onnxviz.autodiff.pullback import fresh_name, gradient
from onnxviz.autodiff.rules.helpers import data
from onnxviz.autodiff.rules.quantization import IN_TWO
from onnxviz.autodiff.ruleset import Answer, Rule, RuleSet, operator_key, zero_everywhere
from onnxviz.autodiff.variants import STRAIGHT_THROUGH
from onnxviz.graph.flow import reads
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.graph.normalise import with_shapes
from onnxviz.graph.ops import rank_of
from onnxviz.graph.replay import replay

Ends = tuple[ir.Value, ir.Value]
"""A value and its twin."""

_TINY = 1e-10
"""A difference that is none, whatever the numbers (captum's)."""

# One number becomes one number, not in proportion.
_ELEMENTWISE = (
    *("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Clip", "Abs", "Shrink"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Gelu", "Tanh", "Erf", "Softplus", "Softsign"),
    *("Exp", "Log", "Sqrt", "Reciprocal", "Pow", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan"),
    *("Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
    *("com.microsoft::Gelu", "com.microsoft::QuickGelu", "com.microsoft::FastGelu"),
    *("QuantizeLinear", "com.microsoft::QuantizeLinear"),
)
# Products of two values that may both come from the picture: quadratic at most.
_PRODUCTS = ("Mul", "MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose")
# Compositions of these: the body of the standard says of which.
_BY_BODY = (
    *("LayerNormalization", "GroupNormalization", "MeanVarianceNormalization", "RMSNormalization"),
    *("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
    *("SwiGLU", "SoftmaxCrossEntropyLoss"),
)
# The largest of several numbers.
_SELECTIONS = ("MaxPool", "GlobalMaxPool", "ReduceMax", "Max")
# The gradient is exact: what moves, adds up or scales.
_LINEAR = (
    *("Add", "Sub", "Sum", "Mean", "Neg", "Identity", "Cast", "CastLike", "Dropout", "BatchNormalization"),
    *("DequantizeLinear", "DynamicQuantizeLinear", "com.microsoft::DequantizeLinear", "ReduceSum"),
    *("ReduceMean", "CumSum", "AveragePool", "GlobalAveragePool", "Resize", "GridSample", "RoiAlign"),
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Expand"),
    *("Pad", "Gather", "GatherElements", "GatherND", "Compress", "ReverseSequence", "Trilu", "CenterCropPad"),
    *("DepthToSpace", "SpaceToDepth", "Col2Im", "Tile", "OneHot", "ScatterElements", "ScatterND"),
    *("TensorScatter", "Where", "MaxUnpool", "DFT", "STFT", "NegativeLogLikelihoodLoss"),
    *("Optional", "OptionalGetElement", "SequenceAt", "SequenceConstruct", "SequenceErase"),
    *("SequenceInsert", "ConcatFromSequence", "SplitToSequence"),
)


@dataclass(frozen=True)
class Twins:
    """What each value of a graph would be for the baseline, written when it is first asked for.

    `by_slope` are the operators that the gradient answered for, though they are not linear.
    """

    source: str
    baseline: str
    by_slope: set[str] = field(default_factory=set)
    _known: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def of(self, op: Any, value: ir.Value) -> ir.Value:
        """The twin of a value; the value itself where it does not depend on the source."""
        pending = [value]
        while pending:
            missing = [x for x in self._read_by(pending[-1]) if x not in self._known]
            if missing:
                pending += missing
            else:
                self._write(op, pending.pop())
        return self._known[value]

    def of_node(self, op: Any, node: ir.Node) -> ir.Node:
        """A node as it would be for the baseline."""
        twin = self.of(op, node.outputs[0]).producer()
        assert twin is not None
        return twin

    def _read_by(self, value: ir.Value) -> list[ir.Value]:
        """What the node that makes a value reads; nothing where the twin is known without."""
        node = value.producer()
        if node is None or value in self._known or value.name == self.source:
            return []
        return list(reads(node))

    def _write(self, op: Any, value: ir.Value) -> None:
        if value in self._known:
            return
        node = value.producer()
        if value.name == self.source:
            [self._known[value]] = [given for given in op.graph.inputs if given.name == self.baseline]
        elif node is None or all(self._known[x] is x for x in reads(node)):
            self._known[value] = value
        else:
            replay(op, [node], self._known)


def deeplift(model: ModelLike, of: str, wrt: str, keep: Sequence[str] = ()) -> Model:
    """The model of DeepLIFT's multipliers of `wrt` for the tensor `of`, by the rescale rule.

    It is `gradient(model, of, wrt)` with one more input, `<wrt>_baseline`, of the type and shape of `wrt`.
    The multipliers times the difference of `wrt` from it are the contributions; for a network of the
    operators below they add up to the difference of `of` between the two.

    Activations take Dy / Dx for their slope, products of two values that both depend on `wrt` the mean of
    their derivatives at both ends, and pools of the largest follow the larger of both ends (captum's rule).
    The paper has no rule for a Softmax within the network; here it is its gradient with the logarithmic mean
    of y and y' for y, which adds up too (captum takes Dy / Dx of each number, less the mean of all). A
    quantiser is an activation, rounding and all.

    All other operators are answered by their gradient at `wrt`. Where one is not linear, what is amiss shows
    in the sum, and `model.derivative.by_slope` names it.

    Where Dx is less than the share sqrt(eps) of x, with eps that of its type (0.00035 in float32), the slope
    takes the place of the quotient, which is rounding noise there. Captum's limit of 1e-10, whatever x is,
    lets that noise through in float32.

    Raises:
        OnnxvizError: As `gradient`.
    """
    loaded = load(model)
    copy = loaded.ir_model.clone()
    values = ir.convenience.create_value_mapping(copy.graph, include_subgraphs=False)
    source = values[loaded.tensor(wrt).name]  # type: ignore[index]
    baseline = ir.Value(name=fresh_name(f"{wrt}_baseline", values), type=source.type, shape=source.shape)
    copy.graph.inputs.append(baseline)
    widened = Model(with_shapes(copy), loaded.path)
    twins = Twins(wrt, str(baseline.name))
    made = gradient(widened, of, wrt, rescale(twins), keep)
    replace(made.derivative, by_slope=tuple(sorted(twins.by_slope))).mark(made.ir_model)
    return Model(made.ir_model, made.path)


def rescale(twins: Twins) -> RuleSet:
    """The rescale rules against the twins of one graph."""
    rules: Mapping[str, Rule] = {
        **dict.fromkeys(_ELEMENTWISE, _elementwise(twins)),
        **dict.fromkeys(_PRODUCTS, _product(twins)),
        **dict.fromkeys(_SELECTIONS, _selection(twins)),
        **dict.fromkeys(_BY_BODY, function_body),
        **IN_TWO,
        "Softmax": _softmax(twins),
        "LogSoftmax": _log_softmax(twins),
        "Div": through(lambda op, node: op.Mul(node.inputs[0], op.Reciprocal(node.inputs[1]))),
        "Min": through(lambda op, node: op.Neg(op.Max(*map(op.Neg, node.inputs)))),
        "ReduceMin": through(_least),
        "InstanceNormalization": through(_instance_normalization),
    }
    return RuleSet("gradient", _Rest(twins)).override("deeplift", rules)


class _Rest(Mapping[str, Rule]):
    """The gradient's rules, which note down the operators that are not linear."""

    def __init__(self, twins: Twins) -> None:
        self._rules, self._twins = STRAIGHT_THROUGH.by_type, twins

    def __getitem__(self, operator: str) -> Rule:
        rule = self._rules[operator]
        known = operator in _LINEAR or is_through(rule) or rule is zero_everywhere
        return rule if known else self._by_slope

    def _by_slope(self, op: Any, node: ir.Node, *cotangents: ir.Value | None) -> Any:
        self._twins.by_slope.add(operator_key(node))
        return _slope(op, node, *cotangents)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def _elementwise(twins: Twins) -> Callable[..., Sequence[Answer]]:
    """Dy / Dx g, and the slope where Dx is none."""

    def rule(op: Any, node: ir.Node, g: ir.Value) -> list[Answer]:
        slope, *others = _slope(op, node, g)
        x, (y,) = data(node), node.outputs
        if any(other and other in op.reached and is_float(other) for other in node.inputs[1:]):
            twins.by_slope.add(operator_key(node))
        quotient = _secant(op, (x, twins.of(op, x)), (y, twins.of(op, y)), g, _written(slope))
        return [quotient, *others]

    return rule


def _softmax(twins: Twins) -> Callable[..., Sequence[Answer]]:
    """L_i (g_i - sum_j L_j g_j / sum_j L_j), with L the logarithmic mean Dy / D(log y) of y and y'.

    Dy_i = L_i (Dx_i - c) for the c that all share, and as sum Dy = 0, c = sum L Dx / sum L.
    """

    def rule(op: Any, node: ir.Node, g: ir.Value) -> list[Answer]:
        mean, share, axis = _logarithmic_mean(op, twins, node)
        return [op.Mul(mean, op.Sub(g, op.ReduceSum(op.Mul(share, g), axis, keepdims=1)))]

    return rule


def _log_softmax(twins: Twins) -> Callable[..., Sequence[Answer]]:
    """g_i - L_i / (sum_j L_j) sum_j g_j, with L as for Softmax."""

    def rule(op: Any, node: ir.Node, g: ir.Value) -> list[Answer]:
        _, share, axis = _logarithmic_mean(op, twins, node)
        return [op.Sub(g, op.Mul(share, op.ReduceSum(g, axis, keepdims=1)))]

    return rule


def _logarithmic_mean(op: Any, twins: Twins, node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The L of a Softmax of both ends, its share in the sum of L, and the axis."""
    x, axis = data(node), node.attributes.get_int("axis", -1)
    here, there = (op.LogSoftmax(end, axis=axis) for end in (x, twins.of(op, x)))
    y, below = op.Exp(here), op.Exp(there)
    mean = _secant(op, (here, there), (y, below), None, y)
    return mean, op.Div(mean, op.ReduceSum(mean, op.ints(axis), keepdims=1)), op.ints(axis)


def _product(twins: Twins) -> Callable[..., Sequence[Answer]]:
    """The mean of the derivatives at both ends: D(ab) = Da (b + b')/2 + Db (a + a')/2."""

    def rule(op: Any, node: ir.Node, g: ir.Value) -> list[Answer]:
        here = _slope(op, node, g)
        if sum(value in op.reached for value in node.inputs) < 2:
            return list(here)
        there = _slope(op, twins.of_node(op, node), g)
        return [_mean(op, one, other) for one, other in zip(here, there, strict=True)]

    return rule


def _selection(twins: Twins) -> Callable[..., Sequence[Answer]]:
    """What the larger end z adds to the other goes to the places chosen there: z - y' here, y - z there."""

    def rule(op: Any, node: ir.Node, g: ir.Value, *_: Any) -> list[Answer]:
        y, below = (_floats(op, end) for end in (node.outputs[0], twins.of(op, node.outputs[0])))
        z = op.Max(y, below)
        twin = twins.of_node(op, node)
        here = _slope(op, node, op.Mul(g, op.Sub(z, below)), *_)
        there = _slope(op, twin, op.Mul(g, op.Sub(y, z)), *_)
        slopes = _slope(op, node, g, *_)
        answers: list[Answer] = []
        for x, one, other, slope in zip(node.inputs, here, there, slopes, strict=True):
            if x is None or x not in op.reached:
                answers.append(slope)
                continue
            share = op.Add(_written(one), _written(other))
            apart = _difference(op, (x, twins.of(op, x)))
            moved = op.Greater(op.Abs(apart), _TINY)
            answers.append(op.Where(moved, op.Div(share, op.Where(moved, apart, 1)), _written(slope)))
        return answers

    return rule


def _least(op: Any, node: ir.Node) -> ir.Value:
    x, *axes = node.inputs
    (most,) = op.emit("ReduceMax", [op.Neg(x), *axes], node.attributes)
    answer: ir.Value = op.Neg(most)
    return answer


def _instance_normalization(op: Any, node: ir.Node) -> ir.Value:
    x, (_, *channels) = data(node), node.inputs
    axes = op.ints(*range(2, rank_of(x)))
    scale, shift = (op.Reshape(one, op.ints(1, -1, *[1] * (rank_of(x) - 2))) for one in channels)
    away = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))
    variance = op.ReduceMean(op.Mul(away, away), axes, keepdims=1)
    deviation = op.Sqrt(op.Add(variance, node.attributes.get_float("epsilon", 1e-5)))
    answer: ir.Value = op.Add(op.Mul(op.Div(away, deviation), scale), shift)
    return answer


def _slope(op: Any, node: ir.Node, *cotangents: ir.Value | None) -> Any:
    """The gradient of a node; a quantiser's is that of what it rounds."""
    return STRAIGHT_THROUGH.find(node)(op.under(STRAIGHT_THROUGH), node, *cotangents)


def _secant(op: Any, xs: Ends, ys: Ends, g: ir.Value | None, slope: ir.Value) -> ir.Value:
    """g Dy / Dx, and `slope` where Dx is rounding noise."""
    apart, rise = _difference(op, xs), _difference(op, ys)
    least = op.Add(op.Mul(op.Abs(_floats(op, xs[0])), _same(apart)), _TINY)
    # Of two infinities, as masks put them before a Softmax, the difference is no number, and not greater.
    moved = op.Greater(op.Abs(apart), least)
    quotient = op.Div(rise, op.Where(moved, apart, 1))
    answer: ir.Value = op.Where(moved, quotient if g is None else op.Mul(g, quotient), slope)
    return answer


def _difference(op: Any, ends: Ends) -> ir.Value:
    answer: ir.Value = op.Sub(*(_floats(op, end) for end in ends))
    return answer


def _floats(op: Any, value: ir.Value) -> ir.Value:
    """A value as floats: integers are the numbers that they are."""
    floats: ir.Value = value if is_float(value) else op.Cast(value, to=ir.DataType.FLOAT)
    return floats


def _same(value: ir.Value) -> float:
    """The share of a number below which a difference is none.

    Above it rounding spoils a quotient by less than the share, below it the slope is as near.
    """
    assert value.dtype is not None
    return math.sqrt(value.dtype.eps)


def _mean(op: Any, one: Answer, other: Answer) -> Answer:
    if not isinstance(one, ir.Value) and not callable(one):
        return one
    return lambda: op.Mul(op.Add(_written(one), _written(other)), 0.5)


def _written(answer: Answer) -> ir.Value:
    value = answer() if callable(answer) else answer
    assert isinstance(value, ir.Value)
    return value
