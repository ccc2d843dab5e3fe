"""Write one file whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from onnxviz.errors import OutputError


@contextlib.contextmanager
def appearing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write to, which takes its name when the block ends well.

    Raises:
        OutputError: The file cannot be written.
    """
    target = Path(path)
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
        scratch = Path(name)
        # A temporary file is private to its owner; the result should have the rights of any other file.
        scratch.chmod(0o666 & ~_umask())
        yield scratch
        scratch.replace(target)
    except OSError as err:
        raise OutputError(f"cannot write {target}: {err.strerror or err}; choose another place") from None
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, replacing what was there only once all of it is on disk.

    Raises:
        OutputError: The file cannot be written.
    """
    with appearing(path) as scratch:
        scratch.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
