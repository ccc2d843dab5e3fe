"""Bring any ONNX file to one form: no local functions, a recent opset, shapes inferred, weights apart."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from onnx.external_data_helper import uses_external_data

from onnxviz.errors import ModelError
from onnxviz.graph import shapes
from onnxviz.graph.legacy import default_opset, name_resize_modes, raise_opset
from onnxviz.graph.ops import constant_of
from onnxviz.graph.weights import (
    bodies,
    check_weights,
    constant_tensors,
    external_tensors,
    nbytes,
    read_inside,
)

# One dialect for all rules: ScatterElements adds from 16 on, axes are inputs everywhere from 18 on.
OPSET_FLOOR = 18
IR_FLOOR = 8  # the first IR version whose checker admits opset 18

_SMALL = 1024  # bytes: tensors up to this size stay in the graph, since shapes and axes are read from them


def normalise(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    """Raise `proto` to the opset floor, inline its functions, infer its shapes; weights are not copied.

    Args:
        proto: Any ONNX model; it is left as it is.
        folder: Where external weights lie.

    Raises:
        ModelError: The graph cannot be read, its weights are not in `folder`, or onnx's converter cannot
            raise its opset.
    """
    try:
        check_weights(proto, folder)
        light, weights = split_weights(proto, folder)
        _name_default_domain(light)
        _say_conditions(light)
        old = default_opset(light)
        if light.functions:
            light = onnx.inliner.inline_local_functions(infer_shapes(light), convert_version=True)
        light = raise_opset(light, OPSET_FLOOR)
        light.ir_version = max(light.ir_version, IR_FLOOR)
        model = _in_order(_with_true_shapes(light))
        attach_weights(model.graph, weights)
        ir.external_data.set_base_dir(model.graph, folder.absolute())
        if old < 11:
            name_resize_modes(model)
        if _name_resize_sizes(model):
            model = refresh_shapes(model, {})
    except ModelError:
        raise
    except Exception as err:  # the readers of an untrusted file fail in many ways; all mean the same here
        raise ModelError(f"the graph cannot be read: {one_line(err)}") from err
    return model


def refresh_shapes(
    model: ir.Model, inputs: Mapping[str, Iterable[int | str | None]] | None = None
) -> ir.Model:
    """A copy with all shapes inferred anew, from other input shapes if given; the weights are shared."""
    return with_shapes(model.clone(), inputs)


def with_shapes(copy: ir.Model, inputs: Mapping[str, Iterable[int | str | None]] | None = None) -> ir.Model:
    """As `refresh_shapes`, for a model that nobody else holds: it is used up."""
    on_disk = external_tensors(copy)
    heavy = _lightened(copy, inputs)
    inferred = ir.from_proto(infer_shapes(ir.to_proto(copy)))
    for value in list(inferred.graph.inputs):
        if value.name in heavy:
            inferred.graph.inputs.remove(value)
            value.const_value = heavy[str(value.name)]
            inferred.graph.register_initializer(value)
    for outside in on_disk[:1]:
        ir.external_data.set_base_dir(inferred.graph, outside.base_dir)
    return inferred


def known_sizes(
    model: ir.Model, inputs: Mapping[str, Iterable[int | str | None]]
) -> Mapping[str, tuple[int, ...]]:
    """The shapes of all tensors whose every size can be told, for inputs of those shapes."""
    copy = model.clone()
    _lightened(copy, inputs)
    try:
        return shapes.known_sizes(ir.to_proto(copy))
    except onnx.shape_inference.InferenceError:
        return {}


def _lightened(
    copy: ir.Model, inputs: Mapping[str, Iterable[int | str | None]] | None
) -> Mapping[str, ir.TensorProtocol]:
    """Make inputs, in place, of the weights that hold no shapes, and return them; set the inputs' shapes."""
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
    return heavy


