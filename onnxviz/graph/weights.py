"""Weights that stay on disk: kept inside the model's folder, taken along when a model is saved."""

import filecmp
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx.external_data_helper import uses_external_data

from onnxviz.errors import ModelError, OutputError
from onnxviz.files import appearing, refused


def external_tensors(model: ir.Model) -> list[ir.ExternalTensor]:
    """The initializers, in every subgraph, whose values lie in files beside the model."""
    return [
        value.const_value
        for graph in model.graphs()
        for value in graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    ]


def check_weights(proto: onnx.ModelProto, folder: Path) -> None:
    """A model is untrusted input: its weights may lie in its own folder only, and must all be there.

    Raises:
        ModelError: A weight file is absolute, climbs out of the folder, is a link that leaves it, is
            missing, or is too short.
    """
    home = folder.resolve()
    for tensor in _outside(proto):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = home / location
        if Path(location).is_absolute() or not file.resolve().is_relative_to(home):
            raise ModelError(
                f"the weights of {tensor.name!r} lie outside the model's folder ({location}); "
                "put them beside the model and name them by a relative path"
            )
        if not file.is_file():
            raise ModelError(
                f"the weights of {tensor.name!r} are missing: there is no file {folder / location}; "
                "put it beside the model"
            )
        length = int(entries["length"]) if "length" in entries else nbytes(tensor)
        if file.stat().st_size < int(entries.get("offset", 0)) + length:
            raise ModelError(
                f"the weights of {tensor.name!r} are not all in {folder / location}, which is truncated; "
                "copy or download it again"
            )


def read_inside(tensor: onnx.TensorProto, folder: Path) -> None:
    """Bring the numbers of an external tensor into the tensor itself, in place."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    with (folder / entries["location"]).open("rb") as file:
        file.seek(int(entries.get("offset", 0)))
        tensor.raw_data = file.read(nbytes(tensor))
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def nbytes(tensor: onnx.TensorProto) -> int:
    """The bytes that a tensor's numbers take, wherever they are."""
    count: int = math.prod(tensor.dims)
    return math.ceil(count * ir.DataType(tensor.data_type).itemsize)  # an int4 takes half a byte


def bodies(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Everything in a model that holds nodes: its graph, its functions, and the graphs nested in nodes."""
    for body in (proto.graph, *proto.functions):
        yield body
        yield from _nested(body.node)


def constant_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors that nodes hold as attributes."""
    for body in bodies(proto):
        for node in body.node:
            for attribute in node.attribute:
                yield from ([attribute.t] if attribute.HasField("t") else attribute.tensors)


def place_weights(model: ir.Model, target: Path) -> ir.Model:
    """Copy the weight files of `model` beside the file `target`; return a copy that refers to them there.

    ONNX Runtime refuses symbolic links and paths outside the model's folder; onnx refuses hard links, and
    with them the file that was linked. A file of the same name that holds something else is left alone:
    the weights get a name of their own.

    Raises:
        OutputError: A weight file is gone, cannot be copied, or is `target` itself.
    """
    tensors = external_tensors(model)
    if not tensors:
        return model
    placed: dict[Path, str] = {}
    for tensor in tensors:
        source = Path(tensor.path)
        if source not in placed:
            placed[source] = _place(source, str(tensor.location), target)
    moved = model.clone()
    for graph in moved.graphs():
        for value in graph.initializers.values():
            outside = value.const_value
            if isinstance(outside, ir.ExternalTensor):
                value.const_value = ir.ExternalTensor(
                    placed[Path(outside.path)],
                    outside.offset,
                    outside.length,
                    outside.dtype,
                    shape=ir.Shape(outside.shape.numpy()),
                    name=outside.name or "",
                    base_dir=target.parent,
                )
    return moved


def _outside(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for body in bodies(proto):
        if isinstance(body, onnx.GraphProto):
            yield from filter(uses_external_data, body.initializer)
    yield from filter(uses_external_data, constant_tensors(proto))


def _nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield graph
                yield from _nested(graph.node)


def _place(source: Path, location: str, model: Path) -> str:
    if not source.is_file():
        raise OutputError(f"cannot copy the weights {source}: the file is gone; put it back")
    if model.exists() and model.samefile(source):
        raise OutputError(f"{model} holds the weights of the model itself; choose another name")
    folder, number = model.parent, 2
    target = folder / location
    while target == model or (target.exists() and not _same(source, target)):
        target = (folder / location).with_stem(f"{Path(location).stem}-{number}")
        number += 1
    if not target.exists():
        if target.parent != folder:
            _make_folder(target.parent)
        with appearing(target) as partial:
            shutil.copyfile(source, partial)
    return target.relative_to(folder).as_posix()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(folder, error) from error


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and (one.samefile(other) or filecmp.cmp(one, other, shallow=False))
