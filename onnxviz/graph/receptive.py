"""Receptive fields through any graph: where each axis of each tensor comes from in the model's input.

Output position o of an axis sees the input positions [offset + o * stride, offset + o * stride + size - 1]
of one input axis. Windows compose exactly (Araujo, Norris & Sim 2019, "Computing receptive fields of
convolutional neural networks"); branches that meet take the union; behind an upsampling the stride is a
fraction, and positions round inwards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import onnx_ir as ir

from onnxviz.errors import ShapeError
from onnxviz.graph.families import ELEMENTWISE, in_family
from onnxviz.graph.flow import reads
from onnxviz.graph.ops import constant_of
from onnxviz.graph.window import Window, transposed_window, window


@dataclass(frozen=True)
class Field:
    """One axis of a tensor in terms of one input axis; size None: all of it; stride None: not known."""

    source: int
    size: Fraction | None = Fraction(1)
    stride: Fraction | None = Fraction(1)
    offset: Fraction = Fraction(0)

    def through(self, span: int, stride: int, begin: int) -> "Field":
        """Behind a window of that span: output o reads positions o * stride - begin + [0, span)."""
        if self.stride is None:
            return self
        size = None if self.size is None else self.size + (span - 1) * self.stride
        return replace(self, size=size, stride=self.stride * stride, offset=self.offset - begin * self.stride)

    def spread(self, span: int, stride: int, begin: int) -> "Field":
        """Behind a transposed window: input i reaches outputs i * stride - begin + [0, span)."""
        if self.stride is None:
            return self
        fine = self.stride / stride
        size = None if self.size is None else self.size + (span - 1) * fine
        return replace(self, size=size, stride=fine, offset=self.offset + (begin - span + 1) * fine)

    def whole(self) -> "Field":
        """The same grid, each position of which sees the whole axis."""
        return replace(self, size=None)

    def union(self, other: "Field") -> "Field":
        """The smallest field that holds both; the whole axis where their strides differ."""
        if self.source == other.source and None in (self.stride, other.stride):
            return (other if self.stride is None else self).whole()
        if self.source != other.source or self.stride != other.stride:
            return Field(self.source, None, None)
        if self.size is None or other.size is None:
            return self.whole()
        first = min(self.offset, other.offset)
        last = max(self.offset + self.size, other.offset + other.size)
        return replace(self, size=last - first, offset=first)


@dataclass(frozen=True)
class Trace:
    """Where a tensor's axes come from; `whole`: it also depends on all positions at once."""

    axes: tuple[Field | None, ...]
    whole: bool = False


def trace_axes(graph: ir.Graph) -> Mapping[ir.Value, Trace]:
    """The trace of every value computed from the input of highest rank, the first where several tie."""
    ranked = [value for value in graph.inputs if value.shape is not None]
    if not ranked:
        return {}
    image = max(ranked, key=lambda value: len(value.shape or ()))
    assert image.shape is not None
    traces = {image: Trace(tuple(Field(axis) for axis in range(len(image.shape))))}
    for node in graph:
        if node.op_type in ("Shape", "Size") or not any(value in traces for value in reads(node)):
            continue
        for output in node.outputs:
            traces[output] = _through(node, output, traces)
    return traces


