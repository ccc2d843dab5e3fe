import threading
import warnings

import pytest
from PIL import Image

from onnxviz.vision.quiet import quiet_pillow
from onnxviz.vision.read import read_picture


def warn_as(module, message="odd"):
    """Warn as a line of that module would."""
    warnings.warn_explicit(message, UserWarning, f"{module}.py", 1, module=module)


def test_pillow_is_quiet_and_nobody_else():
    with quiet_pillow():
        warn_as("PIL.TiffImagePlugin")
        with pytest.warns(UserWarning, match="ours"):
            warn_as("onnxviz.vision.read", "ours")
        with pytest.warns(UserWarning, match="alike"):
            warn_as("PILOT", "alike")
    with pytest.warns(UserWarning, match="odd"):
        warn_as("PIL.TiffImagePlugin")


def test_a_picture_that_pillow_warns_of_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("RGB", (4, 4)).save(tmp_path / "large.png")
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(tmp_path / "large.png").close()
    assert read_picture(tmp_path / "large.png", "large").shape == (4, 4, 3)


def test_threads_that_overlap_leave_the_filters_as_they_were():
    """The one that came first leaves first: had each its own copy, the second would restore the first's."""
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()
    before = list(warnings.filters)

    def first():
        with quiet_pillow():
            first_is_in.set()
            second_is_in.wait(10)
        first_is_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_in.wait(10)
    with quiet_pillow():
        second_is_in.set()
        assert first_is_out.wait(10)
        warn_as("PIL.Image")
    thread.join(10)
    assert list(warnings.filters) == before


def test_an_error_puts_the_filters_back():
    before = list(warnings.filters)
    with pytest.raises(KeyError), quiet_pillow():
        raise KeyError
    assert list(warnings.filters) == before
