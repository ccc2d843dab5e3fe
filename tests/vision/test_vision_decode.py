import io
import itertools
import tarfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onnxviz.vision.decode as module
from onnxviz.errors import ImageError, PreprocessError, ShapeError
from onnxviz.vision.decode import decoded, stream
from onnxviz.vision.images import PictureInput, prepare
from onnxviz.vision.preprocess import PRESETS, Preprocess
from onnxviz.vision.read import list_pictures
from onnxviz.vision.sources import list_set

RAW = Preprocess()


def an_input(layout="NCHW", channels=3, height=5, width=7, dtype="float32"):
    return PictureInput("x", layout, channels, height, width, dtype, None)


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (4 + number % 5, 6, 3), np.uint8)


def batches(*args, **kwargs):
    return list(stream(*args, **kwargs))


def joined(parts):
    return np.concatenate([part.array for part in parts])


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """Eleven pictures, of which 3 and 8 cannot be read."""
    for number in range(11):
        Image.fromarray(pixels(number)).save(tmp_path / f"{number:02d}.png")
    for number in (3, 8):
        Path(tmp_path / f"{number:02d}.png").write_bytes(b"broken")
    return tmp_path


@pytest.fixture(name="calls")
def _calls(monkeypatch):
    """The names of the pictures that were read; what is put into `hooks` is called before."""
    read, real = [], module.prepare_one

    def prepare_one(picture, name, where, preprocess):
        read.append(name)
        for hook in hooks:
            hook(name)
        return real(picture, name, where, preprocess)

    hooks = []
    monkeypatch.setattr(module, "prepare_one", prepare_one)
    return read, hooks


@pytest.mark.parametrize("batch", [1, 2, 4, 50])
@pytest.mark.parametrize(
    ("where", "preprocess"),
    [
        (an_input(), PRESETS["imagenet"]),
        (an_input("NHWC", dtype="int8"), Preprocess(mean=(128,), std=(1.0,), resize="pad")),
        (an_input(channels=1, height=None, width=None, dtype="float16"), Preprocess(color="L", size=(6, 4))),
    ],
)
def test_the_arrays_are_those_of_prepare(folder, batch, where, preprocess):
    skipped = []
    expected = prepare(folder, where, preprocess, lambda number, err: skipped.append((number, str(err))))
    got = batches(list_set(folder), where, preprocess, batch)
    assert joined(got).dtype == expected.array.dtype
    np.testing.assert_array_equal(joined(got), expected.array)
    assert tuple(itertools.chain(*(part.names for part in got))) == expected.names
    assert [number for part in got for number in part.numbers] == [0, 1, 2, 4, 5, 6, 7, 9, 10]
    assert [(number, reason) for part in got for number, _, reason in part.failed] == skipped
    assert all(name in reason for part in got for _, name, reason in part.failed)
    assert {len(part.array) for part in got[:-1]} <= {batch}
    assert all(part.array.flags.c_contiguous for part in got)


def test_pictures_of_every_kind(folder):
    data = (folder / "01.png").read_bytes()
    with tarfile.open(folder / "s.tar", "w") as archive:
        entry = tarfile.TarInfo("in/1.png")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    floats = np.random.default_rng(0).normal(size=(3, 3, 5, 7)).astype(np.float32)
    kinds = [*list_set(folder / "s.tar"), pixels(1), Image.fromarray(pixels(1)), folder / "01.png", floats]
    (got,) = batches(list_pictures(kinds), an_input(), RAW, 99)
    np.testing.assert_array_equal(got.array, prepare(kinds, an_input(), RAW).array)
    for row in got.array[1:4]:
        np.testing.assert_array_equal(row, got.array[0])
    np.testing.assert_array_equal(got.array[4:], floats)
    assert got.names[0].endswith("s.tar/in/1.png")
    assert got.names[1] == "picture-1"


