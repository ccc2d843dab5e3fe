"""How operators hand relevance down: what all rule sets of layer-wise relevance propagation (LRP) share.

Each operator hands on what arrives at its output:

- a linear layer by a `LayerRule`. Arithmetic with constants right behind it (a bias added on its own, a
  BatchNormalization) is part of the layer, as if it were merged;
- other arithmetic with constants, and elementwise functions, wholly;
- Add and Sub of activations, averages, interpolation, and whatever has a derivative but no rule here in
  proportion to the part of each input in the output, x (dy/dx) / y;
- a product of activations (attention, gates) in equal shares to its factors, and a quotient to its numerator,
  so that the deviation in a LayerNormalization counts as a constant (Achtibat et al. 2024, AttnLRP);
- what selects or moves data to where the data came from: all to the winner of a MaxPool;
- an operator written in simpler ones through those.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

import onnxviz.autodiff.rules  # noqa: F401 - fills GRADIENT
from onnxviz.autodiff.backward import Backward
from onnxviz.autodiff.functions import is_through, through
from onnxviz.autodiff.rules.helpers import Answers, cast_like, data, unbroadcast
from onnxviz.autodiff.rules.quantization import STRAIGHT_THROUGH_RULES
from onnxviz.autodiff.ruleset import GRADIENT, ZERO, Answer, Rule, RuleSet, gradient_of
from onnxviz.graph.flow import reads
from onnxviz.graph.ops import constant_of, rank_of
from onnxviz.graph.replay import replay

EPSILON = 1e-6
_HALF_EPSILON = 1e-3  # a share of 1 / 1e-6 lies beyond half floats

CONVOLUTIONS = ("Conv", "ConvTranspose")
_DENSE = ("Gemm", "MatMul")

# What moves data without mixing it.
_MOVES = (
    *("Cast", "CastLike", "Compress", "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather"),
    *("GatherElements", "GatherND", "Identity", "Reshape", "ReverseSequence", "Slice", "SpaceToDepth"),
    *("Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze"),
)
_WINNERS = ("GlobalMaxPool", "MaxPool", "MaxRoiPool", "ReduceMax", "ReduceMin", "TopK")
_AS_THE_GRADIENT = (
    *_MOVES,
    *_WINNERS,
    *("CenterCropPad", "MaxUnpool", "Pad", "ScatterElements", "ScatterND", "Upsample", "Where"),
    *("If", "Loop", "Scan", "SequenceMap", "Optional", "OptionalGetElement"),
    *("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceErase", "SequenceInsert"),
    *("SplitToSequence", "SequenceEmpty"),
)
_ELEMENTWISE = (
    *("Abs", "BatchNormalization", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
    *(
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "PRelu",
        "RMSNormalization",
        "Reciprocal",
        "Relu",
        "Selu",
        "Shrink",
        "Sigmoid",
    ),
    *("Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu"),
    *("com.microsoft::FastGelu", "com.microsoft::Gelu", "com.microsoft::QuickGelu"),
)
_QUANTISERS = ("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear")
_NEVER_NEGATIVE = ("Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus")

_STRAIGHT_THROUGH = GRADIENT.override("straight-through", STRAIGHT_THROUGH_RULES)


@dataclass(frozen=True)
class Layer:
    """A linear layer z = x w + b, whatever its operator; `place` is that of x among the node's inputs."""

    op: Backward
    node: ir.Node
    place: int
    x: ir.Value
    w: ir.Value
    b: ir.Value | None
    z: ir.Value

    def distribute(
        self,
        r: ir.Value,
        *terms: tuple[ir.Value | None, ir.Value],
        b: ir.Value | None = None,
        z: ir.Value | None = None,
        eps: float = EPSILON,
    ) -> ir.Value:
        """The sum over `terms` of x * (R / z) w^T, where z = b + the sum of x w; an x of None is zero."""
        op, pairs = self.op, [(x, w) for x, w in terms if x is not None]
        if z is None:
            parts = [*(self._twin(x, w).outputs[0] for x, w in pairs), *([] if b is None else [b])]
            z = _total(op, parts)
        share = divide(op, r, z, eps)
        share.shape = self.z.shape
        # The gradient of x w in x is that for any x.
        back = (gradient_of(op, self._twin(self.x, w), share)[self.place] for _, w in pairs)
        return _total(op, [op.Mul(x, down) for (x, _), down in zip(pairs, back, strict=True)])

    def _twin(self, x: ir.Value, w: ir.Value) -> ir.Node:
        """x w by an operator like this one, without its bias and scales."""
        x.shape, w.shape = self.x.shape, self.w.shape
        attributes = {name: a for name, a in self.node.attributes.items() if name not in ("alpha", "beta")}
        (y,) = self.op.emit(self.node.op_type, [x, w] if self.place == 0 else [w, x], attributes)
        y.shape = self.z.shape
        twin = y.producer()
        assert twin is not None
        return twin

    @property
    def x_parts(self) -> tuple[ir.Value, ir.Value | None]:
        """The positive and the negative part of x; None for the second where there is none."""
        if _never_negative(self.x):
            return self.x, None
        return self.op.Relu(self.x), self.op.Min(self.x, 0)

    @property
    def ones(self) -> ir.Value:
        """Ones in place of x."""
        assert self.x.dtype is not None
        return self.op.full(self.op.shape(self.x), 1, self.x.dtype)


