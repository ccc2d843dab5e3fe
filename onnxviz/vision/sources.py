"""Sets of pictures of any size: folders, patterns, list files and archives, as pictures not yet read."""

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from onnxviz.errors import ImageError
from onnxviz.vision.archives import members
from onnxviz.vision.read import Images, Picture, list_pictures, suffixes

LISTS = (".txt", ".lst")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000


def list_set(images: Images) -> list[Picture]:
    """Every picture of a set, unread, in an order that no machine changes.

    A folder is walked with all that lies below it (a folder of classes is one of them), its files sorted by
    their path; a pattern (`photos/*.jpg`, `**`, `shard-{000..012}.tar`) stands for what it matches, sorted; a
    list (.txt, .lst) names a file in each line, from its own folder on; an archive (.tar) holds its members
    in their order. A list of any of these is one after another; all else is as in `list_pictures`.

    Raises:
        ImageError: There is no picture, or a folder, list or archive cannot be read.
    """
    if isinstance(images, (str, os.PathLike)):
        places = _matches(os.fspath(images))
        if len(places) == 1 and not Path(places[0]).exists():
            raise ImageError(f"{places[0]}: no such file or folder")
        return _in_places(places)
    if isinstance(images, list | tuple):
        # One of several that is not there is found out, and may be passed over, when it is read.
        named = [one for one in images if isinstance(one, (str, os.PathLike))]
        if len(named) == len(images) > 0:
            return _in_places([place for one in named for place in _matches(os.fspath(one))])
    return list_pictures(images)


def _matches(text: str) -> list[str]:
    """The places that a text stands for: itself, where it is one; else what its pattern matches."""
    if Path(text).exists():
        return [text]
    numbered = _numbered(text)
    if len(numbered) > 1 or numbered != [text]:
        return [place for one in numbered for place in _matches(one)]
    if not glob.has_magic(text):
        return [text]
    found = _matching(text)
    if not found:
        raise ImageError(f"{text}: no file matches this pattern that can be a picture or an archive")
    return found


def _matching(pattern: str) -> list[str]:
    """The pictures that a pattern matches or that lie below a folder it matches, each once; and archives.

    Other files beside them are passed over, as in a folder, unless their ending is the pattern's own.
    """
    matched = [Path(place) for place in glob.iglob(pattern, recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute pattern
    folders = {path for path in matched if path.is_dir()}
    endings = suffixes() | {Path(pattern).suffix.lower()} - {""}
    found = {
        str(path)
        for path in matched
        if path not in folders and (path.suffix.lower() in endings or _is_archive(path))
    }
    for folder in folders:
        if folders.isdisjoint(folder.parents):
            found.update(_below(folder))
    return sorted(found, key=_order)


def _numbered(text: str) -> list[str]:
    """A text with a range in braces as one text for each number, with as many digits."""
    match = _BRACES.search(text)
    if match is None:
        return [text]
    first, last = int(match[1]), int(match[2])
    step = 1 if first <= last else -1
    numbers = range(first, last + step, step)
    if len(numbers) > _MOST_SHARDS:
        raise ImageError(f"{text}: {len(numbers)} files are more than {_MOST_SHARDS}")
    width = len(match[1])
    return [f"{text[: match.start()]}{n:0{width}d}{text[match.end() :]}" for n in numbers]


def _in_places(places: Iterable[str]) -> list[Picture]:
    return [picture for place in places for picture in _in_place(place)]


def _in_place(place: str) -> list[Picture]:
    path = Path(place)
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() in LISTS:
        return _listed(path)
    if _is_archive(path):
        return list(members(path, suffixes()))
    return [place]


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"))


def _in_folder(folder: Path) -> list[Picture]:
    found: list[Picture] = [*sorted(_below(folder), key=_order)]
    if not found:
        raise ImageError(f"{folder}: there is no picture in this folder or below it")
    return found


def _below(folder: Path) -> Iterable[str]:
    """The pictures in a folder and below it, as text, which takes a third of a Path's memory."""
    known = suffixes()

    def refuse(err: OSError) -> None:
        raise ImageError(f"{err.filename}: cannot be read: {err.strerror or err}") from None

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in known:
                yield str(Path(place, name))


def _listed(path: Path) -> list[Picture]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as err:
        raise ImageError(f"{path}: cannot be read: {err.strerror or err}") from None
    except UnicodeDecodeError:
        raise ImageError(f"{path}: not a list of files in UTF-8") from None
    names = [line.strip() for line in lines]
    found: list[Picture] = [_named(path.parent, name) for name in names if name and not name.startswith("#")]
    if not found:
        raise ImageError(f"{path}: the list names no picture")
    return found


def _named(folder: Path, name: str) -> str:
    """The path that a list gives, which may have been written on Windows."""
    path = folder / name
    return str(path if "\\" not in name or path.exists() else folder / name.replace("\\", "/"))


def _order(path: str) -> str:
    """What paths are sorted by, the same on every system."""
    return path.replace(os.sep, "/")
