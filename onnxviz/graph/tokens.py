"""Tokens: which axes of a tensor are places of the picture, in networks that cut it into a sequence.

Each axis of a tensor is a product of parts, the slowest first, as einops writes it: `(rows columns)` are the
patches of a picture in one axis; the windows of a Swin transformer have the outer parts of both in front, and
the inner parts in another axis. Reshape and Transpose move parts, Concat puts tokens in front that have no
place, and what mixes an axis (a matrix product) makes a new one. This takes sizes: any batch is traced as 1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import onnx_ir as ir

from onnxviz.graph.families import ELEMENTWISE, in_family
from onnxviz.graph.normalise import known_sizes
from onnxviz.graph.ops import constant_of
from onnxviz.graph.receptive import spatial_sources, trace_axes

if TYPE_CHECKING:
    from onnxviz.graph.model import Model


@dataclass(frozen=True)
class Part:
    """A factor of an axis: `size` positions, `stride` apart in the rows or columns that they are `of`.

    Tokens that stand beside others without a place are one part: how many are in front, and the height and
    width of their grid.
    """

    size: int
    of: Literal["rows", "columns", "tokens", ""] = ""
    stride: int = 1
    tokens: tuple[int, int, int] | None = None

    def split(self, outer: int) -> tuple["Part", "Part"]:
        """Two factors, the first of that size."""
        inner = self.size // outer
        return Part(outer, self.of, self.stride * inner), Part(inner, self.of, self.stride)


Axis: TypeAlias = tuple[Part, ...]
Axes: TypeAlias = tuple[Axis, ...]
Sizes: TypeAlias = Mapping[str, tuple[int, ...]]
Layout: TypeAlias = tuple[tuple[int, ...], int | None, tuple[int, int, int] | None]

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Places:
    """The parts of each axis of every tensor computed from the picture, by the tensor's name.

    `batch` is the number of pictures that they were traced for.
    """

    axes: Mapping[str, Axes] = field(default_factory=dict)
    batch: int = 1

    def layout(self, tensor: str) -> Layout | None:
        """The places, the axis of features, and the tokens, as a `Layer` has them; None without places."""
        axes = self.axes.get(tensor, ())
        if not axes or _has_places(axes[0]) or size_of(axes[0]) != self.batch:
            return None
        tokens = [axis for axis, parts in enumerate(axes) if tokens_of(parts)]
        rows, columns = (
            [axis for axis, parts in enumerate(axes) if [part.of for part in parts] == [of]]
            for of in ("rows", "columns")
        )
        if len(tokens) == 1 and not rows and not columns:
            grid: tuple[int, ...] = (tokens[0],)
        elif len(rows) == len(columns) == 1 and not tokens:
            grid = (rows[0], columns[0])
        else:
            return None
        rest = [axis for axis in range(1, len(axes)) if axis not in grid]
        return grid, rest[0] if len(rest) == 1 else None, tokens_of(axes[grid[0]])


def trace_places(model: "Model") -> Places:
    """Trace rows and columns of the picture, the input of highest rank, through the model.

    Nothing is found where there are no sequences, or where the picture's height and width are not known.
    """
    graph = model.ir_model.graph
    if not any(map(_makes_sequences, graph)):
        return Places()
    sizes = _sizes_for_one(model)
    image = max(graph.inputs, key=lambda value: len(value.shape or ()))
    places = tuple(sorted(spatial_sources(graph, trace_axes(graph)))) or _beside_channels(image)
    if str(image.name) not in sizes or len(places) != 2:
        return Places()
    shape = sizes[str(image.name)]
    axes = list(_plain(shape))
    axes[places[0]], axes[places[1]] = (Part(shape[places[0]], "rows"),), (Part(shape[places[1]], "columns"),)
    known = {str(image.name): tuple(axes)}
    for node in graph:
        read = {str(value.name) for value in node.inputs if value is not None}
        if node.op_type not in ("Shape", "Size") and not read.isdisjoint(known):
            known.update(_through(node, known, sizes))
    return Places(known, shape[0])


def tokens_of(axis: Axis) -> tuple[int, int, int] | None:
    """Of an axis of tokens, how many are in front of those with places, and the grid's height and width."""
    if [part.of for part in axis] == ["rows", "columns"]:
        return (0, axis[0].size, axis[1].size)
    return axis[0].tokens if len(axis) == 1 else None


