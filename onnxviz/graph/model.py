"""`Model`: an ONNX graph, normalised on loading and never changed afterwards."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from onnxviz.errors import ModelError, OutputError, SelectorError, did_you_mean
from onnxviz.files import appearing
from onnxviz.graph.normalise import normalise, refresh_shapes
from onnxviz.graph.weights import external_tensors, place_weights

if TYPE_CHECKING:
    from onnxviz.graph.layers import Layer
    from onnxviz.graph.tokens import Places

ModelLike: TypeAlias = "Model | str | os.PathLike[str] | onnx.ModelProto"

_DERIVATIVE = "onnxviz.derivative"
_PROTOBUF_LIMIT = 2**31 - 2**20


@dataclass(frozen=True)
class ValueInfo:
    """A tensor's name, numpy dtype name and shape (sizes are ints, symbols, or None; None: unknown rank)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        """As people write it: name, dtype and shape."""
        return f"{self.name} {self.dtype}{format_shape(self.shape)}"


@dataclass(frozen=True)
class Derivative:
    """What a gradient model says of itself.

    `gradients` names the output for each tensor asked for, `taken_at` the tensor whose gradient that is
    (another one for integers), `cotangent` the input that takes the cotangent, `rules` the rule set;
    `by_slope` are the operators for which DeepLIFT has no rule, and which are not linear.
    """

    gradients: Mapping[str, str] = field(default_factory=dict)
    cotangent: str | None = None
    taken_at: Mapping[str, str] = field(default_factory=dict)
    rules: str | None = None
    by_slope: tuple[str, ...] = ()

    def mark(self, model: ir.Model) -> None:
        """Write it into a model's metadata, in place."""
        model.metadata_props[_DERIVATIVE] = json.dumps(asdict(self))


