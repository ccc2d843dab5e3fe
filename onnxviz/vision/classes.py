"""Which class each picture of a folder is said to be of: by its table, or by the folder that it lies in."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxviz.errors import ImageError
from onnxviz.vision.read import Picture

TABLES = ("metadata.csv", "metadata.jsonl")


def classes_of(folder: str | Path, pictures: Sequence[Picture]) -> list[str | None]:
    """The class of each picture of a folder, by the conventions of Hugging Face and torchvision.

    A table in the folder (`TABLES`, the first that is there) names each picture in the column `file_name`, by
    its path from the folder on, and its class in the column `label`. Without one it is the name of the folder
    that the picture lies in, if each lies one level below (`cat/0001.jpg`).

    Args:
        folder: The folder.
        pictures: Its pictures, as `onnxviz.vision.sources.list_set` lists them.

    Returns:
        For each picture its class, as a text; None where none is told.

    Raises:
        ImageError: The table cannot be read.
    """
    folder = Path(folder)
    places = [_place(folder, picture) for picture in pictures]
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is not None:
        told = _told(table)
        return [told.get("/".join(place)) for place in places]
    if all(len(place) == 2 for place in places):
        return [place[0] for place in places]
    return [None] * len(places)


def _place(folder: Path, picture: Picture) -> tuple[str, ...]:
    """The parts of a picture's path from the folder on; none for what is no file in it."""
    if not isinstance(picture, str | Path) or not Path(picture).is_relative_to(folder):
        return ()
    return Path(picture).relative_to(folder).parts


def _told(table: Path) -> dict[str, str]:
    """The classes that a table tells, by the pictures' paths."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows: Iterator[Any] = csv.DictReader(file) if table.suffix == ".csv" else _objects(file)
            return dict(_entry(row) for row in rows if row.get("label") not in (None, ""))
    except OSError as err:
        raise ImageError(f"{table}: cannot be read: {err.strerror or err}") from None
    # Also of UTF-8 and of JSON; a row of JSON that is no object has no `get`.
    except (ValueError, AttributeError, csv.Error) as err:
        raise ImageError(f"{table}: not a table of pictures: {err}") from None
    except KeyError:
        raise ImageError(
            f"{table}: a row has no file_name; name each picture in a column file_name"
        ) from None


def _objects(lines: Iterator[str]) -> Iterator[Any]:
    return (json.loads(line) for line in lines if line.strip())


def _entry(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["file_name"]).replace("\\", "/"), str(row["label"])
