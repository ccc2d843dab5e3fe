import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxviz.errors import ImageError
from onnxviz.vision.archives import Member, members
from onnxviz.vision.read import list_pictures, name_of_picture, read_picture, suffixes
from onnxviz.vision.sources import list_set

pytestmark = pytest.mark.usefixtures("place")


def picture(number):
    return np.random.default_rng(number).integers(0, 256, (4 + number, 6, 3), np.uint8)


@pytest.fixture(name="place")
def _place(tmp_path, monkeypatch):
    """A folder of classes, with what is no picture among them."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["cat/b.png", "cat/a.png", "dog/c.png", "top.png"]):
        path = Path("set", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(path)
    Path("set/notes.txt").write_text("no picture")
    Path("set/.hidden").mkdir()
    Image.fromarray(picture(9)).save("set/.hidden/h.png")
    Image.fromarray(picture(9)).save("set/cat/._a.png")
    return tmp_path


def tar_of(names, path="shard.tar", mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in names.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def png(number):
    data = io.BytesIO()
    Image.fromarray(picture(number)).save(data, "PNG")
    return data.getvalue()


def posix(found):
    return [Path(str(one)).as_posix() for one in found]


def test_a_folder_with_all_that_lies_below_it():
    found = list_set("set")
    assert posix(found) == ["set/cat/a.png", "set/cat/b.png", "set/dog/c.png", "set/top.png"]
    assert list_set(Path("set")) == found


def test_patterns():
    assert posix(list_set("set/*/*.png")) == ["set/cat/a.png", "set/cat/b.png", "set/dog/c.png"]
    assert posix(list_set("set/**/a.png")) == ["set/cat/a.png"]
    with pytest.raises(ImageError, match=r"no file matches this pattern"):
        list_set("set/*.webp")


def test_a_pattern_finds_each_picture_once_and_nothing_else():
    """Its folders lie in one another, and beside the pictures there are notes, which are no list here."""
    tar_of({"0.png": png(0)}, "set/dog/shard.tar")
    Path("set/cat/labels.json").write_text("{}")
    Path("set/README").write_text("about")
    Path("set/empty").mkdir()
    whole = ["set/cat/a.png", "set/cat/b.png", "set/dog/c.png", "set/top.png"]
    assert posix(list_set("set/*")) == whole
    assert posix(list_set("set/**")) == [*whole[:3], "set/dog/shard.tar/0.png", whole[3]]
    assert posix(list_set("set/c*")) == whole[:2]
    assert posix(list_set(str(Path("set/**").absolute())))[0] == Path("set/cat/a.png").absolute().as_posix()


def test_a_pattern_may_ask_for_lists_and_other_endings():
    Path("one.txt").write_text("set/cat/a.png\n")
    Path("two.txt").write_text("set/cat/a.png\nset/top.png\n")
    assert posix(list_set("*.txt")) == ["set/cat/a.png", "set/cat/a.png", "set/top.png"]
    Path("set/cat/raw.dat").write_bytes(png(3))
    (one,) = list_set("set/cat/*.dat")
    assert (read_picture(one, "raw") == picture(3)).all()


def test_a_name_that_looks_like_a_pattern_is_a_name():
    Image.fromarray(picture(0)).save("set/odd[1].png")
    assert posix(list_set("set/odd[1].png")) == ["set/odd[1].png"]


def test_a_list_names_files_from_its_own_folder_on():
    absolute = Path("set/top.png").absolute()
    Path("set/list.txt").write_text(f"# mine\ncat/b.png\n\n{absolute}\ngone.png\n", encoding="utf-8")
    found = list_set("set/list.txt")
    assert posix(found) == ["set/cat/b.png", absolute.as_posix(), "set/gone.png"]
    assert (read_picture(found[0], "b") == picture(0)).all()
    with pytest.raises(ImageError, match="no such file"):
        read_picture(found[2], "gone")


def test_a_list_that_was_written_on_windows():
    Path("set/list.txt").write_bytes(b"\xef\xbb\xbfcat\\b.png\r\ncat\\none.png\r\n")
    assert posix(list_set("set/list.txt")) == ["set/cat/b.png", "set/cat/none.png"]


@pytest.mark.skipif(os.sep == "\\", reason="there a backslash is no part of a name")
def test_a_backslash_that_is_part_of_a_name_stays():
    Image.fromarray(picture(0)).save("set/odd\\name.png")
    Path("set/list.txt").write_text("odd\\name.png")
    assert list_set("set/list.txt") == ["set/odd\\name.png"]


def test_an_archive_is_read_where_it_lies():
    tar_of({"a/0.png": png(0), "a/0.json": b"{}", "b/1.PNG": png(1), "a/._2.png": png(2), "3.png": b"broken"})
    found = list_set("shard.tar")
    assert [one.name for one in found] == ["a/0.png", "b/1.PNG", "3.png"]
    assert name_of_picture(found[1], 7) == "shard.tar/b/1.PNG"
    for number, one in enumerate(found[:2]):
        assert (read_picture(one, "x") == picture(number)).all()
    with pytest.raises(ImageError, match="format that Pillow reads"):
        read_picture(found[2], "3.png")
    assert list_pictures(found[0]) == [found[0]]


def test_several_archives_by_number_and_by_pattern():
    for number in range(3):
        tar_of({f"{number}.png": png(number)}, f"s-{number:03d}.tar")
    found = list_set("s-{000..002}.tar")
    assert [str(one) for one in found] == ["s-000.tar/0.png", "s-001.tar/1.png", "s-002.tar/2.png"]
    assert list_set("s-*.tar") == found
    assert list_set("s-{002..000}.tar") == found[::-1]
    assert list_set(["s-002.tar", "set/top.png"])[0] == found[2]
    with pytest.raises(ImageError, match="more than"):
        list_set("s-{0..99999999}.tar")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_archive_is_refused_with_the_way_out(mode):
    tar_of({"0.png": png(0)}, "shard.tar.gz", mode)
    with pytest.raises(ImageError, match=r"shard.tar.gz.*decompress it first"):
        list_set("shard.tar.gz")


def test_archives_that_are_none_or_hold_nothing():
    Path("bad.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ImageError, match=r"bad.tar: not a tar archive"):
        list_set("bad.tar")
    tar_of({"0.json": b"{}"}, "empty.tar")
    with pytest.raises(ImageError, match=r"empty.tar: there is no picture"):
        list_set("empty.tar")
    with pytest.raises(ImageError, match=r"gone.tar: no such file or folder"):
        list_set("gone.tar")
    with pytest.raises(ImageError, match=r"gone.tar: cannot be read"):
        list_set(["set", "gone.tar"])
    assert list_set(["gone.png", "set/top.png"]) == ["gone.png", "set/top.png"]


def test_an_archive_that_is_damaged_or_cut_short_is_refused_whole():
    """tarfile takes what it cannot read behind the first member for the end: the rest would be missing."""
    tar_of({f"{number}.png": png(number) for number in range(3)})
    data = Path("shard.tar").read_bytes()
    second = list_set("shard.tar")[1].offset - tarfile.BLOCKSIZE
    for damaged in (data[:second] + b"\xff" * 40 + data[second + 40 :], data[: second + 100]):
        Path("bad.tar").write_bytes(damaged)
        with pytest.raises(ImageError, match=rf"bad.tar: damaged: byte {second} begins no header"):
            list_set("bad.tar")
    Path("bad.tar").write_bytes(data[: second + tarfile.BLOCKSIZE + 20])
    with pytest.raises(ImageError, match=r"bad.tar: not a tar archive that can be read"):
        list_set("bad.tar")
    Path("open.tar").write_bytes(data[:second])
    assert [one.name for one in list_set("open.tar")] == ["0.png"]


def test_members_that_windows_named():
    tar_of({"a\\0.png": png(0), "a\\._0.png": png(0)})
    (one,) = list_set("shard.tar")
    assert str(one) == "shard.tar/a/0.png"
    assert (read_picture(one, "x") == picture(0)).all()


def test_links_in_an_archive_are_passed_over():
    with tarfile.open("links.tar", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        entry = tarfile.TarInfo("real.png")
        entry.size = len(png(0))
        archive.addfile(entry, io.BytesIO(png(0)))
    assert [one.name for one in list_set("links.tar")] == ["real.png"]


def test_a_member_that_says_too_much_is_refused(monkeypatch):
    tar_of({"0.png": png(0)})
    monkeypatch.setattr("onnxviz.vision.archives.MOST_BYTES", 10)
    with pytest.raises(ImageError, match="no picture is so large"):
        members(Path("shard.tar"), suffixes())


def test_an_archive_that_became_shorter():
    tar_of({"0.png": png(0)})
    (one,) = list_set("shard.tar")
    Path("shard.tar").write_bytes(Path("shard.tar").read_bytes()[:600])
    with pytest.raises(ImageError, match="too early"):
        read_picture(one, "0.png")
    with pytest.raises(ImageError, match="too early"):
        read_picture(Member(one.archive, one.name, 10**9, 5), "far")


def test_nothing_to_look_at():
    Path("void").mkdir()
    with pytest.raises(ImageError, match="or below it"):
        list_set("void")
    Path("void.txt").write_text("# nothing\n")
    with pytest.raises(ImageError, match="names no picture"):
        list_set("void.txt")
    Path("latin.txt").write_bytes(b"caf\xe9.png")
    with pytest.raises(ImageError, match="UTF-8"):
        list_set("latin.txt")
    with pytest.raises(ImageError, match="no pictures are given"):
        list_set([])


def test_arrays_and_pillow_pass_as_they_are():
    one = picture(0)
    assert list_set(one)[0] is one
    assert len(list_set(np.stack([one, one]))) == 2
