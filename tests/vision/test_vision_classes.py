from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxviz.errors import ImageError
from onnxviz.vision.classes import classes_of
from onnxviz.vision.sources import list_set

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture(name="place")
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ["cat/a.png", "cat/b.png", "dog/c.png"]:
        path = Path("set", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)


def classes(folder="set"):
    return classes_of(folder, list_set(folder))


def test_a_folder_for_each_class():
    assert classes() == ["cat", "cat", "dog"]
    assert classes(Path("set").absolute()) == ["cat", "cat", "dog"]
    assert classes("set/") == ["cat", "cat", "dog"]


@pytest.mark.parametrize("name", ["set/top.png", "set/cat/young/d.png"])
def test_folders_are_classes_only_where_each_picture_lies_in_one(name):
    Path(name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (2, 2)).save(name)
    assert classes() == [None] * 4


def test_a_table_of_commas_tells_more_than_the_folders():
    Path("set/metadata.csv").write_text(
        'file_name,note,label\ncat/b.png,"one, two",lynx\ndog\\c.png,,7\ncat/a.png,,\ngone.png,,x\n',
        "utf-8-sig",
    )
    assert classes() == [None, "lynx", "7"]


def test_a_table_of_objects():
    Path("set/metadata.jsonl").write_text(
        '{"file_name": "cat/b.png", "label": "lynx"}\n\n{"file_name": "dog/c.png", "label": 0}\n{"note": 1}\n'
    )
    assert classes() == [None, "lynx", "0"]


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("metadata.csv", b"name,label\na.png,cat\n", "a row has no file_name"),
        ("metadata.csv", b"file_name,label\ncaf\xe9.png,cat\n", "not a table"),
        ("metadata.jsonl", b"{file_name}\n", "not a table"),
        ("metadata.jsonl", b"[1]\n", "not a table"),
    ],
)
def test_a_table_that_is_none(name, data, match):
    Path("set", name).write_bytes(data)
    with pytest.raises(ImageError, match=f"{name}: {match}"):
        classes()


def test_what_is_no_file_of_the_folder_has_no_class():
    pictures = ["set/cat/a.png", "elsewhere/cat/a.png", np.zeros((2, 2), np.uint8)]
    assert classes_of("set", pictures) == [None] * 3
