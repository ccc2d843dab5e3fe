"""What ONNX Runtime makes of a file: the operators that are left once it is optimised, and where they run."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from onnxviz.graph.weights import bodies
from onnxviz.runtime.devices import CPU_PROVIDER, quiet_options, resolve
from onnxviz.runtime.failures import creation_failed
from onnxviz.runtime.library import onnxruntime

_ASSIGNMENT = "session.record_ep_graph_assignment_info"
_NAMES_APART = ("", "ai.onnx")


@dataclass(frozen=True)
class Optimised:
    """A file as ONNX Runtime runs it.

    Attributes:
        operators: How many nodes of each operator; None where the optimised graph cannot be written.
        providers: How many nodes each execution provider runs.
        fallback: Nodes that run on the CPU though another device was asked for.
    """

    operators: Mapping[str, int] | None
    providers: Mapping[str, int] = field(default_factory=dict)
    fallback: tuple[str, ...] = ()


def optimised(source: Path | bytes, device: str) -> Optimised:
    """Load a file as ONNX Runtime runs it, and look at what it made of it.

    Raises:
        ModelError: ONNX Runtime cannot use the file.
        DeviceError: The device cannot be had.
    """
    where = resolve(device)
    given = str(source) if isinstance(source, Path) else source
    operators: Mapping[str, int] | None = None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = quiet_options()
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        options.add_session_config_entry(_ASSIGNMENT, "1")
        try:
            session = onnxruntime.InferenceSession(given, options, where.providers, enable_fallback=False)
            operators = _histogram(Path(folder, "optimised.onnx"))
        except Exception:  # what is compiled, or larger than 2 GB, cannot be written
            plain = quiet_options()
            plain.add_session_config_entry(_ASSIGNMENT, "1")
            try:
                session = onnxruntime.InferenceSession(given, plain, where.providers, enable_fallback=False)
            except Exception as err:
                what = str(source) if isinstance(source, Path) else "the model"
                raise creation_failed(what, str(where), err) from err
    parts = _assigned(session)
    providers = {name: len(nodes) for name, nodes in parts.items()}
    if not providers:  # an ONNX Runtime that does not tell
        providers = {session.get_providers()[0]: sum((operators or {}).values())}
    slow = parts.get(CPU_PROVIDER, []) if where.kind != "cpu" else []
    return Optimised(operators, providers, tuple(slow))


def _histogram(path: Path) -> dict[str, int]:
    proto = onnx.load(path, load_external_data=False)
    names = Counter(
        node.op_type if node.domain in _NAMES_APART else f"{node.domain}::{node.op_type}"
        for body in bodies(proto)
        for node in body.node
    )
    return dict(sorted(names.items(), key=lambda each: (-each[1], each[0])))


def _assigned(session: object) -> dict[str, list[str]]:
    """The names of the nodes on each execution provider."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    found: dict[str, list[str]] = {}
    for part in tell() if tell is not None else ():
        found.setdefault(part.ep_name, []).extend(node.name or node.op_type for node in part.get_nodes())
    return found
