"""Weights that stay on disk: kept inside the model's folder, taken along when a model is saved."""

import os
import shutil
from pathlib import Path

import onnx_ir as ir

from onnxviz.errors import ModelError, OutputError


def external_tensors(model: ir.Model) -> list[ir.ExternalTensor]:
    """The initializers, in every subgraph, whose values lie in files beside the model."""
    return [
        value.const_value
        for graph in model.graphs()
        for value in graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    ]


def refuse_escapes(model: ir.Model, folder: Path) -> None:
    """A model is untrusted input: its weights may lie in its own folder only.

    Raises:
        ModelError: A weight file is absolute, climbs out of the folder, or is a link that leaves it.
    """
    home = folder.resolve()
    for tensor in external_tensors(model):
        location = Path(tensor.location)
        if location.is_absolute() or not (home / location).resolve().is_relative_to(home):
            raise ModelError(
                f"the weights of {tensor.name!r} lie outside the model's folder ({tensor.location}); "
                "put them beside the model and name them by a relative path"
            )


def place_weights(model: ir.Model, folder: Path) -> ir.Model:
    """Hard-link or copy the weight files of `model` into `folder`; return a copy that refers to them there.

    ONNX Runtime refuses symbolic links and paths outside the model's folder. A file of the same name
    that is another file is left alone: the weights get a name of their own.

    Raises:
        OutputError: A weight file is missing or cannot be placed.
    """
    tensors = external_tensors(model)
    if not tensors:
        return model
    placed: dict[Path, str] = {}
    for tensor in tensors:
        source = Path(tensor.path)
        if source not in placed:
            placed[source] = _place(source, str(tensor.location), folder)
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
                    base_dir=folder,
                )
    return moved


def _place(source: Path, location: str, folder: Path) -> str:
    target = folder / location
    number = 2
    while target.exists():
        if source.exists() and target.samefile(source):
            return target.relative_to(folder).as_posix()
        target = (folder / location).with_stem(f"{Path(location).stem}-{number}")
        number += 1
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another disk, or a file system without hard links
            partial = target.with_name(f"{target.name}.part")
            try:
                shutil.copyfile(source, partial)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as err:
        raise OutputError(
            f"cannot place the weights {source} beside the new model: {err.strerror or err}"
        ) from None
    return target.relative_to(folder).as_posix()