def split_weights(proto: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """A copy of a model whose large initializers are inputs instead, and those initializers.

    Shapes and axes stay in the copy, and are read into it if they lie in files.
    """
    light = onnx.ModelProto()
    _copy_fields(proto, light, but="graph")
    _copy_fields(proto.graph, light.graph, but="initializer")
    del light.graph.sparse_initializer[:]
    listed = {value.name for value in light.graph.input}
    weights = []
    for tensor in (*proto.graph.initializer, *map(_dense, proto.graph.sparse_initializer)):
        if _is_small(tensor):
            light.graph.initializer.append(tensor)
            continue
        weights.append(tensor)
        if tensor.name not in listed:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    for tensor in filter(uses_external_data, (*light.graph.initializer, *constant_tensors(light))):
        read_inside(tensor, folder)
    _forget_negative_sizes(light.graph)
    return light, weights


def attach_weights(graph: ir.Graph, weights: Iterable[onnx.TensorProto]) -> None:
    """Turn the inputs that stand for weights back into initializers; no initializer remains an input."""
    inputs = {value.name: value for value in graph.inputs}
    for tensor in weights:
        value = inputs[tensor.name]
        value.const_value = ir.serde.deserialize_tensor(tensor)
        graph.register_initializer(value)
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Shape inference, small tensors of numbers followed; the model itself where it gives up."""
    try:
        return shapes.infer_shapes(proto)
    except onnx.shape_inference.InferenceError:
        return proto


def _with_true_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """As `infer_shapes`, but no shape that the file declares counts if one contradicts the graph."""
    try:
        return shapes.infer_shapes(proto, strict=True)
    except onnx.shape_inference.InferenceError:
        bare = onnx.ModelProto()
        bare.CopyFrom(proto)
        del bare.graph.value_info[:]
        return infer_shapes(bare)


def one_line(err: BaseException) -> str:
    """The first line of an exception's message that says something."""
    lines = [line.strip() for line in str(err).splitlines()]
    return next((line for line in lines if line), type(err).__name__)


def _in_order(proto: onnx.ModelProto) -> ir.Model:
    """The model with each node behind those that it reads, as the standard has it and runtimes do not ask."""
    model = ir.from_proto(proto)
    before = list(model.graph)
    model.graph.sort()
    return model if before == list(model.graph) else ir.from_proto(infer_shapes(ir.to_proto(model)))


def _name_resize_sizes(model: ir.Model) -> bool:
    """Give, in place, a Resize by scales its sizes where onnx would infer others than runtimes make.

    A scale of 5/3 in float32 is a little less: onnx infers that 3 pixels become 4, where ONNX Runtime rounds
    the product to float32 and makes 5. Only sizes that lead to the very same scales are written.

    Returns:
        Whether there was any.
    """
    before = len(model.graph.initializers)
    for node in model.graph:
        if node.op_type != "Resize" or node.domain or len(node.inputs) != 3 or "axes" in node.attributes:
            continue
        x, scales = node.inputs[0], constant_of(node.inputs[2])
        if scales is None or x is None or x.shape is None or not x.shape.is_static():
            continue
        given = np.array(x.shape.numpy(), np.float32)
        sizes = np.floor(given * scales)
        differs = (sizes != np.floor(given * scales.astype(np.float64))).any()
        if differs and given.all() and np.array_equal(sizes / given, scales):
            name = f"{node.outputs[0].name}/sizes"
            made = ir.Value(name=name, const_value=ir.tensor(sizes.astype(np.int64), name=name))
            model.graph.register_initializer(made)
            node.resize_inputs(4)
            node.replace_input_with(2, None)
            node.replace_input_with(3, made)
    return len(model.graph.initializers) > before


def _name_default_domain(proto: onnx.ModelProto) -> None:
    """Give ONNX's own operators their plain domain "", in place, and a version where the file has none."""
    for body in bodies(proto):
        for node in body.node:
            if node.domain == "ai.onnx":
                node.domain = ""
    imports = [entry for owner in (proto, *proto.functions) for entry in owner.opset_import]
    for entry in imports:
        if entry.domain == "ai.onnx":
            entry.domain = ""
    if not proto.opset_import:
        raise ModelError("it says no opset, so what its operators mean is not known; export it again")
    if not any(entry.domain == "" for entry in proto.opset_import):
        proto.opset_import.add(version=OPSET_FLOOR)


def _say_conditions(proto: onnx.ModelProto) -> None:
    """Give a Loop that carries nothing its condition, in place: left empty, the last input would get lost."""
    for body in bodies(proto):
        for node in [node for node in body.node if node.op_type == "Loop" and not any(node.input[1:])]:
            name = f"{next(filter(None, node.output))}/condition"
            always = onnx.helper.make_node(
                "Constant", [], [name], value=onnx.numpy_helper.from_array(np.array(True))
            )
            node.input[:] = [*node.input[:1], name]
            body.node.insert(list(body.node).index(node), always)


def _is_small(tensor: onnx.TensorProto) -> bool:
    outside = uses_external_data(tensor)
    size: int = nbytes(tensor) if outside else tensor.ByteSize()
    return size <= _SMALL and not (outside and len(tensor.dims) > 1)


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    values, places = map(onnx.numpy_helper.to_array, (sparse.values, sparse.indices))
    array = np.zeros(sparse.dims, values.dtype)
    if places.ndim == 2:
        array[tuple(places.T)] = values
    else:
        array.reshape(-1)[places] = values
    return onnx.numpy_helper.from_array(array, sparse.values.name)


def _copy_fields(
    source: onnx.ModelProto | onnx.GraphProto, target: onnx.ModelProto | onnx.GraphProto, but: str
) -> None:
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if field.is_repeated:
            getattr(target, field.name).MergeFrom(value)
        else:
            setattr(target, field.name, value)


def _forget_negative_sizes(graph: onnx.GraphProto) -> None:
    """Some exporters write -1 for a size that is not known."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.ClearField("dim_value")