def _makes_sequences(node: ir.Node) -> bool:
    """Whether a node mixes the features of a sequence, or of its places."""
    made = node.outputs[0].shape if node.outputs else None
    if "Attention" in node.op_type:
        return True
    return in_family(node, ("MatMul", "Gemm", "Einsum")) and (made is None or len(made) > 2)


def _sizes_for_one(model: "Model") -> Sizes:
    """The shapes of all tensors, for a batch of 1 where any may be fed."""
    shapes = {
        info.name: [1 if axis == 0 and not isinstance(size, int) else size for axis, size in enumerate(given)]
        for info in model.inputs
        if (given := info.shape) is not None
    }
    graph = model.ir_model.graph
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    if any(value.shape is None or not value.shape.is_static() for value in values):
        return known_sizes(model.ir_model, shapes)
    weights = {name: value.const_value for name, value in graph.initializers.items()}
    return {
        **{str(value.name): tuple(value.shape.numpy()) for value in values if value.shape is not None},
        **{name: tuple(weight.shape.numpy()) for name, weight in weights.items() if weight is not None},
    }


def _beside_channels(image: ir.Value) -> tuple[int, ...]:
    """The places of a picture that no convolution slides over."""
    sizes = list(image.shape or ())
    if len(sizes) != 4:
        return ()
    return (2, 3) if sizes[1] in _CHANNELS else (1, 2) if sizes[3] in _CHANNELS else ()


def _plain(sizes: Iterable[int]) -> Axes:
    """Axes that are no places, or of which nothing is known."""
    return tuple((Part(size),) if size != 1 else () for size in sizes)


def size_of(axis: Axis) -> int:
    """The number of positions of an axis."""
    return int(np.prod([part.size for part in axis], dtype=np.int64))


def _has_places(axis: Axis) -> bool:
    return any(part.of for part in axis)


