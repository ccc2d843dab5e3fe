import errno
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxviz.errors import OutputError
from onnxviz.files import write_atomic
from onnxviz.views.files import digests, output_folder, write_png

OLD_FILES = {"a.png": "00", "sub/b.npz": "11"}


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def fill(folder, files=OLD_FILES, manifest=True):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    if manifest:
        (folder / "manifest.json").write_text(json.dumps({"files": files}))
    return tree(folder)


def write_then_raise(place, exception, **options):
    with output_folder(place, **options) as folder:
        write_new(folder)
        raise exception


def write_new(folder):
    (folder / "new.txt").write_bytes(b"new")


def test_png_holds_the_picture_and_its_bytes_do_not_change(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, image)
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


def test_write_atomic_replaces_a_file_and_leaves_nothing_else(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"old")
    write_atomic(tmp_path / "m.onnx", b"new")
    assert tree(tmp_path) == {"m.onnx": b"new"}


def test_write_atomic_takes_a_name_as_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomic("猫.onnx", b"new")
    assert tree(tmp_path) == {"猫.onnx": b"new"}


@pytest.mark.parametrize("exception", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_write_atomic_that_fails_leaves_the_old_file(tmp_path, monkeypatch, exception):
    (tmp_path / "m.onnx").write_bytes(b"old")

    def fail(*_):
        raise exception

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        write_atomic(tmp_path / "m.onnx", b"new")
    assert tree(tmp_path) == {"m.onnx": b"old"}


def test_write_atomic_says_what_to_do(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"cannot write .*missing.*make the folder first"):
        write_atomic(tmp_path / "missing" / "m.onnx", b"")
    with pytest.raises(OutputError, match=r"cannot write .*this is a folder"):
        write_atomic(tmp_path, b"")
    with pytest.raises(OutputError, match="this is a folder"):
        write_atomic("", b"")
    if sys.platform != "win32":
        with pytest.raises(OutputError, match="a part of this path is a file"):
            write_atomic(tmp_path / "file" / "m.onnx", b"")


def test_output_folder_appears_at_the_end_with_its_parents(tmp_path):
    place = tmp_path / "out" / "explain"
    with output_folder(place) as folder:
        write_new(folder)
        assert not place.exists()
        assert folder.parent == place.parent
    assert tree(tmp_path) == {"out/explain/new.txt": b"new"}


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_half_way_leaves_nothing(tmp_path, exception):
    with pytest.raises(exception):
        write_then_raise(tmp_path / "out" / "explain", exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt])
