"""Write one file whole or not at all, and say what to do where that fails."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from onnxviz.errors import OutputError

FULL = (errno.ENOSPC, errno.EDQUOT)
_ADVICE = {
    errno.EACCES: "close what has it open, or choose a place that you may write to",
    errno.EPERM: "close what has it open, or choose a place that you may write to",
    errno.EBUSY: "close what has it open, or choose another place",
    errno.EROFS: "choose a place that is not read-only",
    errno.ENOSPC: "make room there or choose another disk",
    errno.EDQUOT: "make room there or choose another disk",
    errno.ENOTDIR: "a part of this path is a file; choose another place",
    errno.EEXIST: "a part of this path is a file; choose another place",
    errno.ENOENT: "make the folder first or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "this is a folder; give the name of a file",
}


@contextlib.contextmanager
def appearing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new name beside `path` to write to, which takes its place when the block ends without an exception.

    Readers see the old file or the new one, whole; after any exception (Ctrl-C too) the old one.

    Raises:
        OutputError: The file cannot be written; nothing is left of it.
    """
    place = Path(path)
    try:
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        partial = sibling(place)
        try:
            yield partial
            partial.replace(place)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise refused(place, error) from error


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, replacing what was there only once all of it is on disk.

    Raises:
        OutputError: The file cannot be written; nothing is left of it.
    """
    with appearing(path) as partial, partial.open("xb") as file:
        file.write(data)


def sibling(path: Path) -> Path:
    """A name beside `path` that nothing has yet."""
    return path.with_name(f".onnxviz-{secrets.token_hex(8)}")


def refused(path: Path, error: OSError) -> OutputError:
    """The error that names the place, why it could not be written, and what to do."""
    advice = _ADVICE.get(error.errno or 0, "choose another place")
    return OutputError(f"cannot write {path}: {error.strerror or error}; {advice}")
