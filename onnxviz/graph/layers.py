"""The layer table: each operator that data flows through, with its cost and what it sees of the input."""

import ast
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import onnx_ir as ir

from onnxviz.graph.families import family, in_family
from onnxviz.graph.flow import ancestors, reads
from onnxviz.graph.model import Model, shape_of
from onnxviz.graph.receptive import Field, Trace, spatial_sources, trace_axes

_QUANTISED = (ir.DataType.UINT8, ir.DataType.INT8)
_INTEGER_PRODUCTS = ("ConvInteger", "MatMulInteger")
# Where an operator holds weights among scales, zero points, bounds and places; anywhere for any other.
_WEIGHT_INPUTS = {
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear", "Gather", "Pad", "Resize", "Slice"), (0,)),
    **dict.fromkeys(_INTEGER_PRODUCTS, (0, 1)),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "QGemm": (3, 6),
}
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class ReceptiveField:
    """What one position of a layer sees of the model's input, in input pixels, one number per spatial axis.

    Position o sees the pixels offset + o * stride ... offset + o * stride + size - 1. A size of None is the
    whole axis, a stride of None one that is not even. Behind an upsampling the numbers may be fractions.
    """

    size: tuple[float | None, ...]
    stride: tuple[float | None, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True)
class Layer:
    """One operator of the model.

    `shape` is that of `tensor`, its (first) output. `params` counts the numbers in its weights, `macs` its
    multiply-accumulates for one sample (None: not known, 0: none to speak of). `grid` are the axes of the
    output that are places in the picture, in the picture's order (rows first, even where a layout swaps
    them), and `channel` the axis of its feature maps (None: it has no maps). `tokens` says of a grid of one
    axis that it holds tokens cut from a picture: how many stand in front that have no place, and the height
    and width of the grid that the others fill, row by row.
    """

    index: int
    name: str
    tensor: str
    op: str
    module: str | None
    shape: tuple[int | str | None, ...] | None
    params: int
    macs: int | None
    receptive_field: ReceptiveField | None
    grid: tuple[int, ...] = ()
    channel: int | None = None
    tokens: tuple[int, int, int] | None = None

    @property
    def channels(self) -> int | None:
        """The number of feature maps; None where it is not known or there are none."""
        size = self.shape[self.channel] if self.shape is not None and self.channel is not None else None
        return size if isinstance(size, int) else None

    @property
    def is_spatial(self) -> bool:
        """Whether the output has feature maps of more than one position."""
        if self.shape is None or self.channel is None or not self.grid:
            return False
        return any(self.shape[axis] != 1 for axis in self.grid)

    def to_dict(self) -> dict[str, object]:
        """The layer as JSON can hold it."""
        field = self.receptive_field
        return {
            "index": self.index,
            "name": self.name,
            "tensor": self.tensor,
            "op": self.op,
            "module": self.module,
            "shape": None if self.shape is None else list(self.shape),
            "params": self.params,
            "macs": self.macs,
            "receptive_field": field
            and {"size": list(field.size), "stride": list(field.stride), "offset": list(field.offset)},
        }


def layer_table(model: Model) -> tuple[Layer, ...]:
    """Every operator on a path of data from an input to an output, in the graph's order."""
    graph = model.ir_model.graph
    needed = ancestors(graph.outputs)
    traces = trace_axes(graph)
    space = spatial_sources(graph, traces)
    names = _unique_names(graph)
    nodes, moving = _data(graph)
    layers: list[Layer] = []
    for node in nodes:
        tensor = node.outputs[0]
        if not _carries(node, tensor) or not any(output in needed for output in node.outputs):
            continue
        grid, channel = seen, _ = _maps(node, tensor, traces.get(tensor), space)
        tokens, cut = None, None if seen else model.places.layout(str(tensor.name))
        if cut is not None:
            grid, channel, tokens = cut
        layers.append(
            Layer(
                index=len(layers),
                name=names[node],
                tensor=str(tensor.name),
                op=node.op_type,
                module=module_path(node),
                shape=shape_of(tensor),
                params=sum(_size(weight) for weight in _weights(node, moving)),
                macs=_macs(node),
                receptive_field=_receptive_field(traces.get(tensor), seen),
                grid=grid,
                channel=channel,
                tokens=tokens,
            )
        )
    return tuple(layers)


def total_parameters(model: Model) -> int:
    """The numbers in all weights, each weight once however many layers share it."""
    nodes, moving = _data(model.ir_model.graph)
    weights = {weight for node in nodes for weight in _weights(node, moving)}
    return sum(_size(weight) for weight in weights)


def weights_of(model: Model, layer: Layer) -> list[ir.Value]:
    """The weights that a layer computes with, as values of the model's graph."""
    nodes, moving = _data(model.ir_model.graph)
    [node] = [node for node in nodes if node.outputs[0].name == layer.tensor]
    return _weights(node, moving)


def module_path(node: ir.Node) -> str | None:
    """The module that an exporter recorded for a node, dotted as the framework names it.

    From PyTorch's `pkg.torch.onnx.name_scopes`, else from slashes in the node's name.
    """
    recorded = node.metadata_props.get(_SCOPES)
    if recorded is not None:
        try:
            scopes = ast.literal_eval(recorded)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # as untrusted as the file
            return None
        return str(scopes[-2]) or None if isinstance(scopes, list) and len(scopes) > 1 else None
    *parts, _operator = (node.name or "").split(";")[0].split("/")
    tokens: list[str] = []
    for part in parts:
        if tokens and part.startswith(f"{tokens[-1]}."):
            tokens[-1] = part  # TorchScript writes layer4/layer4.0 for the path layer4.0
        elif part:
            tokens.append(part)
    return ".".join(tokens) or None


