"""A model that outputs what is known of each layer's channels, and how far they are from another file's.

The figures are computed by the graph itself, so that a tensor of a million numbers leaves the device as a
few. Three such models are made: one whose figures cost next to nothing, for all pictures; one that looks
closer, for some; and one where the other file's activations are fed in the place of each layer's own, so that
the layers behind it show what error each makes alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from onnxviz.auditing.matching import Pair
from onnxviz.auditing.stages import Stage
from onnxviz.graph.expose import prune
from onnxviz.graph.feature_maps import flattened
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.normalise import with_shapes
from onnxviz.graph.ops import Ops, constant_of
from onnxviz.graph.quantisation import Scale, scale_of

FIGURES = ("high", "low", "mean", "clipped", "noise", "signal", "energy")
"""Each is [N, C]: the extremes and the mean of a channel's activations, and the share that stands at a bound;
and the sums of squares of the difference from the reference, of the reference, and of the activations."""

_LAST = 2


@dataclass(frozen=True)
class Watched:
    """A model whose outputs are figures.

    Attributes:
        model: The model.
        outputs: For each output the figure, and the tensors measured with their channels, side by side in it.
        references: The tensor of the other file that each further input takes, by the input's name.
    """

    model: Model
    outputs: Mapping[str, tuple[str, tuple[tuple[str, int], ...]]]
    references: Mapping[str, str]


def watched(model: Model, stages: Sequence[Stage]) -> Watched:
    """The model with its channels' extremes as outputs; of floats also the mean, in which NaN shows."""

    def figures(writing: Writing) -> None:
        for stage in stages:
            writing.add(stage.tensor, _extremes(writing.op, writing.ours(model, stage.end)))

    return _written(model, figures)


def closer(
    model: Model, stages: Sequence[Stage], pairs: Sequence[Pair] = (), reference: Model | None = None
) -> Watched:
    """The model with what takes longer: means of integers, what stands at a bound, and the comparison."""

    def figures(writing: Writing) -> None:
        for stage in stages:
            own = writing.ours(model, stage.end)
            writing.add(stage.tensor, _at_bounds(writing.op, own, bounds_of(model, stage)))
        _compare(writing, model, pairs, reference)

    return _written(model, figures)


def alone(model: Model, pairs: Sequence[Pair], reference: Model) -> Watched:
    """The model with each stage computed from the reference's activations, and compared with its own."""

    def figures(writing: Writing) -> None:
        for each in pairs:
            value = writing.values[each.ours.tensor]
            _replace(writing.op, value, writing.theirs(reference, each), each, reference)
        _compare(writing, model, pairs, reference)

    return _written(model, figures)


class Writing:
    """A copy of a model while figures are written to it."""

    def __init__(self, model: Model) -> None:
        """Nothing is written yet."""
        self.copy = model.ir_model.clone()
        self.values = ir.convenience.create_value_mapping(self.copy.graph, include_subgraphs=False)
        self.op = Ops(self.copy.graph, "audit")
        self.figures: dict[tuple[str, str], ir.Value] = {}
        self.references: dict[str, str] = {}
        self._fed: dict[str, ir.Value] = {}

    def add(self, tensor: str, figures: Mapping[str, ir.Value]) -> None:
        """Output figures of a tensor."""
        self.figures |= {(name, tensor): value for name, value in figures.items()}

    def ours(self, model: Model, layer: Layer) -> "Measured":
        """A layer's output in this copy."""
        return Measured(self.values[layer.tensor], layer, scale_of(model.tensor(layer.tensor)))

    def theirs(self, reference: Model, pair: Pair) -> ir.Value:
        """The input that takes the reference's output for a layer."""
        value = reference.tensor(pair.theirs.tensor)
        if pair.theirs.tensor not in self._fed:
            self._fed[pair.theirs.tensor] = fed = _fed(self.op, value)
            self.copy.graph.inputs.append(fed)
            self.references[str(fed.name)] = pair.theirs.tensor
        return self._fed[pair.theirs.tensor]


def _written(model: Model, write: Callable[[Writing], None]) -> Watched:
    writing = Writing(model)
    writing.copy.graph.outputs.clear()
    write(writing)
    outputs = _side_by_side(writing.op, model, writing.figures)
    writing.copy.graph.outputs.extend(value for value, _ in outputs)
    writing.copy.graph.sort()
    prune(writing.copy)
    told = {str(value.name): what for value, what in outputs}
    return Watched(Model(with_shapes(writing.copy), model.path), told, writing.references)


