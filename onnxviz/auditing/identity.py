"""What a file is, read from the file itself and not from the graph made of it."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from onnxviz.errors import ModelError
from onnxviz.graph.layers import total_parameters
from onnxviz.graph.model import Model, ModelLike, ValueInfo, value_info
from onnxviz.graph.quantisation import scale_of
from onnxviz.graph.weights import bodies
from onnxviz.methods.manifest import versions
from onnxviz.runtime.devices import resolve

ONNX = ("", "ai.onnx")

_LICENCE = re.compile(r"licen[cs]e|copyright|spdx", re.IGNORECASE)
_MOST_TEXT = 2000  # characters of one metadata entry: a file may hold a book


@dataclass(frozen=True)
class RawFile:
    """A model as its file holds it; `path` is None for a model in memory, and `folder` where weights lie."""

    proto: onnx.ModelProto
    path: Path | None
    folder: Path

    @classmethod
    def of(cls, model: ModelLike) -> "RawFile":
        """The file of a model, path or proto; external weights are not read.

        Raises:
            ModelError: The file cannot be read, or is not ONNX.
        """
        if isinstance(model, Model):
            return cls(model.proto(), None, Path()) if model.path is None else cls.of(model.path)
        if isinstance(model, onnx.ModelProto):
            return cls(model, None, Path())
        path = Path(model)
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(path.read_bytes())
        except OSError as err:
            raise ModelError(f"cannot read the model {path}: {err.strerror or err}") from None
        except DecodeError:
            raise ModelError(f"{path} is not an ONNX model, or it is truncated") from None
        if not proto.HasField("graph"):
            raise ModelError(f"{path} is not an ONNX model, or it is truncated: it holds no graph")
        return cls(proto, path, path.parent)

    @property
    def source(self) -> Path | bytes:
        """What a runtime takes: the file, or the bytes of a model in memory."""
        return self.path if self.path is not None else self.proto.SerializeToString()


def identity(raw: RawFile, model: Model | None, device: str) -> dict[str, Any]:
    """What a file is, as the report holds it; `model` is None where the file cannot be loaded."""
    proto = raw.proto
    operators = Counter(_operator(node) for node in nodes(proto))
    return {
        "path": None if raw.path is None else str(raw.path),
        "sha256": _digest(raw),
        "bytes": _size(raw),
        "ir_version": proto.ir_version,
        "opset": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        "producer": f"{proto.producer_name} {proto.producer_version}".strip() or None,
        "operators": dict(sorted(operators.items(), key=lambda each: (-each[1], each[0]))),
        "domains": sorted({node.domain for node in nodes(proto)} - set(ONNX)),
        "inputs": [_value(value) for value in (_declared(proto) if model is None else model.inputs)],
        "outputs": [] if model is None else [_value(value) for value in model.outputs],
        "parameters": None if model is None else total_parameters(model),
        "macs": _macs(model),
        "quantisation": _quantisation(proto, model),
        "licences": _licences(proto),
        "metadata": {entry.key: entry.value[:_MOST_TEXT] for entry in proto.metadata_props},
        "versions": versions(),
        "device": str(resolve(device)),
    }


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model, those of functions and nested graphs too."""
    for body in bodies(proto):
        yield from body.node


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ONNX else f"{node.domain}::{node.op_type}"


def _digest(raw: RawFile) -> str:
    if raw.path is None:
        return hashlib.sha256(raw.proto.SerializeToString()).hexdigest()
    with raw.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def external_files(proto: onnx.ModelProto) -> list[str]:
    """The places of the files that hold weights, as the model names them."""
    places = {
        entry.value
        for body in bodies(proto)
        if isinstance(body, onnx.GraphProto)
        for tensor in body.initializer
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(places)


def _size(raw: RawFile) -> int:
    """The bytes of the file and of those weights that lie in its folder; nothing else is looked at."""
    own = raw.proto.ByteSize() if raw.path is None else raw.path.stat().st_size
    home = raw.folder.resolve()
    inside = [
        home / place
        for place in external_files(raw.proto)
        if not Path(place).is_absolute() and (home / place).resolve().is_relative_to(home)
    ]
    return own + sum(file.stat().st_size for file in inside if file.is_file())


def _declared(proto: onnx.ModelProto) -> list[ValueInfo]:
    import onnx_ir as ir

    weights = {tensor.name for tensor in proto.graph.initializer}
    values = [value for value in proto.graph.input if value.name not in weights]
    return [value_info(ir.serde.deserialize_value_info_proto(value, None)) for value in values]


def _value(value: ValueInfo) -> dict[str, Any]:
    shape = None if value.shape is None else list(value.shape)
    return {"name": value.name, "dtype": value.dtype, "shape": shape}


def _macs(model: Model | None) -> int | None:
    found = [] if model is None else [layer.macs for layer in model.layers]
    known = [macs for macs in found if macs is not None]
    return sum(known) if model is not None and len(known) == len(found) else None


def _quantisation(proto: onnx.ModelProto, model: Model | None) -> dict[str, Any]:
    kinds = {node.op_type for node in nodes(proto)}
    found = {
        "dynamic": any(kind.startswith("Dynamic") for kind in kinds),
        "QOperator": any(kind.startswith("QLinear") or kind in ("QGemm", "ConvInteger") for kind in kinds),
        "QDQ": _has_pairs(proto),
    }
    schemes = [name for name, there in found.items() if there]
    weights = {} if model is None else dict(model.ir_model.graph.initializers)
    tensors = [value.const_value for value in weights.values() if value.const_value is not None]
    # Scales and zero points are numbers of their own; weights have axes.
    dtypes = {tensor.dtype.numpy().name for tensor in tensors if len(tensor.shape) > 1}
    per_channel = any(
        scale is not None and scale[0].size > 1
        for value in weights.values()
        if value.dtype is not None and value.dtype.is_integer() and len(value.shape or ()) > 1
        for scale in [scale_of(value)]
    )
    made = () if model is None else model.layers
    activations = {model.tensor(layer.tensor).dtype for layer in made} if model is not None else set()
    return {
        "scheme": "none" if not schemes else schemes[0] if len(schemes) == 1 else "mixed",
        "weights": sorted(dtypes),
        "activations": sorted(dtype.numpy().name for dtype in activations if dtype is not None),
        "per_channel": per_channel,
    }


def _has_pairs(proto: onnx.ModelProto) -> bool:
    """Whether operators of floats stand between dequantisers and quantisers, and not only at the ends."""
    made = {
        name for node in nodes(proto) if node.op_type == "DequantizeLinear" for name in node.output if name
    }
    read = {name for node in nodes(proto) if node.op_type != "QuantizeLinear" for name in node.input}
    ends = {value.name for value in proto.graph.output}
    quantised = {node.input[0] for node in nodes(proto) if node.op_type == "QuantizeLinear"}
    own = {value.name for value in proto.graph.input}
    return bool((made & read) - ends) and bool(quantised - own)


def _licences(proto: onnx.ModelProto) -> list[str]:
    """What the metadata and the descriptions say of a licence."""
    told = [
        f"{entry.key}: {entry.value}" if not _LICENCE.search(entry.value) else entry.value
        for entry in proto.metadata_props
        if _LICENCE.search(entry.key)
    ]
    for text in (proto.doc_string, proto.graph.doc_string):
        told += [line.strip() for line in text.splitlines() if _LICENCE.search(line)]
    return [line[:_MOST_TEXT] for line in dict.fromkeys(told)]
