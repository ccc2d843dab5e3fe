"""ONNX's reference evaluator, in float64 and with its gaps filled: what `onnxviz.testing` stands on.

The operators here replace those that it gets wrong or refuses; the tests compare each with ONNX Runtime.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_resize import Resize as OnnxResize

from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.expose import prune
from onnxviz.graph.model import Model, load
from onnxviz.graph.ops import Ops

Array: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = Sequence[int] | None


class Erf(OpRun):
    """onnx's own rounds to float32."""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class LRN(OpRun):
    """onnx's own takes the batch axis for the channel axis."""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        squares = np.zeros_like(x)
        for channel in range(x.shape[1]):
            first, last = channel - (size - 1) // 2, channel + size // 2
            squares[:, channel] = (x[:, max(0, first) : last + 1] ** 2).sum(axis=1)
        return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)


class MaxPool(OpRun):
    """onnx's own gives no indices at stride 1, and rounds the size of SAME_LOWER down."""

    def _run(
        self,
        x: Array,
        auto_pad: str,
        ceil_mode: int,
        dilations: Ints,
        kernel_shape: Sequence[int],
        pads: Ints,
        storage_order: int,
        strides: Ints,
    ) -> tuple[Array, ...]:
        pool = _Pool(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
        read = pool.windows(x, -np.inf, -np.inf)
        largest = read.argmax(axis=-1)[..., None]
        order = "F" if storage_order else "C"
        plane = np.arange(math.prod(pool.sizes)).reshape(pool.sizes, order=order)  # type: ignore[call-overload]
        offsets = np.arange(x.shape[0] * x.shape[1]) * plane.size
        places = offsets.reshape(*x.shape[:2], *[1] * len(pool.sizes)) + plane
        where = np.take_along_axis(pool.windows(places, -1, -1), largest, axis=-1)[..., 0]
        y = np.take_along_axis(read, largest, axis=-1)[..., 0]
        return (y, where.astype(np.int64))[: len(self.output)]


class AveragePool(OpRun):
    """onnx's own shifts the windows that `ceil_mode` adds, and pads wrongly for SAME with dilations."""

    def _run(
        self,
        x: Array,
        auto_pad: str,
        ceil_mode: int,
        count_include_pad: int,
        kernel_shape: Sequence[int],
        pads: Ints,
        strides: Ints,
        dilations: Ints = None,
    ) -> tuple[Array]:
        pool = _Pool(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
        counted = np.ones((1, 1, *pool.sizes), x.dtype)
        divisor = pool.windows(counted, float(count_include_pad), 0.0).sum(axis=-1)
        return (pool.windows(x, 0.0, 0.0).sum(axis=-1) / divisor,)


class ConvTranspose(OpRun):
    """onnx's own fails for groups."""

    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: str = "NOTSET",
        dilations: Ints = None,
        group: int = 1,
        kernel_shape: Ints = None,
        output_padding: Ints = None,
        output_shape: Ints = None,
        pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:
        del kernel_shape
        sizes, rank = x.shape[2:], x.ndim - 2
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        extra = output_padding or [0] * rank
        full = [
            (i - 1) * s + (k - 1) * d + 1 + e
            for i, s, k, d, e in zip(sizes, stride, w.shape[2:], dilation, extra, strict=True)
        ]
        y = np.zeros((len(x), group, w.shape[1], *full), x.dtype)
        maps = x.reshape(len(x), group, -1, *sizes)
        kernel = w.reshape(group, -1, *w.shape[1:])
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(
                slice(t * d, t * d + (i - 1) * s + 1, s)
                for t, d, i, s in zip(tap, dilation, sizes, stride, strict=True)
            )
            y[:, :, :, *at] += np.einsum("ngc...,gcm->ngm...", maps, kernel[:, :, :, *tap])
        y = y.reshape(len(x), -1, *full)
        if output_shape or auto_pad.startswith("SAME"):
            wanted = list(output_shape or [i * s for i, s in zip(sizes, stride, strict=True)])[-rank:]
            totals = [max(0, f - o) for f, o in zip(full, wanted, strict=True)]
            upper = auto_pad == "SAME_UPPER"
            begin = [total // 2 if upper else total - total // 2 for total in totals]
            end = [total - one for total, one in zip(totals, begin, strict=True)]
        else:
            begin, end = _halves(pads if auto_pad == "NOTSET" else None, rank)
        if output_shape:
            y = np.pad(y, [(0, 0)] * 2 + [(0, max(0, o - f)) for o, f in zip(wanted, full, strict=True)])
            full = list(y.shape[2:])
        kept = tuple(slice(first, size - last) for first, size, last in zip(begin, full, end, strict=True))
        y = y[:, :, *kept]
        return (y if b is None else y + b.reshape(-1, *[1] * rank),)


class GlobalMaxPool(OpRun):
    """onnx's own is right for two spatial axes alone."""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class Resize(OnnxResize):
    """onnx's own takes no negative axes."""

    def _run(self, x: Array, *rest: Any, **attributes: Any) -> tuple[Array]:  # type: ignore[override]
        axes = attributes.pop("axes")
        attributes["axes"] = None if axes is None else [axis % x.ndim for axis in axes]
        (y,) = super()._run(x, *rest, **attributes)
        return (y,)


class Pad(OpRun):
    """onnx's own refuses negative pads, which cut."""

    def _run(
        self,
        x: Array,
        pads: Array,
        value: Array | None = None,
        axes: Array | None = None,
        mode: str = "constant",
    ) -> tuple[Array]:
        begin, end = _halves(pads.tolist(), len(pads) // 2)
        for axis, first, last in zip(range(x.ndim) if axes is None else axes, begin, end, strict=True):
            x = x.take(np.arange(max(0, -first), x.shape[axis] + min(0, last)), axis)
            width = [(0, 0)] * x.ndim
            width[axis] = (max(0, first), max(0, last))
            fill = {"constant_values": 0 if value is None else value.item()} if mode == "constant" else {}
            x = np.pad(x, width, mode, **fill)  # type: ignore[call-overload]
        return (x,)


OPERATORS: tuple[type[OpRun], ...] = (
    Erf,
    LRN,
    MaxPool,
    AveragePool,
    GlobalMaxPool,
    ConvTranspose,
    Pad,
    Resize,
)


class _Pool:
    """Where the windows of a pool lie."""

    def __init__(
        self,
        x: Array,
        auto_pad: str,
        ceil_mode: int,
        dilations: Ints,
        kernel: Sequence[int],
        pads: Ints,
        strides: Ints,
    ) -> None:
        rank = len(kernel)
        self.sizes = x.shape[2:]
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        self.begin, self.end = _halves(pads if auto_pad == "NOTSET" else None, rank)
        self.reads = []
        for axis, (size, s, k, d) in enumerate(zip(self.sizes, stride, kernel, dilation, strict=True)):
            span = (k - 1) * d + 1
            if auto_pad.startswith("SAME"):
                out = math.ceil(size / s)
                total = max(0, (out - 1) * s + span - size)
                self.begin[axis] = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
                self.end[axis] = total - self.begin[axis]
            else:
                room = size + self.begin[axis] + self.end[axis] - span
                out = (math.ceil(room / s) if ceil_mode else room // s) + 1
                # No window starts behind the input and its first padding.
                if ceil_mode and (out - 1) * s >= size + self.begin[axis]:
                    out -= 1
            self.reads.append(np.arange(out)[:, None] * s + np.arange(k) * d)

    def windows(self, x: Array, padding: float, beyond: float) -> Array:
        """[N, C, ..., k]: the k inputs that each window reads.

        It reads `padding` in the pads, and `beyond` where `ceil_mode` lets it reach out further.
        """
        pads = [(0, 0), (0, 0), *zip(self.begin, self.end, strict=True)]
        padded = np.pad(x, pads, constant_values=padding)
        rank = len(self.sizes)
        for axis in reversed(range(rank)):
            missing = max(0, int(self.reads[axis].max()) + 1 - padded.shape[2 + axis])
            width = [(0, 0)] * padded.ndim
            width[2 + axis] = (0, missing)
            padded = np.pad(padded, width, constant_values=beyond).take(self.reads[axis], 2 + axis)
        outs, taps = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
        read = padded.transpose(0, 1, *outs, *taps)
        return read.reshape(*read.shape[: 2 + rank], -1)


def _halves(pads: Ints, rank: int) -> tuple[list[int], list[int]]:
    pads = list(pads or [0] * (2 * rank))
    return pads[:rank], pads[rank:]


def run(model: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name, from ONNX's reference evaluator.

    Raises:
        UnsupportedOperator: It cannot run an operator of the model.
    """
    return prepare(model)(feeds)


def prepare(model: Model) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """As `run`, for a model that is run several times."""
    try:
        evaluator = ReferenceEvaluator(_with_weights(model), new_ops=list(OPERATORS))
    except NotImplementedError as err:
        raise UnsupportedOperator(
            f"onnx's reference evaluator cannot run this model ({err}); "
            "check the rule on a model of standard operators"
        ) from None
    names = [value.name for value in model.outputs]
    return lambda feeds: dict(zip(names, evaluator.run(None, dict(feeds)), strict=True))


def with_shifts(model: Model, of: str, names: Sequence[str]) -> tuple[Model, dict[str, str]]:
    """The model that computes `of` with an input added to each tensor of `names`, and those inputs' names."""
    graph_model = model.ir_model.clone()
    graph = graph_model.graph
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    op = Ops(graph, prefix="shift")
    target, shifts = values[of], {}
    for name in names:
        value = values[name]
        readers = list(value.uses())
        shift = ir.Value(name=f"{op.prefix}{name}", type=value.type)
        graph.inputs.append(shift)
        moved = op.Add(value, shift)
        for node, place in readers:
            node.replace_input_with(place, moved)
        target = moved if target is value else target
        shifts[name] = str(shift.name)
    graph.outputs.clear()
    graph.outputs.append(target)
    prune(graph_model)
    graph.sort()
    return Model(graph_model, model.path), shifts


def in_double(model: Model) -> Model | None:
    """The model with every float a float64; None where an operator on it does not admit that."""
    proto = onnx.ModelProto()
    proto.CopyFrom(_with_weights(model))
    _widen(proto.graph)
    try:
        onnx.shape_inference.infer_shapes(proto, check_type=True)
    except onnx.shape_inference.InferenceError:
        return None
    return load(proto)


def _widen(graph: onnx.GraphProto) -> None:
    """Make every float of a graph and of the graphs nested in it a float64, in place."""
    narrow = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    # The scales of a Resize are float32 whatever its data are.
    fixed = {node.input[2] for node in graph.node if node.op_type == "Resize" and len(node.input) > 2}

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_type in narrow:
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))

    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name not in fixed and value.type.tensor_type.elem_type in narrow:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for tensor in graph.initializer:
        if tensor.name not in fixed:
            widen(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in fixed:
            continue
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in narrow:
                attribute.i = onnx.TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = onnx.numpy_helper.from_array(np.asarray(numbers, np.float64))
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
            elif attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                _widen(attribute.g)


def _with_weights(model: Model) -> onnx.ModelProto:
    """The model as protobuf, its weights inside."""
    proto = model.proto()
    if model.weights_folder is not None:
        onnx.external_data_helper.load_external_data_for_model(proto, str(model.weights_folder))
    return proto
