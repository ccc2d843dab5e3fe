"""ONNX Runtime's exceptions, said in one line that names the node and what to do."""

import re
import textwrap

from onnxviz.errors import DeviceError, ModelError, OnnxvizError, ShapeError
from onnxviz.runtime.library import onnxruntime

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
# The C++ place a message comes from: file:line and the function, with its signature (GCC) or without (MSVC).
_PLACE = re.compile(
    r"\S+\.(?:cc|cpp|cu|cuh|h|hpp):\d+ "
    r"(?:[^()]*::[^()\s]+\([^()]*\)(?:::[^()\s]+\([^()]*\)>?)*(?: const)?(?: \[with [^\]]*\])? |[\w:~<>]+ )"
)
_BROKEN_CHECK = re.compile(r"^[^.]* was false\. (?=\S)")
_CUDA_DETAIL = re.compile(r" ; GPU=\d+ ; .*$")
_AT_NODE = re.compile(
    r"Non-zero status code returned while running (\S+) node\. Name:'([^']*)' Status Message: (.*)"
)

_UNKNOWN_OPERATOR = (
    re.compile(r'In Node, \("(?P<node>[^"]*)", (?P<op>[^,]+), "(?P<domain>[^"]*)".*No Op registered for '),
    re.compile(r"(?P<domain>[^\s:]*):(?P<op>[^\s:(]+)\(-?\d+\) is not a registered function/op"),
    re.compile(
        r"Could not find an implementation for (?:(?P<domain>[^\s:]+):)?(?P<op>[^\s:(]+)\(\d+\)"
        r" node with name '(?P<node>[^']*)'"
    ),
)
_TOO_NEW = re.compile(
    r"Unsupported model IR version.*|Current official support for domain .* is till opset .*"
)
_MEMORY = re.compile(
    r"allocate memory|out of memory|bad_?\s?alloc|ALLOC_FAILED|smaller than requested bytes", re.IGNORECASE
)
_HARDWARE = re.compile(r"\bCUDA\b|\bCUDNN|\bCUBLAS|\bCUFFT", re.IGNORECASE)
_SIZES = re.compile(r"dimension|\brank\b|shape|broadcast|\baxis\b|\bsize|bounds|data type", re.IGNORECASE)


def plainly(err: Exception) -> str:
    """The words of an ONNX Runtime exception on one line, without C++ places and signatures."""
    text = " ".join(str(err).split())
    text = _CUDA_DETAIL.sub("", _PLACE.sub("", _CODE.sub("", text)))
    at_node = _AT_NODE.search(text)
    if at_node is not None:
        op, node, text = at_node.groups()
        text = f"{_node(op, node)}: {_BROKEN_CHECK.sub('', text)}"
    return textwrap.shorten(text.rstrip("."), 400, placeholder=" ...")


def creation_failed(what: str, device: str, err: Exception) -> OnnxvizError:
    """The error for a model that was not taken: ModelError, or DeviceError for memory and CUDA."""
    text = plainly(err)
    if _MEMORY.search(text):
        return DeviceError(f"{what} does not fit into the memory of {device}: {text}")
    if _HARDWARE.search(text):
        return DeviceError(f"{what} cannot be prepared on {device}: {text}")
    version = onnxruntime.__version__
    for pattern in _UNKNOWN_OPERATOR:
        found = pattern.search(text)
        if found is not None:
            parts = {"node": "", **found.groupdict()}
            return ModelError(
                f"{what}: onnxruntime {version} has no operator {_node(parts['op'], parts['node'])} of the "
                f"domain {parts['domain'] or 'ai.onnx'!r} for this opset and these types; export the model "
                "with standard operators, or take an onnxruntime that has this one"
            )
    too_new = _TOO_NEW.search(text)
    if too_new is not None:
        text = f"{too_new[0]}; export it for an older opset, or upgrade onnxruntime (this one is {version})"
    return ModelError(f"{what}: onnxruntime cannot use it: {text}")


def run_failed(device: str, err: Exception) -> OnnxvizError:
    """The error for a run that failed: ShapeError where sizes do not fit, else DeviceError."""
    text = plainly(err)
    if _MEMORY.search(text):
        return DeviceError(f"{device} ran out of memory: {text}; use a smaller batch or smaller pictures")
    if _SIZES.search(text) and not _HARDWARE.search(text):
        return ShapeError(f"the inputs do not fit the model: {text}")
    return DeviceError(f"the run on {device} failed: {text}")


def _node(op: str, name: str) -> str:
    return f"{op} (node {name!r})" if name else op
