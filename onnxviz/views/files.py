"""Files and folders that appear whole or not at all."""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from onnxviz.errors import OutputError
from onnxviz.files import FULL, refused, sibling, write_atomic
from onnxviz.views.colors import Pixels

MANIFEST = "manifest.json"

# What desktops leave in any folder that they show.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def write_png(path: str | os.PathLike[str], image: Pixels) -> None:
    """Write a picture uint8 [H, W, 3] as PNG; equal pictures give equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(path, png_bytes(image))


def png_bytes(image: Pixels) -> bytes:
    """A picture uint8 [H, W, 3] as the bytes of a PNG file; equal pictures give equal bytes."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG", optimize=False, compress_level=4)
    return data.getvalue()


@contextlib.contextmanager
def output_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into that takes the place of `folder` when the block ends without an exception.

    Until then, and after any exception (Ctrl-C too), `folder` is as it was. A folder that holds files is
    written to only with `overwrite`: an earlier output, nothing but the files that its own manifest lists, is
    replaced as a whole; into any other folder the new files move one by one, and what else it holds stays,
    so that no file of somebody else's is ever deleted.

    Args:
        folder: the place of the output; missing parents are made.
        overwrite: write there though it holds files.

    Yields:
        An empty folder beside `folder`.

    Raises:
        OutputError: there are files that may not be replaced, or the place cannot be written.
    """
    place = Path(folder)
    _check_replaceable(place, overwrite)
    made = _make_parents(place)
    partial = sibling(place)
    try:
        try:
            partial.mkdir()
            yield partial
            # Minutes may have passed since the first look.
            _check_replaceable(place, overwrite)
            if not place.exists() or _is_ours(place):
                _swap(partial, place)
            else:
                _move_into(partial, place)
        except OSError as error:
            # An error of the block about something else, such as a file to read, is not ours to explain.
            named = Path(str(error.filename))
            if error.errno in FULL or named == place or partial in (named, *named.parents):
                raise refused(place, error) from error
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
    """Refuse with OutputError a place that is no folder to write to, or holds files that may not change."""
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
    except OSError as error:
        raise refused(place, error) from error


def _kept() -> list[Path]:
    """Folders that stay, and all those above them."""
    kept = [Path.cwd().resolve()]
    # A user of a container may have no home.
    with contextlib.suppress(RuntimeError):
        kept.append(Path.home().resolve())
    return kept


def _is_ours(place: Path) -> bool:
    """Whether a folder is empty, or holds an earlier output and nothing else."""
    names = _names(place)
    try:
        listed = json.loads((place / MANIFEST).read_bytes())["files"] if names else {}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not isinstance(listed, dict):
        return False
    return all(name in listed or name == MANIFEST or name.rpartition("/")[2] in _LITTER for name in names)


def _move_into(partial: Path, place: Path) -> None:
    """Move the new files into a folder that holds others, each whole, the manifest last."""
    for name in sorted(_names(partial), key=lambda name: name == MANIFEST):
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (partial / name).replace(target)
    shutil.rmtree(partial, ignore_errors=True)


def _make_parents(place: Path) -> list[Path]:
    """Make the folders above `place`; those that were missing, innermost first."""
    missing = [parent for parent in place.parents if not parent.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(place, error) from error
    return missing


def _swap(partial: Path, place: Path) -> None:
    """Put `partial` where `place` is, or leave `place` as it was."""
    if not place.exists():
        partial.rename(place)
        return
    old = sibling(place)
    place.rename(old)
    try:
        partial.rename(place)
    except BaseException:
        old.rename(place)
        raise
    # The new output stands whole; a leftover of the old one must not turn that into a failure.
    shutil.rmtree(old, ignore_errors=True)
