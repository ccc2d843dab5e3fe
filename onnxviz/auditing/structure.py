"""How a file is built: what onnx's checker says, what keeps a runtime from its work, where weights lie."""

from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import uses_external_data

from onnxviz.auditing.findings import Finding, finding
from onnxviz.auditing.identity import ONNX, RawFile, external_files, nodes
from onnxviz.graph.normalise import one_line
from onnxviz.graph.weights import bodies, nbytes
from onnxviz.runtime.optimised import optimised

_OLD, _VERY_OLD = 13, 7
_NEAR = ("com.microsoft", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training")
_FEW = 5
_BATCH = 0


def structure(raw: RawFile, device: str | None) -> dict[str, Any]:
    """How a file is built, as the report holds it; `device` is None where it cannot be run."""
    found = None
    if device is not None:
        found = optimised(raw.source, device)
    operators = None if found is None else found.operators
    return {
        "nodes": sum(1 for _ in nodes(raw.proto)),
        "optimised_nodes": None if operators is None else sum(operators.values()),
        "optimised": dict(operators or {}),
        "providers": {} if found is None else dict(found.providers),
        "fallback": [] if found is None else list(found.fallback),
        "external_data": external_files(raw.proto),
    }


def structure_findings(raw: RawFile) -> list[Finding]:
    """What is wrong with how a file is built, without running it."""
    return [
        *_checked(raw),
        *_external(raw),
        *_age(raw.proto),
        *_unused(raw.proto),
        *_listed(raw.proto),
        *_open_sizes(raw.proto),
        *_custom(raw.proto),
    ]


def fallback_findings(entry: dict[str, Any]) -> list[Finding]:
    """Nodes that run on the CPU though another device was asked for."""
    slow = entry["fallback"]
    if not slow:
        return []
    detail = f"{len(slow)} nodes run on the CPU: {_some(slow)}"
    return [finding("cpu-fallback", None, None, len(slow), detail)]


def _checked(raw: RawFile) -> list[Finding]:
    try:
        # By path a file of any size is checked, and its external weights are not read.
        onnx.checker.check_model(raw.proto if raw.path is None else str(raw.path))
    except (onnx.checker.ValidationError, ValueError, OSError) as err:
        text = one_line(err)
        if "external" in text.lower() or "doesn't exist" in text:
            return []  # told of with the tensor's name
        return [finding("checker", None, None, None, f"onnx.checker: {text}")]
    return []


def _external(raw: RawFile) -> list[Finding]:
    """Weights that are missing, or not in the model's folder; what is outside is not looked at."""
    home, findings = raw.folder.resolve(), []
    for body in bodies(raw.proto):
        for tensor in body.initializer if isinstance(body, onnx.GraphProto) else ():
            if not uses_external_data(tensor):
                continue
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            why = _misplaced(home, place)
            if why is not None:
                detail = f"the weights of {tensor.name!r} {why} ({place}); put them beside the model"
                findings.append(finding("external-data", None, None, None, detail))
    return findings


def _misplaced(home: Path, place: str) -> str | None:
    if Path(place).is_absolute() or place.startswith(("/", "\\")):
        return "are named by an absolute path"
    if not (home / place).resolve().is_relative_to(home):
        return "lie outside the model's folder"
    return None if (home / place).is_file() else "are missing"


def _age(proto: onnx.ModelProto) -> list[Finding]:
    version = next((entry.version for entry in proto.opset_import if entry.domain in ONNX), None)
    if version is None or version >= _OLD:
        return []
    detail = f"opset {version}; runtimes support opset 7 and later, and optimise the later ones best"
    return [finding("opset-age", None, None, version, detail, "warning" if version < _VERY_OLD else None)]


def _unused(proto: onnx.ModelProto) -> list[Finding]:
    read = {name for node in nodes(proto) for name in node.input}
    read |= {value.name for body in bodies(proto) for value in getattr(body, "output", ()) if _named(value)}
    unused = [tensor for tensor in proto.graph.initializer if tensor.name not in read]
    if not unused:
        return []
    size = sum(map(nbytes, unused))
    detail = f"nothing reads {len(unused)} weights ({size} bytes): {_some([t.name for t in unused])}"
    return [finding("unused-initializer", None, None, len(unused), detail)]


def _named(value: object) -> bool:
    return hasattr(value, "name")


def _listed(proto: onnx.ModelProto) -> list[Finding]:
    weights = {tensor.name for tensor in proto.graph.initializer}
    listed = [value.name for value in proto.graph.input if value.name in weights]
    if not listed:
        return []
    blocks = proto.ir_version >= 4
    why = (
        "a caller could replace them, so that ONNX Runtime fuses no Conv, BatchNormalization and Relu; "
        "export again without keep_initializers_as_inputs"
        if blocks
        else f"as IR version {proto.ir_version} demands; later ones do without"
    )
    detail = f"{len(listed)} weights are listed as inputs: {why}"
    return [finding("weights-as-inputs", None, None, len(listed), detail, None if blocks else "info")]


def _open_sizes(proto: onnx.ModelProto) -> list[Finding]:
    weights = {tensor.name for tensor in proto.graph.initializer}
    open_ = [
        f"{value.name}[{axis}]"
        for value in proto.graph.input
        if value.name not in weights
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if axis != _BATCH and not dim.HasField("dim_value")
    ]
    if not open_:
        return []
    detail = f"sizes are open: {_some(open_)}; a runtime cannot plan its memory ahead"
    return [finding("dynamic-dimension", None, None, len(open_), detail)]


def _custom(proto: onnx.ModelProto) -> list[Finding]:
    own = {(function.domain, function.name) for function in proto.functions}
    foreign: dict[str, set[str]] = {}
    for node in nodes(proto):
        if node.domain not in ONNX and (node.domain, node.op_type) not in own:
            foreign.setdefault(node.domain, set()).add(node.op_type)
    return [
        finding(
            "custom-operator",
            None,
            None,
            len(names),
            f"operators of {domain}: {_some(sorted(names))}; "
            + (
                "ONNX Runtime has them, other runtimes may not"
                if domain in _NEAR
                else "a runtime needs a library for them"
            ),
            "info" if domain in _NEAR else None,
        )
        for domain, names in sorted(foreign.items())
    ]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more
