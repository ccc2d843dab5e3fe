"""Bring any ONNX file to one form: no local functions, a recent opset, shapes inferred, weights apart."""

from collections.abc import Iterable, Mapping

import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir

from onnxviz.errors import ModelError

OPSET_FLOOR = (
    18  # ScatterElements with reduction (16) and axes as inputs everywhere (18): one dialect for all rules
)
IR_FLOOR = 8  # the first IR version whose checker admits opset 18

_SMALL = 1024  # bytes: tensors up to this size stay in the graph, since shapes and axes are read from them


def normalise(proto: onnx.ModelProto, folder: str) -> ir.Model:
    """Raise `proto` to the opset floor, inline its functions, infer its shapes; weights are not copied.

    Args:
        proto: Any ONNX model; it is left as it is.
        folder: Where external weights lie.

    Raises:
        ModelError: The graph cannot be read, or onnx's converter cannot raise its opset.
    """
    light, weights = split_weights(proto)
    try:
        if light.functions:
            light = onnx.inliner.inline_local_functions(light, convert_version=True)
        if default_opset(light) < OPSET_FLOOR:
            light = onnx.version_converter.convert_version(light, OPSET_FLOOR)
        light.ir_version = max(light.ir_version, IR_FLOOR)
        model = ir.from_proto(infer_shapes(light))
        attach_weights(model.graph, weights, folder)
    except Exception as err:  # the readers of an untrusted file fail in many ways; all mean the same here
        raise ModelError(f"the graph cannot be read: {one_line(err)}") from err
    return model


def refresh_shapes(
    model: ir.Model, inputs: Mapping[str, Iterable[int | str | None]] | None = None
) -> ir.Model:
    """Infer all shapes anew, from other input shapes if given; the weights are shared."""
    copy = model.clone()
    weights = {name: value.const_value for name, value in copy.graph.initializers.items()}
    heavy = {
        name: tensor for name, tensor in weights.items() if tensor is not None and tensor.nbytes > _SMALL
    }
    for name, tensor in heavy.items():
        value = copy.graph.initializers.pop(name)
        value.const_value = None
        value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        copy.graph.inputs.append(value)
    if inputs is not None:
        given = {value.name: value for value in copy.graph.inputs}
        for node in copy.graph:
            for value in node.outputs:
                value.shape = None
        for name, shape in inputs.items():
            given[name].shape = ir.Shape(shape)
    inferred = ir.from_proto(infer_shapes(ir.to_proto(copy)))
    for value in list(inferred.graph.inputs):
        if value.name in heavy:
            inferred.graph.inputs.remove(value)
            value.const_value = heavy[value.name]
            inferred.graph.register_initializer(value)
    return inferred


def default_opset(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operator set that a model imports (0 when it imports none)."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)


def split_weights(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """A copy of a model whose large initializers are inputs instead, and those initializers."""
    light = onnx.ModelProto()
    _copy_fields(proto, light, but="graph")
    _copy_fields(proto.graph, light.graph, but="initializer")
    listed = {value.name for value in light.graph.input}
    weights = []
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() <= _SMALL:
            light.graph.initializer.append(tensor)
            continue
        weights.append(tensor)
        if tensor.name not in listed:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    _forget_negative_sizes(light.graph)
    return light, weights


def attach_weights(graph: ir.Graph, weights: Iterable[onnx.TensorProto], folder: str) -> None:
    """Turn the inputs that stand for weights back into initializers; no initializer remains an input."""
    inputs = {value.name: value for value in graph.inputs}
    for tensor in weights:
        value = inputs[tensor.name]
        value.const_value = ir.serde.deserialize_tensor(tensor, base_path=folder)
        graph.register_initializer(value)
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX's shape inference, small integer tensors followed; the model itself where it gives up."""
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return proto


def one_line(err: BaseException) -> str:
    """The first line of an exception's message that says something."""
    lines = [line.strip() for line in str(err).splitlines()]
    return next((line for line in lines if line), type(err).__name__)


def _copy_fields(
    source: onnx.ModelProto | onnx.GraphProto, target: onnx.ModelProto | onnx.GraphProto, but: str
) -> None:
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if field.is_repeated or field.message_type is not None:
            getattr(target, field.name).MergeFrom(value)
        else:
            setattr(target, field.name, value)


def _forget_negative_sizes(graph: onnx.GraphProto) -> None:
    """Some exporters write -1 for a size that is not known."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.ClearField("dim_value")
