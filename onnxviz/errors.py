"""Everything onnxviz raises on purpose; each message names what failed and what to do.

    OnnxvizError
    ├── ModelError            a file that is missing, is not ONNX, or holds a broken graph
    ├── SelectorError         no layer, tensor, channel or output of that name
    ├── TargetError           no class or output element of that name
    ├── ShapeError            a rank or size that a step needs is unknown or does not fit
    ├── UnsupportedOperator   an operator on the path has no rule
    ├── DisconnectedError     the tensor to differentiate does not depend on the others
    ├── DeviceError           the device asked for cannot be had, or a run on it failed
    ├── PreprocessError       a preprocessing preset or file that cannot be used
    ├── ImageError            a picture that cannot be read
    ├── PolicyError           a gate, policy or baseline of an audit that cannot be read
    ├── DependencyError       an optional package that is not installed
    └── OutputError           a file or folder that cannot be written

The command line prints the message on one line and exits with 2.
"""

import difflib
from collections.abc import Iterable


class OnnxvizError(Exception):
    """Base of every error that onnxviz raises on purpose."""


class ModelError(OnnxvizError):
    """A model file that is missing, is not ONNX, is truncated, or holds a broken graph."""


class SelectorError(OnnxvizError):
    """A selector that matches no layer, tensor, channel or output."""


class TargetError(OnnxvizError):
    """A target that names no class and no output element."""


class ShapeError(OnnxvizError):
    """A rank or size that a step needs is unknown, or does not fit."""


class UnsupportedOperator(OnnxvizError):
    """An operator on the path to a target has no rule in the chosen set."""


class DisconnectedError(OnnxvizError):
    """The tensor to differentiate does not depend on the tensors asked for."""


class DeviceError(OnnxvizError):
    """The device asked for cannot be had, or a run on it failed."""


class DependencyError(OnnxvizError):
    """An optional package that is asked for and not installed."""


class PreprocessError(OnnxvizError):
    """A preprocessing preset, file or metadata entry that cannot be used."""


class ImageError(OnnxvizError):
    """A picture that cannot be read or does not fit the model's input."""


class PolicyError(OnnxvizError):
    """A gate, a policy or a baseline of an audit that cannot be read."""


class OutputError(OnnxvizError):
    """A file or folder that cannot be written."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A suffix for an error message: the nearest candidates, or nothing when none is near."""
    known = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(repr(known[n]) for n in near)}?" if near else ""
