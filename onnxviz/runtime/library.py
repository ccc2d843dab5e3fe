"""The `onnxruntime` package, imported without its chatter; this room takes it from here."""

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from onnxviz.errors import DeviceError

__all__ = ["captured_stderr", "onnxruntime"]

_COLOR = re.compile(r"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def captured_stderr() -> Iterator[io.StringIO]:
    """Collect what native code writes to the process's stderr meanwhile; the text is there on leaving.

    `contextlib.redirect_stderr` sees Python's writes alone; this one moves the file descriptor.
    """
    said = io.StringIO()
    try:
        kept = os.dup(2)
    except OSError:  # a windowed program has no stderr, so nothing can be written to it either
        yield said
        return
    with tempfile.TemporaryFile() as sink:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(sink.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            sink.seek(0)
            said.write(sink.read().decode(errors="replace"))


def _pass_on(text: str) -> None:
    """Write to stderr what was captured, less ONNX Runtime's own warnings."""
    lines = [line for line in text.splitlines() if "[W:onnxruntime:" not in line]
    rest = [line for line in lines if _COLOR.sub("", line).strip()]
    if rest:
        os.write(2, "\n".join([*rest, ""]).encode())


# While it is imported, onnxruntime looks for GPUs and warns of every display adapter that it cannot read
# (virtual machines, WSL, single-board computers); no log severity can be set before the import is over.
with captured_stderr() as _said:
    try:
        import onnxruntime
    except ImportError as err:
        raise DeviceError(
            f"onnxruntime cannot be imported ({' '.join(str(err).split())}); run `onnxviz doctor`, "
            "or reinstall it: python3 -m pip install --force-reinstall onnxviz"
        ) from err
_pass_on(_said.getvalue())

if not hasattr(onnxruntime, "InferenceSession"):
    raise DeviceError(
        "onnxruntime is only half installed (it has no InferenceSession), as happens when onnxruntime and "
        "onnxruntime-gpu overwrite each other's files; uninstall both, then install one"
    )