def _compare(writing: Writing, model: Model, pairs: Sequence[Pair], reference: Model | None) -> None:
    for each in pairs:
        assert reference is not None
        theirs = Measured(
            writing.theirs(reference, each), each.theirs, scale_of(reference.tensor(each.theirs.tensor))
        )
        own = writing.ours(model, each.ours)
        writing.add(each.ours.tensor, _against(writing.op, own, theirs))


class Measured(NamedTuple):
    """A tensor, the layer whose output it is, and its scale where it is quantised."""

    value: ir.Value
    layer: Layer
    scale: Scale | None


def _side_by_side(
    op: Ops, model: Model, figures: Mapping[tuple[str, str], ir.Value]
) -> list[tuple[ir.Value, tuple[str, tuple[tuple[str, int], ...]]]]:
    """One output for each figure of all tensors that have a row for each picture: a few are read faster."""
    layers = {layer.tensor: layer for layer in model.layers}
    batch = {value.shape[0] for value in model.inputs if value.shape}
    outputs: list[tuple[ir.Value, tuple[str, tuple[tuple[str, int], ...]]]] = []
    for name in FIGURES:
        joined: list[tuple[str, int]] = []
        for figure, tensor in figures:
            if figure != name:
                continue
            layer = layers[tensor]
            channels, shape = layer.channels, layer.shape
            if channels is not None and shape is not None and shape[0] in batch and shape[0] is not None:
                joined.append((tensor, channels))
            else:
                outputs.append((figures[name, tensor], (name, ((tensor, -1),))))
        if joined:
            parts = [figures[name, tensor] for tensor, _ in joined]
            whole = parts[0] if len(parts) == 1 else op.Concat(*parts, axis=1)
            outputs.append((whole, (name, tuple(joined))))
    return outputs


def bounds_of(model: Model, stage: Stage) -> tuple[float | None, float | None]:
    """The bounds, low and high, at which a stage's activations are cut off, other than the zero of a ReLU."""
    value = model.tensor(stage.tensor)
    scale = scale_of(value)
    low, high = (None, None) if scale is None else range_of(value, scale)
    for layer in stage.members:
        node = model.tensor(layer.tensor).producer()
        if node is not None and node.op_type == "Clip":
            ends = [constant_of(end) for end in (*node.inputs[1:], None, None)[:2]]
            low, high = _tighter(low, ends[0], max), _tighter(high, ends[1], min)
    return (low if low else None), (high if high else None)


def range_of(value: ir.Value, scale: Scale) -> tuple[float | None, float | None]:
    """The smallest and the largest number that a quantised tensor can hold; None for floats."""
    if value.dtype is None or not value.dtype.is_integer() or scale[0].size != 1:
        return None, None
    ends = np.iinfo(value.dtype.numpy())
    low, high = ((end - float(scale[1].item())) * float(scale[0].item()) for end in (ends.min, ends.max))
    return low, high


def _tighter(one: float | None, other: object, pick: object) -> float | None:
    if other is None:
        return one
    number = float(np.asarray(other).item())
    if not np.isfinite(number):
        return one
    return number if one is None else float(pick(one, number))  # type: ignore[operator]


def _fed(op: Ops, theirs: ir.Value) -> ir.Value:
    """An input for a tensor of the other file, of its type and its known sizes."""
    shape = None
    if theirs.shape is not None:
        shape = ir.Shape([size if isinstance(size, int) else None for size in theirs.shape])
    fed = op.placeholder(theirs)
    fed.shape = shape
    return fed


def _rows(op: Ops, value: ir.Value, layer: Layer) -> ir.Value:
    """A tensor as [N, C, Z], of its own type: the places of a channel side by side are reduced fastest."""
    if layer.channel is None or not layer.grid:
        return op.Reshape(value, op.ints(0, -1, 1))
    if layer.tokens is not None or len(layer.grid) == 1:
        return flattened(op, value, layer)
    order = [0, layer.channel, *layer.grid]
    return op.Reshape(value if order == sorted(order) else op.Transpose(value, perm=order), op.ints(0, 0, -1))


def _flat(op: Ops, what: Measured) -> ir.Value:
    """Activations as floats [N, C, Z]."""
    return _floats(op, _rows(op, what.value, what.layer), what.scale)


def _is_narrow(value: ir.Value) -> bool:
    """Whether a tensor holds integers of a byte, whose extremes are found without making them floats."""
    return value.dtype is not None and value.dtype.is_integer() and value.dtype.itemsize == 1


