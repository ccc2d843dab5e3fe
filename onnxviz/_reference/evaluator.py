"""Run a model by ONNX's reference evaluator; write it in float64, or with its tensors shifted."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnxviz._reference import (
    activation,
    contrib,
    convolution,
    elementwise,
    indexing,
    linear,
    ml,
    movement,
    normalization,
    optimizer,
    pooling,
    quantization,
    recurrent,
    reduction,
    sampling,
    sequence,
    signal,
)
from onnxviz._reference.arrays import Array
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.expose import prune
from onnxviz.graph.model import Model, load
from onnxviz.graph.ops import Ops

OPERATORS: tuple[type[OpRun], ...] = tuple(
    operator
    for family in (
        activation,
        contrib,
        convolution,
        elementwise,
        indexing,
        linear,
        ml,
        movement,
        normalization,
        optimizer,
        pooling,
        quantization,
        recurrent,
        reduction,
        sampling,
        sequence,
        signal,
    )
    for operator in family.OPERATORS
)
"""What replaces the operators that onnx's own evaluator gets wrong or refuses."""


_NAMES_A_TYPE = (
    "to",
    "dtype",
    "output_datatype",
    "output_dtype",
    "precision",
    "softmax_precision",
    "stash_type",
)
_ZERO = onnx.numpy_helper.from_array(np.zeros(1))


def run(model: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name, from ONNX's reference evaluator.

    Raises:
        UnsupportedOperator: It cannot run an operator of the model.
    """
    return prepare(model)(feeds)


def prepare(
    model: Model, instead: Sequence[type[OpRun]] = ()
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """As `run`, for a model that is run several times; `instead` come before all other operators."""
    try:
        evaluator = ReferenceEvaluator(_with_weights(contrib.lowered(model)), new_ops=[*instead, *OPERATORS])
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
        moved.shape = value.shape
        for node, place in readers:
            node.replace_input_with(place, moved)
        target = moved if target is value else target
        shifts[name] = str(shift.name)
    graph.outputs.clear()
    graph.outputs.append(target)
    prune(graph_model)
    graph.sort()
    return Model(graph_model, model.path), shifts


def in_double(model: Model) -> Model:
    """The model with every float a float64, though an operator on it may not admit that by the standard."""
    proto = onnx.ModelProto()
    proto.CopyFrom(_with_weights(model))
    _widen(proto.graph)
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
        kind = _tensor_type(value.type)
        if value.name not in fixed and kind.elem_type in narrow:
            kind.elem_type = onnx.TensorProto.DOUBLE
    for tensor in graph.initializer:
        if tensor.name not in fixed:
            widen(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in fixed:
            continue
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(onnx.helper.make_attribute("value", _ZERO))
        for attribute in node.attribute:
            if attribute.name in _NAMES_A_TYPE and attribute.i in narrow:
                attribute.i = onnx.TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = onnx.numpy_helper.from_array(np.asarray(numbers, np.float64))
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
            elif attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                _widen(attribute.g)


def _tensor_type(kind: onnx.TypeProto) -> onnx.TypeProto.Tensor:
    """The type of a tensor, or of those in a sequence or optional."""
    for holder in ("optional_type", "sequence_type"):
        if kind.HasField(holder):
            kind = getattr(kind, holder).elem_type
    return kind.tensor_type


def _with_weights(model: Model) -> onnx.ModelProto:
    """The model as protobuf, its weights inside."""
    proto = model.proto()
    if model.weights_folder is not None:
        onnx.external_data_helper.load_external_data_for_model(proto, str(model.weights_folder))
    return proto