LayerRule: TypeAlias = Callable[[Layer, ir.Value], ir.Value]
"""The relevance of a layer's x, from the layer and the relevance of its z."""


def composite(
    name: str,
    convolution: LayerRule,
    dense: LayerRule | None = None,
    first: LayerRule | None = None,
    eps: float = EPSILON,
) -> RuleSet:
    """A rule set of relevance from the rules of its linear layers.

    Args:
        name: What to call it.
        convolution: For Conv and ConvTranspose.
        dense: For Gemm and MatMul with weights; as `convolution` if not given.
        first: For the layers that read an input of the model, with only data movement and arithmetic with
            constants (normalisation) between; as the others if not given.
        eps: What keeps the denominators of all other shares from zero.
    """
    rules: dict[str, Rule] = {
        **dict.fromkeys(_ELEMENTWISE, _wholly),
        **dict.fromkeys(_QUANTISERS, _past_a_quantiser),
        **dict.fromkeys(CONVOLUTIONS, _linear(convolution, first, eps)),
        **dict.fromkeys(_DENSE, _linear(dense or convolution, first, eps)),
        **dict.fromkeys(("Add", "Sum", "Sub", "Mean"), _one_or(_in_proportion(eps))),
        **dict.fromkeys(("Max", "Min"), _one_or(_as_the_gradient)),
        "Einsum": _bilinear(eps),
        "Mul": _one_or(_product),
        "Div": _quotient,
        "Pow": _power,
        "Softmax": _softmax,
        "GroupNormalization": _group_normalization(eps),
        "InstanceNormalization": _normalization(eps, lambda _node, rank: range(2, rank)),
        "LayerNormalization": _normalization(eps, _last_axes),
        "MeanVarianceNormalization": _normalization(eps, _named_axes),
    }
    return RuleSet("relevance", _Derived(eps)).override(name, rules)


# Linear layers


def _linear(rule: LayerRule, first: LayerRule | None, eps: float) -> Rule:
    product = _bilinear(eps)

    def answers(op: Backward, node: ir.Node, r: ir.Value) -> Answers | Mapping[ir.Value, Answer]:
        a, b, *bias = node.inputs
        if node.op_type == "Gemm" and any(map(_varies, bias)):
            return _gemm_and_add(op, node, r)
        vary = [_varies(value) for value in (a, b)]
        if all(vary):
            return product(op, node, r)
        found: list[Answer] = [None] * len(node.inputs)
        if any(vary):
            layer = _layer(op, node, vary.index(True), r)
            chosen = first if first is not None and _reads_an_input(layer.x) else rule
            found[layer.place] = chosen(layer, r)
        return found

    return answers


@through
def _gemm_and_add(op: Backward, node: ir.Node) -> ir.Value:
    a, b, c = node.inputs
    attributes = {name: attribute for name, attribute in node.attributes.items() if name != "beta"}
    product = op.emit("Gemm", [a, b], attributes)[0]
    return op.Add(product, op.Mul(c, node.attributes.get_float("beta", 1.0)))


def _layer(op: Backward, node: ir.Node, place: int, r: ir.Value) -> Layer:
    """The layer at a node, with the arithmetic that its relevance `r` came through wholly as part of it."""
    (a, b, *bias), (z,) = node.inputs, node.outputs
    assert a is not None
    assert b is not None
    x, w, shift = (a, b, *bias)[place], (a, b)[1 - place], next(iter(bias), None)
    assert x is not None
    if node.op_type == "Gemm":
        w = _times(op, w, node.attributes.get_float("alpha", 1.0))
        shift = shift and _times(op, shift, node.attributes.get_float("beta", 1.0))
    elif shift is not None:
        shift = op.Reshape(shift, op.ints(1, -1, *[1] * (rank_of(z) - 2)))
    layer = Layer(op, node, place, x, w, shift, z)
    return _absorb(layer, r.meta.get(_CAME_THROUGH, ()))