def _data(graph: ir.Graph) -> tuple[list[ir.Node], set[ir.Value]]:
    """What is computed from the values of an input, not merely from its shape: the nodes, and all values."""
    moving = set(graph.inputs)
    nodes = []
    for node in graph:
        if node.op_type not in ("Shape", "Size") and any(value in moving for value in reads(node)):
            moving.update(node.outputs)
            nodes.append(node)
    return nodes, moving


def _carries(node: ir.Node, tensor: ir.Value) -> bool:
    """Whether a tensor holds activations: floats or quantised numbers, not indices or masks."""
    if tensor.dtype is None or node.op_type in _INTEGER_PRODUCTS:
        return True
    return tensor.dtype.is_floating_point() or tensor.dtype in _QUANTISED


def _unique_names(graph: ir.Graph) -> Mapping[ir.Node, str]:
    """Each node's name where it is no other node's and no other's first output's, else its first output's."""
    makers = {str(node.outputs[0].name): node for node in graph if node.outputs}
    count = Counter(node.name for node in graph)
    return {
        node: node.name
        if node.name and count[node.name] == 1 and makers.get(node.name, node) is node
        else out
        for out, node in makers.items()
    }


def _maps(
    node: ir.Node, tensor: ir.Value, trace: Trace | None, space: set[int]
) -> tuple[tuple[int, ...], int | None]:
    """The axes of a tensor that are places, as the picture orders them, and the one of its feature maps."""
    if tensor.shape is None:
        return (), None
    rank = len(tensor.shape)
    source = {i: field.source for i, field in enumerate(trace.axes) if field is not None} if trace else {}
    convolution = in_family(node, ("Conv", "ConvTranspose"))
    places = range(2, rank) if convolution else [axis for axis in source if source[axis] in space]
    grid = tuple(sorted(places, key=lambda axis: source.get(axis, axis)))
    rest = [axis for axis in range(1, rank) if axis not in grid]
    # The first axis is the batch; feature maps need one axis of their own, however the rest is laid out.
    return grid, rest[0] if len(rest) == 1 else None


def _receptive_field(trace: Trace | None, grid: Sequence[int]) -> ReceptiveField | None:
    fields = [trace.axes[axis] for axis in grid] if trace is not None else []
    if not fields or any(field is None for field in fields):
        return None
    known = [field for field in fields if isinstance(field, Field)]
    return ReceptiveField(
        tuple(_plain(field.size) for field in known),
        tuple(_plain(field.stride) for field in known),
        tuple(_number(field.offset) for field in known),
    )


def _number(value: Fraction) -> float:
    return value.numerator if value.denominator == 1 else float(value)


def _plain(value: Fraction | None) -> float | None:
    return None if value is None else _number(value)


def _weights(node: ir.Node, moving: Collection[ir.Value]) -> list[ir.Value]:
    """The weights a node computes with, found behind dequantisers, casts, reshapes and other constants."""
    pending, found = _fixed_inputs(node, moving), dict[ir.Value, None]()
    while pending:
        value = pending.pop()
        maker = value.producer()
        if value not in found and maker is not None:
            pending += _fixed_inputs(maker, moving)
        found[value] = None
    return [value for value in found if _is_weight(value)]


def _fixed_inputs(node: ir.Node, moving: Collection[ir.Value]) -> list[ir.Value]:
    places = _WEIGHT_INPUTS.get(node.op_type, range(len(node.inputs)))
    values = [node.inputs[place] for place in places if place < len(node.inputs)]
    return [value for value in values if value is not None and value not in moving]


def _is_weight(value: ir.Value) -> bool:
    """Constants with an axis; single numbers are bounds, scales and the like, int64 are shapes."""
    tensor = ir.convenience.get_const_tensor(value)
    return tensor is not None and tensor.dtype != ir.DataType.INT64 and len(tensor.shape) > 0


def _size(value: ir.Value) -> int:
    tensor = ir.convenience.get_const_tensor(value)
    return 0 if tensor is None else math.prod(tensor.shape.numpy())


def _macs(node: ir.Node) -> int | None:
    """Multiply-accumulates for one sample of a convolution or a matrix product; 0 for any other operator."""
    kind = family(node.op_type)
    if not in_family(node, ("Conv", "ConvTranspose", "Gemm", "MatMul")):
        return None if kind == "Conv" else 0
    place = 3 if node.op_type.startswith("Q") else 1
    left, right, out = node.inputs[0], node.inputs[place], node.outputs[0]
    if kind == "Conv":
        made, per_output = _sizes(out, 1), _sizes(right, 1)
    elif kind == "ConvTranspose":
        made, per_output = _sizes(left, 1), _sizes(right, 1)
    else:
        made = _sizes(out, 1) if out.shape is not None and len(out.shape) > 1 else _sizes(out)
        place = -2 if node.attributes.get_int("transA", 0) == 1 else -1
        inner = left.shape[place] if left is not None and left.shape is not None else None
        per_output = inner if isinstance(inner, int) else None
    return None if made is None or per_output is None else made * per_output


def _sizes(value: ir.Value | None, start: int = 0) -> int | None:
    """The product of a value's sizes from axis `start` on; None where one is not known."""
    if value is None or value.shape is None:
        return None
    dims = list(value.shape)[start:]
    known = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(known) if len(known) == len(dims) else None
