"""A model that outputs what is known of each layer's channels, and how far they are from another file's.

The figures are computed by the graph itself, so that a tensor of a million numbers leaves the device as a
few. Where the other file's activations are fed in the place of a layer's own, the layers behind it show what
error each makes alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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

FIGURES = ("high", "low", "total", "clipped", "noise", "signal", "energy")
"""Each is [N, C]: extremes and sum of a channel's activations, how many stand at a bound; and the sums of
squares of the difference from the reference, of the reference, and of the activations."""

_LAST = 2


@dataclass(frozen=True)
class Watched:
    """A model whose outputs are figures.

    Attributes:
        model: The model.
        outputs: The output of each figure, by the tensor measured and the figure's name.
        references: The tensor of the other file that each further input takes, by the input's name.
    """

    model: Model
    outputs: Mapping[tuple[str, str], str]
    references: Mapping[str, str]


def watched(
    model: Model, stages: Sequence[Stage], pairs: Sequence[Pair] = (), reference: Model | None = None
) -> Watched:
    """The model with the figures of its stages as outputs, and those against the reference's activations."""
    return _watched(model, stages, pairs, reference, alone=False)


def alone(model: Model, pairs: Sequence[Pair], reference: Model) -> Watched:
    """As `watched`, each matched stage computed from the reference's activations and not the file's own."""
    return _watched(model, [], pairs, reference, alone=True)


def _watched(
    model: Model, stages: Sequence[Stage], pairs: Sequence[Pair], reference: Model | None, alone: bool
) -> Watched:
    copy = model.ir_model.clone()
    values = ir.convenience.create_value_mapping(copy.graph, include_subgraphs=False)
    op = Ops(copy.graph, "audit")
    outputs: dict[tuple[str, str], ir.Value] = {}
    references: dict[str, str] = {}
    copy.graph.outputs.clear()
    given = {}
    for each in pairs:
        assert reference is not None
        theirs = reference.tensor(each.theirs.tensor)
        given[each.ours.tensor] = fed = _fed(op, theirs)
        copy.graph.inputs.append(fed)
        references[str(fed.name)] = str(theirs.name)
    if alone:
        for each in pairs:
            tensor = each.ours.tensor
            _replace(op, values[tensor], given[tensor], each, reference)
    for stage in stages:
        floats = _flat(op, values[stage.tensor], stage.end, scale_of(model.tensor(stage.tensor)))
        bounds = bounds_of(model, stage)
        for name, figure in _spread(op, floats, bounds).items():
            outputs[stage.tensor, name] = figure
    for each in pairs:
        assert reference is not None
        ours, theirs_layer = each
        x = _flat(op, values[ours.tensor], ours, scale_of(model.tensor(ours.tensor)))
        r = _flat(op, given[ours.tensor], theirs_layer, scale_of(reference.tensor(theirs_layer.tensor)))
        for name, figure in _against(op, x, r).items():
            outputs[ours.tensor, name] = figure
    copy.graph.outputs.extend(outputs.values())
    copy.graph.sort()
    prune(copy)
    named = {key: str(value.name) for key, value in outputs.items()}
    return Watched(Model(with_shapes(copy), model.path), named, references)


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


def _flat(op: Ops, value: ir.Value, layer: Layer, scale: Scale | None) -> ir.Value:
    """A tensor as floats [N, C, Z]."""
    floats = value
    if value.dtype is not None and value.dtype.is_integer():
        floats = op.Cast(value, to=ir.DataType.FLOAT)
        if scale is not None:
            # Not DequantizeLinear: a runtime may take it for a part of the layer.
            zero = scale[1].astype(np.float32)
            floats = op.Mul(op.Sub(floats, zero), scale[0].astype(np.float32))
    elif value.dtype != ir.DataType.FLOAT:
        floats = op.Cast(value, to=ir.DataType.FLOAT)
    if layer.channel is None or not layer.grid:
        return op.Reshape(floats, op.ints(0, -1, 1))
    floats.shape = value.shape
    return flattened(op, floats, layer)


def _spread(op: Ops, x: ir.Value, bounds: tuple[float | None, float | None]) -> dict[str, ir.Value]:
    """How the activations of each channel spread."""
    last = op.ints(_LAST)
    figures = {
        "high": op.ReduceMax(x, last, keepdims=0),
        "low": op.ReduceMin(x, last, keepdims=0),
        "total": op.ReduceSum(x, last, keepdims=0),
    }
    at_bound = [
        op.ReduceSum(op.Cast(beyond(x, np.float32(bound)), to=ir.DataType.FLOAT), last, keepdims=0)
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


def _against(op: Ops, x: ir.Value, r: ir.Value) -> dict[str, ir.Value]:
    """Sums of squares by which activations are compared."""
    last, difference = op.ints(_LAST), op.Sub(x, r)
    squares = {"noise": difference, "signal": r, "energy": x}
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