def _times(op: Backward, value: ir.Value, factor: float) -> ir.Value:
    if factor == 1:
        return value
    product = op.Mul(value, factor)
    product.shape = value.shape
    return product


# A relevance remembers the arithmetic that it came through wholly, so that the layer before may absorb it.
_CAME_THROUGH = "onnxviz.came_through"


def _absorb(layer: Layer, arithmetic: Sequence[ir.Node]) -> Layer:
    """a (x w + b) + c = x (a w) + (a b + c), for the arithmetic behind a layer that is per channel."""
    op, found = layer.op, _channels(layer)
    if found is None:
        return layer
    axis, channels, layout = found
    end, chain = layer.z, list[ir.Node]()
    for node in arithmetic:
        if end not in node.inputs or not _is_per_channel(node, end, axis):
            break
        chain.append(node)
        end = node.outputs[0]
    if not chain:
        return layer
    assert end.shape is not None
    assert end.dtype is not None
    size = [channels if place == axis else 1 for place in range(len(end.shape))]
    zeros, ones = (op.Identity(op.constant(np.full(size, n, end.dtype.numpy()))) for n in (0, 1))
    zeros.shape = ones.shape = ir.Shape(size)
    before, made = len(op.nodes), {layer.z: zeros}
    replay(op, chain, made)
    written = op.nodes[before:]
    for node in written:
        node.outputs[0].shape = zeros.shape
    c = made[end]
    a = op.under(GRADIENT).where({zeros}).pull_back(written, {c: ones}, [zeros])[zeros]
    assert isinstance(a, ir.Value)
    w = op.Mul(layer.w, op.Reshape(a, op.ints(*layout)))
    w.shape = layer.w.shape
    return replace(layer, w=w, b=c if layer.b is None else op.Add(op.Mul(layer.b, a), c), z=end)


def _channels(layer: Layer) -> tuple[int, int, list[int]] | None:
    """The axis of z that holds the channels, their number, and how a vector of them scales w."""
    z, w, node = layer.z.shape, layer.w.shape, layer.node
    if z is None or w is None or layer.place != 0 or len(w) < 2:
        return None
    if node.op_type in CONVOLUTIONS:
        transposed = node.op_type == "ConvTranspose"
        if transposed and node.attributes.get_int("group", 1) > 1:
            return None
        axis, layout = 1, [1, -1] if transposed else [-1, 1]
        layout += [1] * (len(w) - 2)
    else:
        axis, layout = len(z) - 1, [-1, 1] if node.attributes.get_int("transB", 0) else [-1]
    channels = z[axis]
    return (axis, channels, layout) if isinstance(channels, int) else None


def _is_per_channel(node: ir.Node, z: ir.Value, axis: int) -> bool:
    """Whether what a node does to z differs along `axis` alone."""
    if node.op_type == "BatchNormalization":
        return axis == 1
    rank = rank_of(z)
    shapes = [value.shape for value in node.inputs if value is not None and value is not z]
    return all(
        shape is not None
        and all(size == 1 or rank - place == axis for place, size in enumerate(reversed(shape), 1))
        for shape in shapes
    )


def _varies(value: ir.Value | None) -> bool:
    """Whether a value depends on what a model is given, and not on its shape alone.

    Asked for what is a constant: whether a value leads to a *source* changes with the tensors asked for,
    and relevance must not.
    """
    pending, seen = [value], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        node = value.producer()
        if node is not None and node.op_type not in ("Shape", "Size"):
            pending.extend(reads(node))
        elif node is None and not value.is_initializer():
            return True
    return False


def _reads_an_input(value: ir.Value) -> bool:
    """Whether only data movement and arithmetic with constants lie between the model's inputs and a value."""
    node = value.producer()
    if node is None:
        return value.is_graph_input()
    if node.op_type in ("Add", "BatchNormalization", "Div", "Mul", "Sub", "Concat"):
        behind = [x for x in node.inputs if x is not None and _varies(x)]
        single = node.op_type == "Concat" or len(behind) == 1
        return bool(behind) and single and all(map(_reads_an_input, behind))
    return node.op_type in (*_MOVES, *_QUANTISERS, "Pad", "Resize") and _reads_an_input(data(node))