def spatial_sources(graph: ir.Graph, traces: Mapping[ir.Value, Trace]) -> set[int]:
    """The input axes that are places: those that some convolution or pool slides over."""
    return {
        field.source
        for node in graph
        if in_family(node, ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"))
        and node.inputs[0] in traces
        for field in traces[node.inputs[0]].axes[2:]  # type: ignore[index]
        if field is not None
    }


def _through(node: ir.Node, output: ir.Value, traces: Mapping[ir.Value, Trace]) -> Trace:
    if output.shape is None:
        return Trace((), whole=True)
    first = node.inputs[0] if node.inputs else None
    data = traces.get(first) if first is not None else None
    if in_family(node, ELEMENTWISE):
        return _union([(v, traces[v]) for v in node.inputs if v is not None and v in traces], output)
    if in_family(node, ("Concat",)):
        return _concat(node, output, traces)
    if in_family(node, ("MatMul",)) and not any(value in traces for value in node.inputs[1:]):
        return _linear(node, data, output)
    for operators, rule in _MOVES.items():
        if in_family(node, operators) and data is not None and data.axes:
            try:
                moved = rule(node, data, output)
            except ShapeError:
                break
            if moved is not None and len(moved.axes) == len(output.shape):
                return moved
    return _lost(output, data)


def _lost(output: ir.Value, data: Trace | None) -> Trace:
    """An operator that may mix all positions; batch stays in front."""
    assert output.shape is not None
    front = data.axes[:1] if data is not None else ()
    rest = len(output.shape) - len(front)
    return Trace((*front, *[None] * rest) if rest >= 0 else (), whole=True)


def _linear(node: ir.Node, data: Trace | None, output: ir.Value) -> Trace:
    """A matrix product with weights mixes the last axis alone."""
    assert output.shape is not None
    if data is None or len(data.axes) != len(output.shape) or node.attributes.get_int("transA", 0) == 1:
        return _lost(output, data)
    return Trace((*data.axes[:-1], None), data.whole or data.axes[-1] is not None)


def _union(parts: Sequence[tuple[ir.Value, Trace]], output: ir.Value) -> Trace:
    """Operands of one element-wise operator, aligned at their last axes."""
    assert output.shape is not None
    rank = len(output.shape)
    axes: list[Field | None] = [None] * rank
    stretched: list[tuple[int, Field]] = []
    for value, trace in parts:
        lead = rank - len(trace.axes)
        for axis, field in enumerate(trace.axes, start=lead):
            if field is None:
                continue
            if value.shape is not None and value.shape[axis - lead] == 1 and output.shape[axis] != 1:
                stretched.append((axis, field))
            else:
                known = axes[axis]
                axes[axis] = field if known is None else known.union(field)
    for axis, field in stretched:  # its one position is seen from everywhere
        known = axes[axis]
        axes[axis] = Field(field.source, None, None) if known is None else known.whole()
    whole = any(trace.whole for _, trace in parts)
    if whole:
        axes = [axes[0] if axes else None, *(field and field.whole() for field in axes[1:])][:rank]
    return Trace(tuple(axes), whole)


def _concat(node: ir.Node, output: ir.Value, traces: Mapping[ir.Value, Trace]) -> Trace:
    joined = _union([(v, traces[v]) for v in node.inputs if v is not None and v in traces], output)
    return _mixed(joined, node.attributes.get_int("axis"))


def _mixed(data: Trace, axis: int) -> Trace:
    """The same axes, but one whose positions lie no longer at even places."""
    axes, field = list(data.axes), data.axes[axis]
    axes[axis] = None if field is None else Field(field.source, None, None)
    return replace(data, axes=tuple(axes))


def _windowed(node: ir.Node, data: Trace, _output: ir.Value) -> Trace:
    """Batch stays, channels mix, space goes through the window."""
    return _spatial(data, window(node, _weight(node)), Field.through)


def _transposed(node: ir.Node, data: Trace, _output: ir.Value) -> Trace:
    weight = _weight(node)
    return _spatial(data, transposed_window(node, weight), Field.spread)


def _spatial(data: Trace, win: Window, move: Callable[[Field, int, int, int], Field]) -> Trace:
    axes: list[Field | None] = [data.axes[0], None]
    for i, field in enumerate(data.axes[2:]):
        if field is None or win.begin is None:
            axes.append(Field(2 + i if field is None else field.source, None, None))
        else:
            axes.append(move(field, win.extent[i], win.strides[i], win.begin[i]))
    return Trace(tuple(axes), data.whole)


def _weight(node: ir.Node) -> ir.Value | None:
    """The kernel of a convolution: QLinearConv's comes behind the scales of its data."""
    place = 3 if node.op_type == "QLinearConv" else 1
    return node.inputs[place] if len(node.inputs) > place else None


def _global_pool(_node: ir.Node, data: Trace, _output: ir.Value) -> Trace:
    return Trace((*data.axes[:2], *[None] * (len(data.axes) - 2)), whole=True)


def _normalised(node: ir.Node, data: Trace, _output: ir.Value) -> Trace:
    """Statistics over space, or a softmax over an axis: each position sees all of what is normalised."""
    if node.op_type in ("Softmax", "LogSoftmax", "LayerNormalization", "LpNormalization"):
        axis = node.attributes.get_int("axis", -1) % len(data.axes)
        mixed = range(axis, len(data.axes)) if node.op_type == "LayerNormalization" else (axis,)
    else:
        mixed = range(1, len(data.axes))
    return Trace(tuple(f and (f.whole() if i in mixed else f) for i, f in enumerate(data.axes)), data.whole)


def _transpose(node: ir.Node, data: Trace, _output: ir.Value) -> Trace:
    perm = node.attributes.get_ints("perm", ()) or range(len(data.axes))[::-1]
    return replace(data, axes=tuple(data.axes[axis] for axis in perm))


def _reshape(node: ir.Node, data: Trace, output: ir.Value) -> Trace | None:
    """Axes keep their meaning as far as the sizes agree from the front and from the back."""
    before, after = node.inputs[0].shape if node.inputs[0] else None, output.shape
    if before is None or after is None:
        return None
    old, new = list(before), list(after)
    front = 0
    while front < min(len(old), len(new)) and _equal(old[front], new[front]):
        front += 1
    back = 0
    while back < min(len(old), len(new)) - front and _equal(old[-1 - back], new[-1 - back]):
        back += 1
    middle = data.axes[front : len(old) - back]
    axes = (*data.axes[:front], *[None] * (len(new) - front - back), *data.axes[len(old) - back :])
    joined = [f for f, size in zip(middle, old[front:], strict=False) if f and (size != 1 or f.size != 1)]
    return Trace(axes, data.whole or any(field.source >= 1 for field in joined))


def _equal(one: int | ir.SymbolicDim, other: int | ir.SymbolicDim) -> bool:
    """Whether two sizes are the same; two that are unknown need not be."""
    return one == other and (isinstance(one, int) or one.value is not None)


def _split(node: ir.Node, data: Trace, _output: ir.Value) -> Trace:
    return _mixed(data, node.attributes.get_int("axis", 0))


def _expand(node: ir.Node, data: Trace, output: ir.Value) -> Trace:
    assert node.inputs[0] is not None
    return _union([(node.inputs[0], data)], output)


def _slice(node: ir.Node, data: Trace, _output: ir.Value) -> Trace | None:
    shape = node.inputs[0].shape if node.inputs[0] else None
    arrays = [constant_of(value) for value in node.inputs[1:]]
    if shape is None or any(array is None for array in arrays):
        return None
    starts, ends, *rest = (array.tolist() for array in arrays if array is not None)
    axes_of = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    axes = list(data.axes)
    for start, end, axis, step in zip(starts, ends, axes_of, steps, strict=True):
        field, size = axes[axis], shape[axis]
        if field is None:
            continue
        if not isinstance(size, int) or step < 1:
            axes[axis] = Field(field.source, None, None)
        else:
            axes[axis] = field.through(1, step, -slice(start, end).indices(size)[0])
    return replace(data, axes=tuple(axes))


def _pad(node: ir.Node, data: Trace, _output: ir.Value) -> Trace | None:
    pads = constant_of(node.inputs[1])
    if pads is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return None
    begins = pads.tolist()[: len(data.axes)]
    return replace(data, axes=tuple(f and f.through(1, 1, b) for f, b in zip(data.axes, begins, strict=True)))


def _squeeze(node: ir.Node, data: Trace, output: ir.Value) -> Trace | None:
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    assert output.shape is not None
    if axes is None:
        return None
    if node.op_type == "Squeeze":
        gone = {int(axis) % len(data.axes) for axis in axes}
        kept = tuple(f for i, f in enumerate(data.axes) if i not in gone)
        lost = [field for i in gone if (field := data.axes[i]) is not None and field.size != 1]
        return Trace(kept, data.whole or any(field.source >= 1 for field in lost))
    new = {int(axis) % len(output.shape) for axis in axes}
    old = iter(data.axes)
    return replace(data, axes=tuple(None if i in new else next(old) for i in range(len(output.shape))))


def _blocks(node: ir.Node, data: Trace, _output: ir.Value) -> Trace:
    block = node.attributes.get_int("blocksize")
    down = node.op_type == "SpaceToDepth"
    move = Field.through if down else Field.spread
    return Trace((data.axes[0], None, *(f and move(f, block, block, 0) for f in data.axes[2:])), data.whole)


def _resize(node: ir.Node, data: Trace, output: ir.Value) -> Trace:
    """Whole factors upwards are transposed windows; of anything else only the grid is kept."""
    shape, target = node.inputs[0].shape if node.inputs[0] else None, output.shape
    axes: list[Field | None] = []
    for axis, field in enumerate(data.axes):
        old, new = (dims[axis] if dims is not None else None for dims in (shape, target))
        if field is None or (isinstance(old, int) and old == new):
            axes.append(field)
        elif isinstance(old, int) and isinstance(new, int) and new % old == 0:
            axes.append(_enlarged(node, field, new // old))
        else:
            axes.append(field if axis == 0 else Field(field.source, None, None))
    return replace(data, axes=tuple(axes))


def _enlarged(node: ir.Node, field: Field, r: int) -> Field:
    """One axis of a Resize by a whole factor r: output o lies at (o + 1/2) / r - 1/2, or at o / r."""
    place = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    mode = node.attributes.get_string("mode", "nearest")
    centred = place in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
    if mode == "cubic" or not (centred or place == "asymmetric"):
        return Field(field.source, None, None)
    if mode == "linear":
        return field.spread(r + 2 * (r // 2), r, r // 2) if centred else field.spread(2 * r - 1, r, r - 1)
    rounding = node.attributes.get_string("nearest_mode", "round_prefer_floor")
    begins = {"floor": (1 - r) // 2, "ceil": r // 2} if centred else {
        "ceil": r - 1, "round_prefer_floor": (r - 1) // 2, "round_prefer_ceil": r // 2
    }  # fmt: skip
    return field.spread(r, r, begins.get(rounding, 0))


_MOVES: Mapping[tuple[str, ...], Callable[[ir.Node, Trace, ir.Value], Trace | None]] = {
    ("Conv", "MaxPool", "AveragePool", "LpPool"): _windowed,
    ("ConvTranspose",): _transposed,
    ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"): _global_pool,
    (
        "Softmax", "LogSoftmax", "LayerNormalization", "LpNormalization",
        "InstanceNormalization", "GroupNormalization", "DynamicQuantizeLinear",
    ): _normalised,
    ("Transpose",): _transpose,
    ("Reshape", "Flatten"): _reshape,
    ("Slice",): _slice,
    ("Split",): _split,
    ("Expand",): _expand,
    ("Pad",): _pad,
    ("Squeeze", "Unsqueeze"): _squeeze,
    ("SpaceToDepth", "DepthToSpace"): _blocks,
    ("Resize",): _resize,
}  # fmt: skip
