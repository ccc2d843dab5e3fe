"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from onnxviz.errors import OutputError
from onnxviz.views.colors import Pixels

MANIFEST = "manifest.json"

# What desktops leave in any folder that they show.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_FULL = (errno.ENOSPC, errno.EDQUOT)
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


def write_png(path: str | os.PathLike[str], image: Pixels) -> None:
    """Write a picture uint8 [H, W, 3] as PNG; equal pictures give equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG", optimize=False, compress_level=4)
    write_atomic(path, data.getvalue())


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file beside its place and then rename it, so that readers see the old or the new, whole.

    Raises:
        OutputError: the file cannot be written; nothing is left of it.
    """
    place = Path(path)
    try:
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        partial = _sibling(place)
        try:
            with partial.open("xb") as file:
                file.write(data)
            partial.replace(place)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _refused(place, error) from error


@contextlib.contextmanager
def output_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into that takes the place of `folder` when the block ends without an exception.

    Until then, and after any exception (Ctrl-C too), `folder` is as it was. An earlier output is replaced
    only with `overwrite`, and only while it holds nothing but the files that its own manifest lists, so that
    no file of somebody else's is ever deleted.

    Args:
        folder: the place of the output; missing parents are made.
        overwrite: replace an earlier output there.

    Yields:
        An empty folder beside `folder`.

    Raises:
        OutputError: there are files that may not be replaced, or the place cannot be written.
    """
    place = Path(folder)
    _check_replaceable(place, overwrite)
    made = _make_parents(place)
    partial = _sibling(place)
    try:
        try:
            partial.mkdir()
            yield partial
            # Minutes may have passed since the first look.
            _check_replaceable(place, overwrite)
            _swap(partial, place)
        except OSError as error:
            # An error of the block about something else, such as a file to read, is not ours to explain.
            named = Path(str(error.filename))
            if error.errno in _FULL or named == place or partial in (named, *named.parents):
                raise _refused(place, error) from error
            raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        raise


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file in a folder and below, for the `files` of its manifest.

    Returns:
        {path from the folder, with forward slashes: hexadecimal digest}; without the manifest, which cannot
        hold its own.

    Raises:
        OutputError: a file cannot be read.
    """
    try:
        return {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in _names(folder)
            if name != MANIFEST
        }
    except OSError as error:
        raise OutputError(f"cannot read back {folder}: {error.strerror}; run again") from error


def _names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not _is_real_folder(path)
    )


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _check_replaceable(place: Path, overwrite: bool) -> None:
    """Refuse with OutputError a place that holds anything but an earlier output that may go."""
    try:
        if place.is_symlink():
            raise OutputError(
                f"will not replace {place}: it is a link; name the folder itself or another one"
            )
        if not place.exists():
            return
        if not place.is_dir():
            raise OutputError(f"cannot write into {place}: it is a file; name a folder")
        here = place.resolve()
        if place.is_mount() or any(here in (inner, *inner.parents) for inner in _kept()):
            raise OutputError(f"will not replace {place} itself; name a new folder inside it")
        if not any(place.iterdir()):
            return
        if not overwrite:
            raise OutputError(f"{place} holds files; add --overwrite to replace them, or name another folder")
        _check_ours(place)
    except OSError as error:
        raise _refused(place, error) from error


def _kept() -> list[Path]:
    """Folders that stay, and all those above them."""
    kept = [Path.cwd().resolve()]
    # A user of a container may have no home.
    with contextlib.suppress(RuntimeError):
        kept.append(Path.home().resolve())
    return kept


def _check_ours(place: Path) -> None:
    refusal = f"will not replace {place}"
    remedy = "name another folder, or empty this one yourself"
    try:
        listed = json.loads((place / MANIFEST).read_bytes())["files"]
    except FileNotFoundError:
        raise OutputError(f"{refusal}: it holds files and no {MANIFEST} of onnxviz; {remedy}") from None
    except (ValueError, KeyError, TypeError):
        listed = None
    if not isinstance(listed, dict):
        raise OutputError(f"{refusal}: its {MANIFEST} is not one of onnxviz; {remedy}")
    for name in _names(place):
        if name not in listed and name != MANIFEST and name.rpartition("/")[2] not in _LITTER:
            raise OutputError(
                f"{refusal}: onnxviz did not write {name} in it; move that file, or name another folder"
            )


def _make_parents(place: Path) -> list[Path]:
    """Make the folders above `place`; those that were missing, innermost first."""
    missing = [parent for parent in place.parents if not parent.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(place, error) from error
    return missing


def _swap(partial: Path, place: Path) -> None:
    """Put `partial` where `place` is, or leave `place` as it was."""
    if not place.exists():
        partial.rename(place)
        return
    old = _sibling(place)
    place.rename(old)
    try:
        partial.rename(place)
    except BaseException:
        old.rename(place)
        raise
    # The new output stands whole; a leftover of the old one must not turn that into a failure.
    shutil.rmtree(old, ignore_errors=True)


def _sibling(path: Path) -> Path:
    return path.with_name(f".onnxviz-{secrets.token_hex(8)}")


def _refused(path: Path, error: OSError) -> OutputError:
    advice = _ADVICE.get(error.errno or 0, "choose another place")
    return OutputError(f"cannot write {path}: {error.strerror or error}; {advice}")