def _never_negative(value: ir.Value) -> bool:
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "Clip":
        least = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        return least is not None and bool(least >= 0)
    if node.op_type == "Concat":
        return all(value is not None and _never_negative(value) for value in node.inputs)
    pools = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
    return node.op_type in _NEVER_NEGATIVE or (
        node.op_type in (*pools, *_MOVES) and node.op_type != "Cast" and _never_negative(data(node))
    )


# The other operators


def divide(op: Backward, r: ir.Value, z: ir.Value, eps: float = EPSILON) -> ir.Value:
    """R / (z + eps sign(z)) with sign(0) = 1; without eps, 0 where z is 0."""
    z = cast_like(op, z, r)
    if eps == 0:
        none = op.Equal(z, 0)
        return op.Div(op.Where(none, 0, r), op.Where(none, 1, z))
    assert r.dtype is not None
    if r.dtype == ir.DataType.FLOAT16:
        eps = max(eps, _HALF_EPSILON)
    below, above = (op.lift(signed, r.dtype) for signed in (-eps, eps))
    return op.Div(r, op.Add(z, op.Where(op.Less(z, 0), below, above)))


def _total(op: Backward, parts: Sequence[ir.Value]) -> ir.Value:
    total = parts[0]
    for part in parts[1:]:
        total = op.Add(total, part)
    return total


def _in_proportion(eps: float, divided: bool = False) -> Rule:
    """R_i = sum_j x_i (dy_j / dx_i) / y_j R_j, in equal shares to several inputs if `divided`."""

    def rule(
        op: Backward, node: ir.Node, *arriving: ir.Value | None
    ) -> Sequence[Answer] | Mapping[ir.Value, Answer]:
        shares = [r and divide(op, r, y, eps) for r, y in zip(arriving, node.outputs, strict=False)]
        for share, y in zip(shares, node.outputs, strict=False):
            if share is not None:
                share.shape = y.shape
        slopes: Any = _STRAIGHT_THROUGH.find(node)(op.under(_STRAIGHT_THROUGH), node, *shares)
        factors = sum(map(_varies, node.inputs)) if divided else 1

        def part(x: ir.Value | None, slope: Answer) -> Answer:
            if x is None or not isinstance(slope, ir.Value):
                return slope
            return op.Mul(cast_like(op, x, slope), op.Div(slope, factors) if factors > 1 else slope)

        if isinstance(slopes, Mapping):
            return {x: part(x, slope) for x, slope in slopes.items()}
        return [part(x, slope) for x, slope in zip(node.inputs, slopes, strict=True)]

    return rule


def _bilinear(eps: float) -> Rule:
    """A product of activations is linear in each: epsilon, in equal shares (Achtibat et al. 2024)."""
    return _in_proportion(eps, divided=True)


def _as_the_gradient(
    op: Backward, node: ir.Node, *arriving: ir.Value | None
) -> Sequence[Answer] | Mapping[ir.Value, Answer]:
    """All to the winner."""
    return _STRAIGHT_THROUGH.find(node)(op, node, *arriving)


def _wholly(_op: Backward, node: ir.Node, r: ir.Value, *_others: ir.Value | None) -> Answers:
    rest: list[Answer] = [None] * (len(node.inputs) - 1)
    if node.op_type == "BatchNormalization":
        _remember(r, node)
    return r, *rest


def _remember(r: ir.Value, node: ir.Node) -> None:
    r.meta[_CAME_THROUGH] = (node, *r.meta.get(_CAME_THROUGH, ()))


def _past_a_quantiser(_op: Backward, node: ir.Node, r: ir.Value | None, *_others: ir.Value | None) -> Answers:
    """Whole to the number that is quantised: its scale is taken for a constant."""
    scales: list[Answer] = [ZERO] * (len(node.inputs) - 1)
    return ZERO if r is None else r, *scales


def _one_or(several: Rule) -> Rule:
    """Whole past arithmetic with constants, else as `several` says."""

    def rule(op: Backward, node: ir.Node, r: ir.Value) -> Sequence[Answer] | Mapping[ir.Value, Answer]:
        vary = [_varies(value) for value in node.inputs]
        if sum(vary) != 1:
            return several(op, node, r)
        whole = unbroadcast(op, r, node.inputs[vary.index(True)], node.outputs[0])
        if whole is r and node.op_type in ("Add", "Div", "Mul", "Sub"):
            _remember(r, node)
        return [whole if here else ZERO for here in vary]

    return rule