def _joined(parts: Iterable[Part]) -> Axis:
    """Parts side by side that are factors of one are that one."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if (
            last is not None
            and last.of == part.of != "tokens"
            and (not part.of or last.stride == part.stride * part.size)
        ):
            found[-1] = Part(last.size * part.size, part.of, part.stride)
        elif part.size != 1:
            found.append(part)
    return tuple(found)


def _token_axis(tokens: tuple[int, int, int], size: int) -> Axis:
    before, height, width = tokens
    if before == 0 and size == height * width:
        return (Part(height, "rows"), Part(width, "columns"))
    return (Part(size, "tokens", tokens=tokens),)


def _resized(axis: Axis, size: int) -> Axis:
    """An axis of rows or columns some of which are left, or between which others are put."""
    if size_of(axis) == size:
        return axis
    if size != 1 and len(axis) == 1 and axis[0].of in ("rows", "columns"):
        return (Part(size, axis[0].of),)
    return _plain([size])[0]


def _cut(axis: Axis, begin: int | None, size: int) -> Axis:
    """Some positions of an axis, side by side; their number tells which, where the first is not known."""
    tokens = tokens_of(axis)
    if tokens is None or size_of(axis) == size:
        return _resized(axis, size)
    before, height, width = tokens
    begin = before if begin is None and size == height * width else begin
    if begin is None or begin > before or begin + size < before + height * width:
        return _plain([size])[0]
    return _token_axis((before - begin, height, width), size)


def _through(node: ir.Node, known: Mapping[str, Axes], sizes: Sizes) -> Mapping[str, Axes]:
    """The axes of what a node makes, where all sizes are known."""
    made = {str(value.name): sizes[str(value.name)] for value in node.outputs if value.name in sizes}
    operands = [_axes(value, known, sizes) for value in node.inputs]
    found: Mapping[str, Axes | None] = {}
    if in_family(node, ELEMENTWISE) or node.op_type in ("Expand", "ScatterND"):
        found = {name: _broadcast(operands, shape) for name, shape in made.items()}
    elif node.op_type == "Split":
        found = _split(node, operands[0], made)
    elif node.outputs[0].name in made:
        rule = next((rule for operators, rule in _RULES.items() if in_family(node, operators)), None)
        name = str(node.outputs[0].name)
        found = {} if rule is None else {name: rule(node, operands, made[name])}
    return {name: _fitting(found.get(name), shape) for name, shape in made.items()}


def _fitting(axes: Axes | None, shape: tuple[int, ...]) -> Axes:
    """The axes where they are of those sizes; else nothing is known of them."""
    return axes if axes is not None and tuple(map(size_of, axes)) == shape else _plain(shape)


def _axes(value: ir.Value | None, known: Mapping[str, Axes], sizes: Sizes) -> Axes | None:
    """The axes of an operand; those of weights are no places."""
    if value is None or value.name not in sizes:
        return None
    return known.get(str(value.name)) or _plain(sizes[str(value.name)])


_Operands: TypeAlias = Sequence[Axes | None]
_Rule: TypeAlias = Callable[[ir.Node, _Operands, tuple[int, ...]], Axes | None]


def _broadcast(operands: _Operands, sizes: Sequence[int]) -> Axes:
    """Operands aligned at their last axes: an axis is what those that are not stretched say it is.

    A grid that was thinned out is one of its own: strides that differ are counted anew.
    """
    found: list[Axis] = []
    for place, size in enumerate(sizes, start=-len(sizes)):
        given = [axes[place] for axes in operands if axes is not None and len(axes) >= -place]
        said = {axis for axis in given if size_of(axis) == size and _has_places(axis)}
        if len(said) > 1:
            said = {tuple(replace(part, stride=1) for part in axis) for axis in said}
        found.append(said.pop() if len(said) == 1 else _plain([size])[0])
    return tuple(found)


def _like_first(_node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    data = operands[0]
    if data is None or len(data) != len(sizes):
        return None
    return tuple(_resized(axis, size) for axis, size in zip(data, sizes, strict=True))


def _slid(node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    """Windows slide over the places, channels mix."""
    moved = _like_first(node, operands, sizes)
    return moved and (moved[0], _plain(sizes[1:2])[0], *moved[2:])


def _transposed(node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    perm = node.attributes.get_ints("perm", ()) or range(len(sizes))[::-1]
    return operands[0] and tuple(operands[0][axis] for axis in perm)


def _regrouped(_node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    """A Reshape, or another operator that moves no number: the same parts, grouped by other sizes."""
    if operands[0] is None:
        return None
    parts = list(_joined(part for axis in operands[0] for part in axis))
    found: list[Axis] = []
    for size in sizes:
        taken: list[Part] = []
        while size > 1:
            part = parts.pop(0)
            if size % part.size:
                if part.size % size or part.of == "tokens":
                    return None
                part, inner = part.split(size)
                parts.insert(0, inner)
            taken.append(part)
            size //= part.size
        found.append(_joined(taken))
    return tuple(found)


def _sliced(node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    data = operands[0]
    if data is None:
        return None
    starts, axes_of, steps = (
        constant_of(node.inputs[i]) if len(node.inputs) > i else None for i in (1, 3, 4)
    )
    if steps is not None and (steps < 0).any():
        return None
    given = [] if starts is None else starts.tolist()
    named = range(len(given)) if axes_of is None else axes_of.tolist()
    begins = {axis % len(data): begin for axis, begin in zip(named, given, strict=False)}
    found = []
    for axis, (parts, size) in enumerate(zip(data, sizes, strict=True)):
        begin = begins.get(axis)
        found.append(_cut(parts, begin if begin is None or begin >= 0 else begin + size_of(parts), size))
    return tuple(found)


def _split(node: ir.Node, data: Axes | None, made: Sizes) -> Mapping[str, Axes | None]:
    if data is None or len(made) < len(node.outputs):
        return {}
    axis = node.attributes.get_int("axis", 0) % len(data)
    begins = accumulate((shape[axis] for shape in made.values()), initial=0)
    return {
        name: (*data[:axis], _cut(data[axis], begin, shape[axis]), *data[axis + 1 :])
        for begin, (name, shape) in zip(begins, made.items(), strict=False)
    }


def _gathered(node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    data, places = operands[0], constant_of(node.inputs[1])
    if data is None or operands[1] is None:
        return None
    axis = node.attributes.get_int("axis", 0) % len(data)
    made = sizes[axis : axis + len(operands[1])]
    picked = _plain(made)
    if len(made) == 1:
        consecutive = places is not None and places.size and (np.diff(places) == 1).all() and places[0] >= 0
        rolled = places is not None and sorted(places.tolist()) == list(range(size_of(data[axis])))
        kept = data[axis] if rolled and len(data[axis]) == 1 else _plain(made)[0]
        picked = (_cut(data[axis], int(places[0]), made[0]) if consecutive and places is not None else kept,)
    return (*data[:axis], *picked, *data[axis + 1 :])


def _concatenated(node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    """Tokens with others in front or behind; or rows, or columns, one after another."""
    given = [axes for axes in operands if axes is not None]
    if len(given) != len(operands):
        return None
    axis = node.attributes.get_int("axis") % len(sizes)
    found = list(_broadcast([(*axes[:axis], (), *axes[axis + 1 :]) for axes in given], sizes))
    parts = [axes[axis] for axes in given]
    placed = [one for one in parts if _has_places(one)]
    kinds = {tuple(part.of for part in one) for one in placed}
    tokens = tokens_of(placed[0]) if len(placed) == 1 else None
    if tokens is not None:
        front = sum(map(size_of, parts[: parts.index(placed[0])]))
        found[axis] = _token_axis((front + tokens[0], *tokens[1:]), sizes[axis])
    elif kinds in ({("rows",)}, {("columns",)}):
        found[axis] = _resized(placed[0], sizes[axis])
    return tuple(found)


def _reduced(node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    data = operands[0]
    if data is None or node.attributes.get_int("keepdims", 1) == 1:
        return _like_first(node, operands, sizes)
    given = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    gone = {axis % len(data) for axis in (range(len(data)) if given is None else given.tolist())}
    return tuple(parts for axis, parts in enumerate(data) if axis not in gone)


def _multiplied(node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    """Rows of the first operand, columns of the second; what lies before is broadcast."""
    a, b = operands[0], operands[3 if node.op_type.startswith("Q") else 1]
    if a is None or b is None or min(len(a), len(b)) < 2:
        return None
    row = a[-1] if node.attributes.get_int("transA", 0) else a[-2]
    column = b[-2] if node.attributes.get_int("transB", 0) else b[-1]
    return (*_broadcast([a[:-2], b[:-2]], sizes[:-2]), row, column)


def _summed(node: ir.Node, operands: _Operands, sizes: tuple[int, ...]) -> Axes | None:
    """Einstein's sum: each letter is an axis of the operand that has it."""
    terms, arrow, made = node.attributes.get_string("equation").replace(" ", "").partition("->")
    if not arrow or "." in terms or len(made) != len(sizes):
        return None
    said: dict[str, set[Axis]] = {letter: set() for letter in made}
    for term, axes in zip(terms.split(","), operands, strict=True):
        for letter, axis in zip(term, axes or (), strict=False):
            if letter in said and _has_places(axis):
                said[letter].add(axis)
    return tuple(
        said[letter].pop() if len(said[letter]) == 1 else _plain([size])[0]
        for letter, size in zip(made, sizes, strict=True)
    )


_RULES: Mapping[tuple[str, ...], _Rule] = {
    ("Transpose",): _transposed,
    ("Reshape", "Flatten", "Squeeze", "Unsqueeze"): _regrouped,
    ("MatMul", "Gemm"): _multiplied,
    ("Einsum",): _summed,
    ("Slice",): _sliced,
    ("Gather",): _gathered,
    ("Concat",): _concatenated,
    ("Conv", "ConvTranspose", "SpaceToDepth", "DepthToSpace"): _slid,
    (
        "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
        "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
    ): _reduced,
    (
        "Softmax", "LogSoftmax", "LayerNormalization", "LpNormalization", "RMSNormalization",
        "InstanceNormalization", "GroupNormalization", "SimplifiedLayerNormalization",
        "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "DynamicQuantizeLinear",
        "CumSum", "Pad", "Resize", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool",
        "GlobalMaxPool", "GlobalLpPool", "Attention", "MultiHeadAttention", "RotaryEmbedding",
    ): _like_first,
}  # fmt: skip
