"""What a model's classes are called."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxviz.errors import TargetError, did_you_mean

_INDEX = re.compile(r"-?[0-9]{1,9}")

METADATA_KEY = "onnxviz.labels"


def read_labels(file: str | os.PathLike[str] | None, metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The classes' names from a file, else from the model's metadata, else None.

    A file holds a JSON list, a JSON object {index: name}, or one name a line. A class that an object or an
    empty line leaves out has the name "".

    Raises:
        TargetError: The file cannot be read, or it or the metadata holds no labels.
    """
    if file is not None:
        text, source = _read(file), os.fspath(file)
        if source.lower().endswith(".json") or text.lstrip().startswith(("[", "{")):
            return _from_json(text, source)
        if not text:
            raise TargetError(f"{source}: there are no labels in this file")
        return tuple(line.strip() for line in text.split("\n"))
    if METADATA_KEY in metadata:
        return _from_json(metadata[METADATA_KEY], f"metadata {METADATA_KEY}")
    return None


def class_index(text: str, count: int, output: str, labels: Sequence[str] | None) -> int:
    """The class that an index or a name means, of the `count` classes of an output.

    Raises:
        TargetError: The output has no such class, no class or several have this name, or there are no names.
    """
    if _INDEX.fullmatch(text):
        index = int(text)
        if not 0 <= index < count:
            raise TargetError(f"no class {text}: output {output!r} has classes 0 to {count - 1}")
        return index
    if labels is None:
        raise TargetError(
            f"no class {text!r}: the model names none; give an index, or names with --labels FILE"
        )
    index = find_class(text, labels)
    if index >= count:
        raise TargetError(f"class {text!r} is {index}, but output {output!r} has {count} classes")
    return index


def find_class(label: str, labels: Sequence[str]) -> int:
    """The index of the class of that name: its whole entry or one of the synonyms between its commas.

    Upper and lower case are the same, and so is space around a synonym.

    Raises:
        TargetError: No class has this name (the nearest are suggested), or several do.
    """
    wanted = ",".join(_synonyms(label.casefold()))
    found = []
    for index, entry in enumerate(labels):
        synonyms = _synonyms(entry.casefold())
        if wanted and wanted in (*synonyms, ",".join(synonyms)):
            found.append(index)
    if len(found) > 1:
        listed = ", ".join(f"{index} ({labels[index]})" for index in found)
        raise TargetError(f"{label!r} names several classes; give an index: {listed}")
    if not found:
        known = (synonym for entry in labels for synonym in _synonyms(entry))
        raise TargetError(f"no class is called {label!r}{did_you_mean(label.strip(), known)}")
    return found[0]


def name_of(index: int, labels: Sequence[str] | None) -> str:
    """The first synonym of a class, or "class 7" where nothing is known of it."""
    if labels is None or not 0 <= index < len(labels):
        return f"class {index}"
    return next(iter(_synonyms(labels[index])), f"class {index}")


def _synonyms(entry: str) -> list[str]:
    return [part.strip() for part in entry.split(",") if part.strip()]


def _read(file: str | os.PathLike[str]) -> str:
    try:
        text = Path(file).read_text("utf-8-sig")
    except OSError as err:
        raise TargetError(f"{os.fspath(file)}: cannot read the labels: {err.strerror or err}") from None
    except ValueError:
        raise TargetError(f"{os.fspath(file)}: not a text file in UTF-8") from None
    # Only the end: an empty first line is a class without a name.
    return text.rstrip()


def _from_json(text: str, source: str) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise TargetError(f"{source}: not JSON: {err}") from None
    if isinstance(found, dict):
        found = _in_order(found, source)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise TargetError(f"{source}: labels must be a list of names, or an object of index and name")
    if not found:
        raise TargetError(f"{source}: there are no labels in it")
    return tuple(name.strip() for name in found)


def _in_order(names: dict[str, object], source: str) -> list[object]:
    for key in names:
        # The length keeps a stray key from asking for a list of a billion names.
        if not key.isdecimal() or len(key) > 6:
            raise TargetError(f"{source}: the key {key!r} is no class index")
    by_index = {int(key): name for key, name in names.items()}
    return [by_index.get(index, "") for index in range(max(by_index, default=-1) + 1)]