@pytest.mark.parametrize("start", [0, 1, 4, 8, 10])
def test_a_later_start_gives_the_tail_and_reads_nothing_before_it(folder, start, calls):
    read, _ = calls
    whole = list(decoded(list_set(folder), range(11), an_input(), RAW))
    read.clear()
    got = batches(list_set(folder), an_input(), RAW, 2, start=start)
    assert sorted(read) == [each.name for each in whole[start:]]
    tail = [each for each in whole[start:] if each.array is not None]
    assert [number for part in got for number in part.numbers] == [each.number for each in tail]
    np.testing.assert_array_equal(joined(got), np.stack([each.array for each in tail]))
    again = batches(list_set(folder), an_input(), RAW, 2, start=got[0].stop)
    assert [part.numbers for part in again] == [part.numbers for part in got[1:]]


def test_nothing_is_left_to_start_with(folder):
    assert batches(list_set(folder), an_input(), RAW, 2, start=11) == []


def test_the_order_is_that_of_the_set_whichever_thread_is_first(calls):
    _, hooks = calls
    last_is_read = threading.Event()
    hooks.append(lambda name: last_is_read.set() if name == "picture-3" else last_is_read.wait(10))
    got = [each.number for each in decoded([pixels(n) for n in range(4)], range(4), an_input(), RAW, 4)]
    assert last_is_read.is_set()
    assert got == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("ahead", "bytes_ahead", "workers", "most"),
    [(6, 10**9, 2, 6), (100, 3 * 4 * 3 * 5 * 7, 2, 3), (1, 1, 4, 4)],
    ids=["count", "bytes", "threads"],
)
def test_few_are_in_memory_however_many_there_are(monkeypatch, ahead, bytes_ahead, workers, most):
    monkeypatch.setattr(module, "AHEAD", ahead)
    monkeypatch.setattr(module, "AHEAD_BYTES", bytes_ahead)
    begun, beyond = [], []

    def numbers():
        for number in range(300):
            begun.append(number)
            yield number

    for done, _ in enumerate(decoded([pixels(0)] * 300, numbers(), an_input(), RAW, workers), 1):
        beyond.append(len(begun) - done)
    assert done == 300
    assert max(beyond) == most - 1
    assert beyond[150] == most - 1


def test_closed_early_it_begins_no_other_and_leaves_no_thread(calls, monkeypatch):
    read, hooks = calls
    fourth_began, others_are_cancelled = threading.Event(), threading.Event()
    threads, filters = threading.active_count(), list(warnings.filters)

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            others_are_cancelled.set()
            super().shutdown(wait)

    def hold(name):
        if name == "picture-3":
            fourth_began.set()
            others_are_cancelled.wait(10)

    hooks.append(hold)
    monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)
    running = stream([pixels(0)] * 1000, an_input(), RAW, 2, workers=1)
    assert next(running).numbers == (0, 1)
    assert fourth_began.wait(10)
    running.close()
    assert read == ["picture-0", "picture-1", "picture-2", "picture-3"]
    assert threading.active_count() == threads
    assert list(warnings.filters) == filters


def test_an_interrupt_passes_through_and_leaves_no_thread(calls):
    _, hooks = calls
    threads = threading.active_count()

    def interrupt(name):
        if name == "picture-5":
            raise KeyboardInterrupt

    hooks.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        batches([pixels(0)] * 1000, an_input(), RAW, 2, workers=3)
    assert threading.active_count() == threads


def test_the_last_ones_cannot_be_read(folder):
    *_, last = batches(list_set([folder / "00.png", folder / "03.png"]), an_input(), RAW, 1)
    assert (last.numbers, len(last.array), last.stop) == ((), 0, 2)
    ((number, name, reason),) = last.failed
    assert (number, name) == (1, str(folder / "03.png"))
    assert "not a picture" in reason


def test_pictures_of_different_sizes_are_refused():
    where = an_input(height=None, width=None)
    with pytest.raises(ImageError, match=r"picture-0 becomes \[3, 4, 6\] but picture-1 \[3, 5, 6\]"):
        batches([pixels(0), pixels(1)], where, RAW, 1)


def test_what_is_wrong_with_every_picture_is_an_error():
    with pytest.raises(PreprocessError, match="color L"):
        batches([pixels(0)], an_input(), Preprocess(color="L"), 1)
    with pytest.raises(ShapeError, match="at least 1"):
        batches([pixels(0)], an_input(), RAW, 0)