def _floats(op: Ops, value: ir.Value, scale: Scale | None) -> ir.Value:
    """A tensor as float32, dequantised; not by DequantizeLinear, which a runtime may take for the layer's."""
    if value.dtype == ir.DataType.FLOAT:
        return value
    floats = op.Cast(value, to=ir.DataType.FLOAT)
    if scale is None or value.dtype is None or not value.dtype.is_integer():
        return floats
    return op.Mul(op.Sub(floats, scale[1].astype(np.float32)), scale[0].astype(np.float32))


def _extremes(op: Ops, what: Measured) -> dict[str, ir.Value]:
    """Between what numbers the activations of each channel lie."""
    last, narrow = op.ints(_LAST), _is_narrow(what.value)
    rows = _rows(op, what.value, what.layer) if narrow else _flat(op, what)
    ends = {"high": op.ReduceMax(rows, last, keepdims=0), "low": op.ReduceMin(rows, last, keepdims=0)}
    figures = {name: _floats(op, end, what.scale) for name, end in ends.items()}
    return figures if narrow else {**figures, "mean": op.ReduceMean(rows, last, keepdims=0)}


def _at_bounds(op: Ops, what: Measured, bounds: tuple[float | None, float | None]) -> dict[str, ir.Value]:
    """How many activations of each channel stand at a bound; of integers the mean."""
    narrow = _is_narrow(what.value)
    if not narrow and not any(bounds):
        return {}
    last, floats = op.ints(_LAST), _flat(op, what)
    figures = {"mean": op.ReduceMean(floats, last, keepdims=0)} if narrow else {}
    at_bound = [
        op.ReduceMean(op.Cast(beyond(floats, np.float32(bound)), to=ir.DataType.FLOAT), last, keepdims=0)
        for bound, beyond in zip(_within(bounds), (op.LessOrEqual, op.GreaterOrEqual), strict=True)
        if bound is not None
    ]
    if at_bound:
        figures["clipped"] = at_bound[0] if len(at_bound) == 1 else op.Add(*at_bound)
    return figures


def _within(bounds: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    """Bounds a hair inside, so that rounding leaves what stands at one."""
    low, high = bounds
    hair = 1e-5 * max(abs(low or 0), abs(high or 0))
    return (None if low is None else low + hair), (None if high is None else high - hair)


def _against(op: Ops, ours: Measured, theirs: Measured) -> dict[str, ir.Value]:
    """Sums of squares by which activations are compared."""
    x, r, last = _flat(op, ours), _flat(op, theirs), op.ints(_LAST)
    squares = {"noise": op.Sub(x, r), "signal": r, "energy": x}
    return {name: op.ReduceSum(op.Mul(value, value), last, keepdims=0) for name, value in squares.items()}


def _replace(op: Ops, value: ir.Value, fed: ir.Value, each: Pair, reference: Model | None) -> None:
    """Feed the reference's activations to those who read a stage's own, where they fit its layout."""
    assert reference is not None
    ours, theirs = each
    scale = scale_of(reference.tensor(theirs.tensor))
    order = _order(ours, theirs)
    if order is None:
        return
    floats = fed
    if fed.dtype is not None and fed.dtype.is_integer():
        if scale is None:
            return
        floats = op.Mul(op.Sub(op.Cast(fed, to=ir.DataType.FLOAT), scale[1].astype(np.float32)), scale[0])
    if order != sorted(order):
        floats = op.Transpose(floats, perm=order)
    if value.dtype is not None and value.dtype.is_integer():
        own = scale_of(value)
        if own is None:
            return
        floats = op.QuantizeLinear(op.Cast(floats, to=ir.DataType.FLOAT), own[0], own[1])
        floats.type = value.type
    elif floats.dtype != value.dtype:
        assert value.dtype is not None
        floats = op.Cast(floats, to=value.dtype)
    for user, place in tuple(value.uses()):
        user.replace_input_with(place, floats)


def _order(ours: Layer, theirs: Layer) -> list[int] | None:
    """The transposition from their layout to ours; None where there is none."""
    if ours.shape is None or theirs.shape is None or len(ours.shape) != len(theirs.shape):
        return None
    if ours.tokens != theirs.tokens or len(ours.grid) != len(theirs.grid):
        return None
    if ours.channel is None or theirs.channel is None or not ours.grid:
        return list(range(len(ours.shape)))
    axes = dict(zip([0, ours.channel, *ours.grid], [0, theirs.channel, *theirs.grid], strict=True))
    if len(axes) != len(ours.shape):
        return None
    return [axes[axis] for axis in range(len(ours.shape))]
