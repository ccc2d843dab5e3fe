"""The class that each picture is known to show: folders by class."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from onnxviz.errors import TargetError
from onnxviz.vision.labels import find_class
from onnxviz.vision.read import Picture, name_of_picture

_WORDS = re.compile(r"[_\-\s]+")


def true_classes(
    images: Sequence[Picture], labels: Sequence[str] | None, count: int | None
) -> tuple[int, ...]:
    """The class of each picture by the name of its folder, -1 where that names none.

    A folder is named after a class (any of its synonyms; underscores and hyphens are spaces), or its index.
    Where no folder is, and there are as many folders as classes, they stand for the classes in their order,
    as image folders do.
    """
    folders = [_folder(picture, number) for number, picture in enumerate(images)]
    known = {name: _class_of(name, labels, count) for name in set(folders)}
    if count is not None and set(known.values()) == {-1} and len(known) == count > 1:
        known = {name: number for number, name in enumerate(sorted(known))}
    return tuple(known[name] for name in folders)


def _folder(picture: Picture, number: int) -> str:
    return PurePosixPath(name_of_picture(picture, number).replace("\\", "/")).parent.name


def _class_of(name: str, labels: Sequence[str] | None, count: int | None) -> int:
    if name.isdecimal() and len(name) < 7:
        index = int(name)
        return index if count is None or index < count else -1
    if labels is None or not name:
        return -1
    try:
        index = find_class(_WORDS.sub(" ", name), labels)
    except TargetError:
        return -1
    return index if count is None or index < count else -1