@dataclass(frozen=True)
class Model:
    """An ONNX model as one graph of recent standard operators, with its shapes inferred.

    Every rewrite returns a new model that shares the weights; nothing changes one.
    """

    ir_model: ir.Model
    path: Path | None = None

    @cached_property
    def inputs(self) -> tuple[ValueInfo, ...]:
        """What must be fed; weights are never inputs, whatever the file says."""
        return tuple(map(value_info, self.ir_model.graph.inputs))

    @cached_property
    def outputs(self) -> tuple[ValueInfo, ...]:
        """What the model answers."""
        return tuple(map(value_info, self.ir_model.graph.outputs))

    @cached_property
    def layers(self) -> tuple["Layer", ...]:
        """The layer table: each operator through which data flows from an input to an output."""
        from onnxviz.graph.layers import layer_table

        return layer_table(self)

    @cached_property
    def places(self) -> "Places":
        """Which axes of each tensor are places of the picture, in networks that cut it into tokens."""
        from onnxviz.graph.tokens import trace_places

        return trace_places(self)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's `metadata_props`."""
        return self.ir_model.metadata_props

    @property
    def opset(self) -> int:
        """The version of ONNX's own operator set, at least 18."""
        return self.ir_model.opset_imports[""]

    @cached_property
    def derivative(self) -> Derivative:
        """For a gradient model: where its gradients are and how they were taken; else an empty one."""
        said = json.loads(self.metadata.get(_DERIVATIVE, "{}"))
        return Derivative(**{**said, "by_slope": tuple(said.get("by_slope", ()))})

    @property
    def gradients(self) -> Mapping[str, str]:
        """For a gradient model: the output that holds the gradient of each tensor asked for."""
        return self.derivative.gradients

    @property
    def cotangent(self) -> str | None:
        """For a gradient model: the input that takes the cotangent (None: a scalar was differentiated)."""
        return self.derivative.cotangent

    @property
    def taken_at(self) -> Mapping[str, str]:
        """For a gradient model: the tensor whose gradient it is; another than asked for, for integers."""
        return self.derivative.taken_at

    @property
    def rules(self) -> str | None:
        """For a gradient model: the name of the rule set."""
        return self.derivative.rules

    @cached_property
    def tensors(self) -> Mapping[str, ir.Value]:
        """Every named tensor of the outer graph: inputs, weights and node outputs."""
        return ir.convenience.create_value_mapping(self.ir_model.graph, include_subgraphs=False)

    def tensor(self, name: str) -> ir.Value:
        """The graph's value of that name.

        Raises:
            SelectorError: There is none; the nearest names are suggested.
        """
        if name not in self.tensors:
            raise SelectorError(f"no tensor {name!r} in this model{did_you_mean(name, self.tensors)}")
        return self.tensors[name]

    @property
    def weights_folder(self) -> Path | None:
        """The folder that holds the weights which stay on disk (None: all are in the model)."""
        outside = external_tensors(self.ir_model)
        return Path(outside[0].base_dir).absolute() if outside else None

    def resized(self, inputs: Mapping[str, Iterable[int | str | None]]) -> "Model":
        """The same graph for inputs of other shapes, all shapes inferred anew.

        Raises:
            SelectorError: There is no input of that name.
        """
        names = [value.name for value in self.inputs]
        for name in inputs:
            if name not in names:
                raise SelectorError(f"no input {name!r} in this model{did_you_mean(name, names)}")
        return Model(refresh_shapes(self.ir_model, inputs), self.path)

    def proto(self) -> onnx.ModelProto:
        """The model as protobuf; weights that stay on disk remain references to their files."""
        return ir.to_proto(self.ir_model)

    def serialize(self) -> bytes:
        """The bytes of `proto()`, which is what ONNX Runtime takes."""
        data: bytes = self.proto().SerializeToString()
        return data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to `path`; weights on disk are copied into its folder where they are not there.

        Raises:
            OutputError: The file cannot be written, or is the model's own source or its weights.
        """
        target = Path(path)
        if self.path is not None and target.exists() and target.samefile(self.path):
            raise OutputError(f"{target} is the model itself, which is never changed; choose another name")
        with appearing(target) as scratch:
            moved = place_weights(self.ir_model, target.absolute())
            inside = sum(_bytes_inside(graph) for graph in moved.graphs())
            if inside < _PROTOBUF_LIMIT:
                scratch.write_bytes(ir.to_proto(moved).SerializeToString())
            else:
                ir.save(moved.clone(), scratch, format="protobuf", external_data=f"{target.name}.data")


def load(model: ModelLike) -> Model:
    """Load an ONNX model from a path or a `ModelProto`, raised to opset 18 or later, with shapes inferred.

    Local functions are inlined, external weights stay on disk, symbolic sizes are kept, and weights
    that the file lists among its inputs are inputs no more. A `Model` is returned as it is.

    Raises:
        ModelError: The file is missing, is not ONNX, is truncated, or its graph cannot be read.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, onnx.ModelProto):
        proto, path, folder, what = model, None, Path(), "the model"
    else:
        path = Path(model)
        proto, folder, what = _read(path), path.parent, str(path)
    try:
        loaded = normalise(proto, folder)
    except ModelError as err:
        raise ModelError(f"{what}: {err}") from err.__cause__
    return Model(loaded, path)


def value_info(value: ir.Value) -> ValueInfo:
    """Name, dtype and shape of a graph value."""
    return ValueInfo(value.name or "", dtype_name(value), shape_of(value))


def dtype_name(value: ir.Value) -> str:
    """The numpy name of a tensor's element type; "unknown" or the type's own name for what is no tensor."""
    if not isinstance(value.type, ir.TensorType):
        return "unknown" if value.type is None else str(value.type).lower()
    dtype = value.type.dtype
    return "string" if dtype == ir.DataType.STRING else str(dtype.numpy().name)


def shape_of(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """A value's shape in plain Python: ints, symbols, None for an unknown size; None for an unknown rank."""
    if value.shape is None or not isinstance(value.type, ir.TensorType | None):
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)


def format_shape(shape: tuple[int | str | None, ...] | None) -> str:
    """A shape as people write it: [N,3,227,227], "?" for what is unknown."""
    if shape is None:
        return "[...]"
    return "[" + ",".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _read(path: Path) -> onnx.ModelProto:
    try:
        data = path.read_bytes()
    except OSError as err:
        raise ModelError(f"cannot read the model {path}: {err.strerror or err}") from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(f"{path} is not an ONNX model, or it is truncated") from None
    if not proto.HasField("graph"):
        raise ModelError(f"{path} is not an ONNX model, or it is truncated: it holds no graph")
    return proto


def _bytes_inside(graph: ir.Graph) -> int:
    tensors = (value.const_value for value in graph.initializers.values())
    return sum(t.nbytes for t in tensors if t is not None and not isinstance(t, ir.ExternalTensor))
