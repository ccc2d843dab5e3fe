"""DeepLIFT's rescale rule: multipliers that share out a difference from a baseline, not a slope.

Shrikumar et al. 2017, "Learning important features through propagating activation differences". Every rule
reads a value x and its twin x', what it would be for the baseline; the twins are the forward graph, written
once more. With D the difference of the two, a rule's multipliers m satisfy sum m Dx = g Dy for the cotangent
g of y, so that the multipliers of the input add up to the difference of the scores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from onnxviz.autodiff.backward import is_float
from onnxviz.autodiff.functions import function_body, through
from onnxviz.autodiff.pullback import fresh_name, gradient
from onnxviz.autodiff.ruleset import Answer, RuleSet
from onnxviz.autodiff.variants import STRAIGHT_THROUGH
from onnxviz.graph.flow import reads
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.graph.normalise import with_shapes
from onnxviz.graph.replay import replay

TINY = 1e-10
"""Differences below this are none: the slope takes the place of the quotient."""

# One number becomes one number, not in proportion.
_ELEMENTWISE = (
    *("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Clip", "Abs"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Gelu", "Tanh", "Erf", "Softplus", "Softsign"),
    *("Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Atan", "Pow", "Softmax", "LogSoftmax"),
    "QuantizeLinear",
    *("com.microsoft::Gelu", "com.microsoft::QuickGelu", "com.microsoft::FastGelu"),
)
# Products of two values that may both come from the picture: quadratic at most.
_PRODUCTS = ("Mul", "MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose")
# Products and quotients of these: the body of the standard says of which.
_BY_BODY = ("LayerNormalization", "GroupNormalization", "MeanVarianceNormalization", "RMSNormalization")
# The largest of several numbers.
_SELECTIONS = ("MaxPool", "GlobalMaxPool", "ReduceMax", "Max")


@dataclass(frozen=True)
class Twins:
    """What each value of a graph would be for the baseline, written when it is first asked for."""

    source: str
    baseline: str
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

    Activations take Dy / Dx for their slope (Softmax number by number), products of two values that both
    depend on `wrt` the mean of their derivatives at both ends, and pools of the largest follow the larger of
    both ends (captum's rule). All else is taken for linear: the gradient at `wrt` answers, and what is amiss
    shows in the sum.

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
    return gradient(widened, of, wrt, rescale(Twins(wrt, str(baseline.name))), keep)


def rescale(twins: Twins) -> RuleSet:
    """The rescale rules against the twins of one graph."""
    rules: Mapping[str, Callable[..., Any]] = {
        **dict.fromkeys(_ELEMENTWISE, _elementwise(twins)),
        **dict.fromkeys(_PRODUCTS, _product(twins)),
        **dict.fromkeys(_SELECTIONS, _selection(twins)),
        **dict.fromkeys(_BY_BODY, function_body),
        "Div": through(lambda op, node: op.Mul(node.inputs[0], op.Reciprocal(node.inputs[1]))),
    }
    return STRAIGHT_THROUGH.override("deeplift", rules)


def _elementwise(twins: Twins) -> Callable[..., Sequence[Answer]]:
    """Dy / Dx g, and the slope where Dx is none."""

    def rule(op: Any, node: ir.Node, g: ir.Value) -> list[Answer]:
        slope, *others = _slope(op, node, g)
        [x, *_], [y] = node.inputs, node.outputs
        assert x is not None
        apart = _difference(op, twins, x)
        none = op.Less(op.Abs(apart), _tiny(apart))
        quotient = op.Div(op.Mul(g, _difference(op, twins, y)), op.Where(none, 1, apart))
        return [op.Where(none, _written(slope), quotient), *others]

    return rule


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
            apart = _difference(op, twins, x)
            none = op.Less(op.Abs(apart), _tiny(apart))
            answers.append(op.Where(none, _written(slope), op.Div(share, op.Where(none, 1, apart))))
        return answers

    return rule


def _slope(op: Any, node: ir.Node, *cotangents: ir.Value | None) -> Any:
    """The gradient of a node; a quantiser's is that of what it rounds."""
    return STRAIGHT_THROUGH.find(node)(op.under(STRAIGHT_THROUGH), node, *cotangents)


def _difference(op: Any, twins: Twins, value: ir.Value) -> ir.Value:
    """How a value differs from its twin, as floats."""
    difference: ir.Value = op.Sub(_floats(op, value), _floats(op, twins.of(op, value)))
    return difference


def _floats(op: Any, value: ir.Value) -> ir.Value:
    """A value as floats: integers are the numbers that they are."""
    floats: ir.Value = value if is_float(value) else op.Cast(value, to=ir.DataType.FLOAT)
    return floats


def _tiny(value: ir.Value) -> float:
    """Below it a difference is none; in half precision `TINY` would be 0."""
    return 1e-4 if value.dtype == ir.DataType.FLOAT16 else TINY


def _mean(op: Any, one: Answer, other: Answer) -> Answer:
    if not isinstance(one, ir.Value) and not callable(one):
        return one
    return lambda: op.Mul(op.Add(_written(one), _written(other)), 0.5)


def _written(answer: Answer) -> ir.Value:
    value = answer() if callable(answer) else answer
    assert isinstance(value, ir.Value)
    return value
