"""What a result came from, in a form that can be kept beside it and compared later."""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # doctor prints a document where onnx does not import
    from onnxviz.graph.model import Model

_PACKAGES = ("onnxviz", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow")


def describe_model(model: "Model") -> dict[str, object]:
    """The model's identity: path, sha256 of the file as it is, opset it is run at, and its producer."""
    if model.path is not None:
        with model.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    else:
        digest = hashlib.sha256(model.serialize()).hexdigest()
    producer = f"{model.ir_model.producer_name or ''} {model.ir_model.producer_version or ''}".strip()
    return {
        "path": None if model.path is None else str(model.path),
        "sha256": digest,
        "opset": model.opset,
        "producer": producer or None,
    }


def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def manifest(model: "Model", **entries: Any) -> dict[str, Any]:
    """A manifest: the model, the versions, and the entries given (see docs/manifest.md)."""
    return {"model": describe_model(model), "versions": versions(), **entries}


def json_text(entries: Mapping[str, Any], ascii_only: bool = False) -> str:
    """A document as JSON text; numbers that JSON has no word for become null."""
    return json.dumps(plain(entries), indent=2, ensure_ascii=ascii_only) + "\n"


def plain(value: Any) -> Any:
    """A value as JSON holds it; numbers that JSON has no word for become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