def _product(op: Backward, node: ir.Node, r: ir.Value) -> Answers:
    """Half to each factor (Achtibat et al. 2024); so x sigmoid(x) hands on wholly, like other activations.

    A factor 1 / b makes it a quotient.
    """
    a, b = node.inputs
    assert a is not None
    assert b is not None
    (y,) = node.outputs
    divisors = [_divides(factor) for factor in (a, b)]
    if any(divisors):
        of = divisors.index(False) if False in divisors else 0
        return [unbroadcast(op, r, x, y) if place == of else ZERO for place, x in enumerate((a, b))]
    half = op.Mul(r, 0.5)
    half.shape = r.shape
    return [unbroadcast(op, half, x, y) for x in (a, b)]


def _divides(factor: ir.Value) -> bool:
    """Whether a factor is 1 / b, or a scale that was measured, or a product of those and constants."""
    node = factor.producer()
    if node is None:
        return False
    if node.op_type == "Mul":
        return all(x is None or not _varies(x) or _divides(x) for x in node.inputs)
    if node.op_type == "Div":
        return not _varies(node.inputs[0])
    return node.op_type in ("Reciprocal", "DynamicQuantizeLinear")


def _quotient(op: Backward, node: ir.Node, r: ir.Value) -> Answers:
    """Whole to the numerator; the denominator counts as a constant (Achtibat et al. 2024)."""
    (a, b), (y,) = node.inputs, node.outputs
    if not _varies(a):
        return ZERO, unbroadcast(op, r, b, y)
    found: list[Answer] = [unbroadcast(op, r, a, y), ZERO]
    if found[0] is r and not _varies(b):
        _remember(r, node)
    return found


def _power(op: Backward, node: ir.Node, r: ir.Value) -> Answers:
    return unbroadcast(op, r, data(node), node.outputs[0]), None


def _softmax(op: Backward, node: ir.Node, r: ir.Value) -> Answers:
    """R_i = x_i (R_i - y_i sum_j R_j) (Achtibat et al. 2024)."""
    x, (y,) = data(node), node.outputs
    total = op.ReduceSum(r, op.ints(node.attributes.get_int("axis", -1)), keepdims=1)
    return (op.Mul(x, op.Sub(r, op.Mul(y, total))),)


def _normalization(eps: float, axes_of: Callable[[ir.Node, int], Iterable[int]]) -> Rule:
    """(x - mean) / deviation with a constant deviation, x - mean in proportion (Achtibat et al. 2024)."""

    def rule(op: Backward, node: ir.Node, r: ir.Value, *_statistics: ir.Value | None) -> Answers:
        x = data(node)
        down = _centred(op, x, r, op.ints(*axes_of(node, rank_of(x))), eps)
        return down, *[None] * (len(node.inputs) - 1)

    return rule


def _last_axes(node: ir.Node, rank: int) -> Iterable[int]:
    return range(node.attributes.get_int("axis", -1) % rank, rank)


def _named_axes(node: ir.Node, _rank: int) -> Iterable[int]:
    return node.attributes.get_ints("axes", (0, 2, 3))


def _group_normalization(eps: float) -> Rule:
    def rule(op: Backward, node: ir.Node, r: ir.Value) -> Answers:
        x, groups = data(node), op.ints(0, node.attributes.get_int("num_groups"), -1)
        down = _centred(op, op.Reshape(x, groups), op.Reshape(r, groups), op.ints(2), eps)
        return op.reshape_like(down, x), None, None

    return rule


def _centred(op: Backward, x: ir.Value, r: ir.Value, axes: ir.Value, eps: float) -> ir.Value:
    """R_i = x_i (s_i - mean s) with s = R / (x - mean x)."""
    share = divide(op, r, op.Sub(x, op.ReduceMean(x, axes, keepdims=1)), eps)
    return op.Mul(x, op.Sub(share, op.ReduceMean(share, axes, keepdims=1)))


class _Derived(Mapping[str, Rule]):
    """The gradient's rules as those of relevance: moves and lowerings as they are, others in proportion."""

    def __init__(self, eps: float) -> None:
        self._rules, self._in_proportion = _STRAIGHT_THROUGH.by_type, _in_proportion(eps)

    def __getitem__(self, operator: str) -> Rule:
        rule = self._rules[operator]
        return rule if is_through(rule) or operator in _AS_THE_GRADIENT else self._in_proportion

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)