def test_an_exception_half_way_leaves_the_old_output(tmp_path, exception):
    before = fill(tmp_path / "out")
    with pytest.raises(exception):
        write_then_raise(tmp_path / "out", exception, overwrite=True)
    assert tree(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_output_is_replaced_whole(tmp_path):
    fill(tmp_path / "out")
    (tmp_path / "out" / ".DS_Store").write_text("")
    with output_folder(tmp_path / "out", overwrite=True) as folder:
        write_new(folder)
    assert tree(tmp_path) == {"out/new.txt": b"new"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with output_folder(tmp_path / "out") as folder:
        write_new(folder)
    assert tree(tmp_path) == {"out/new.txt": b"new"}


def refused(place, match, overwrite=True):
    with pytest.raises(OutputError, match=match), output_folder(place, overwrite=overwrite):
        pytest.fail("the block must not run")


def test_a_folder_with_files_is_refused_without_overwrite(tmp_path):
    before = fill(tmp_path / "out")
    refused(tmp_path / "out", "holds files; add --overwrite", overwrite=False)
    assert tree(tmp_path / "out") == before


def keeps(place, name):
    """Writing into `place` with overwrite keeps its file `name` and adds the new ones."""
    mine = (place / name).read_bytes()
    with output_folder(place, overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert (place / name).read_bytes() == mine
    assert (place / "new.txt").read_text() == "new"
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_a_folder_without_a_manifest_keeps_its_files(tmp_path):
    fill(tmp_path / "out", manifest=False)
    for name in tree(tmp_path / "out"):
        keeps(tmp_path / "out", name)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"name": "web app"}', '{"files": ["a.png"]}', "\x00"])
def test_a_folder_with_a_manifest_of_another_program_keeps_its_files(tmp_path, manifest):
    fill(tmp_path / "out", manifest=False)
    (tmp_path / "out" / "manifest.json").write_text(manifest)
    keeps(tmp_path / "out", "manifest.json")


@pytest.mark.parametrize("name", ["notes.txt", "sub/notes.txt", "sub/manifest.json"])
def test_a_file_that_somebody_put_into_an_output_stays(tmp_path, name):
    fill(tmp_path / "out")
    (tmp_path / "out" / name).write_text("mine")
    keeps(tmp_path / "out", name)


def test_a_file_that_appears_during_the_run_protects_the_folder(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="holds files"), output_folder(tmp_path / "out"):
        (tmp_path / "out" / "mine.txt").write_text("mine")
    assert tree(tmp_path) == {"out/mine.txt": b"mine"}


def test_the_working_directory_its_parents_and_home_are_never_replaced(tmp_path, monkeypatch):
    work, home = tmp_path / "a" / "work", tmp_path / "b" / "home"
    for folder in (work, home):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(work)
    for place in (".", "..", work, work.parent, home, home.parent, tmp_path.anchor):
        refused(place, "name a new folder inside it")


def test_a_user_without_a_home_can_write(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    (tmp_path / "out").mkdir()
    with output_folder(tmp_path / "out") as folder:
        write_new(folder)
    assert tree(tmp_path) == {"out/new.txt": b"new"}


def link(path, target):
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")


def test_a_link_is_never_followed_or_replaced(tmp_path):
    before = fill(tmp_path / "real")
    link(tmp_path / "out", tmp_path / "real")
    refused(tmp_path / "out", "it is a link")
    assert tree(tmp_path / "real") == before


def test_a_link_inside_an_output_is_not_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mine.txt").write_text("mine")
    fill(tmp_path / "out")
    link(tmp_path / "out" / "linked", tmp_path / "real")
    with output_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert (tmp_path / "out" / "new.txt").read_text() == "new"
    assert (tmp_path / "out" / "linked").is_symlink()
    assert tree(tmp_path / "real") == {"mine.txt": b"mine"}


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("mine")
    refused(tmp_path / "out", "cannot write into .*out: it is a file")
    if sys.platform != "win32":
        refused(tmp_path / "out" / "explain", "a part of this path is a file")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        refused(tmp_path / "out", "choose a place that you may write to")
    finally:
        tmp_path.chmod(0o700)


def test_a_place_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    def fail(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", fail)
    refused(tmp_path / "out", "cannot write .*out: Permission denied; .*choose a place that you may write to")


def test_a_full_disk_in_the_block_is_named(tmp_path):
    with (
        pytest.raises(OutputError, match=r"cannot write .*out: .*make room there"),
        output_folder(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_error_about_another_file_passes_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), output_folder(tmp_path / "out"):
        (tmp_path / "outlook.png").read_bytes()


def test_an_error_about_a_file_of_the_folder_names_the_folder(tmp_path):
    with pytest.raises(OutputError, match="make the folder first"), output_folder(tmp_path / "out") as folder:
        (folder / "missing" / "a.txt").write_text("")


def test_a_rename_that_fails_puts_the_old_output_back(tmp_path, monkeypatch):
    before = fill(tmp_path / "out")
    rename = Path.rename

    def fail(self, target):
        if self.joinpath("new.txt").exists():
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with (
        pytest.raises(OutputError, match="close what has it open"),
        output_folder(tmp_path / "out", overwrite=True) as folder,
    ):
        write_new(folder)
    monkeypatch.undo()
    assert tree(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_digests_are_the_files_by_name_without_the_manifest(tmp_path):
    fill(tmp_path)
    (tmp_path / "sub" / "manifest.json").write_text("")
    found = digests(tmp_path)
    assert sorted(found) == ["a.png", "sub/b.npz", "sub/manifest.json"]
    assert found["sub/manifest.json"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_output_whose_manifest_holds_its_digests_can_be_replaced(tmp_path):
    for text in ("first", "second"):
        with output_folder(tmp_path / "out", overwrite=True) as folder:
            (folder / f"{text}.txt").write_text(text)
            (folder / "manifest.json").write_text(json.dumps({"files": digests(folder)}))
    assert sorted(tree(tmp_path / "out")) == ["manifest.json", "second.txt"]
    shutil.rmtree(tmp_path / "out")
