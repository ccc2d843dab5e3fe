"""Progress is heard by whoever asks, and by nobody else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from onnxviz.runtime.progress import reporting, track


class Listener:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @contextmanager
    def __call__(self, description: str, total: int | None) -> Iterator[Callable[[], None]]:
        self.heard.append(f"{description} begins, of {total}")
        try:
            yield lambda: self.heard.append(f"{description} steps")
        finally:
            self.heard.append(f"{description} ends")


def test_a_track_without_a_reporter_is_the_sequence_and_silent(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2, 3], "counting")) == [1, 2, 3]
    assert capfd.readouterr() == ("", "")


def test_each_item_is_reported_once_it_is_dealt_with() -> None:
    listener = Listener()
    with reporting(listener):
        for item in track("ab", "letters"):
            listener.heard.append(item)
    assert listener.heard == [
        "letters begins, of 2",
        "a",
        "letters steps",
        "b",
        "letters steps",
        "letters ends",
    ]


@pytest.mark.parametrize(("total", "told"), [(None, "None"), (7, "7")])
def test_a_generator_has_the_total_it_is_given(total: int | None, told: str) -> None:
    listener = Listener()
    with reporting(listener):
        assert list(track((i for i in range(2)), "loop", total)) == [0, 1]
    assert listener.heard[0] == f"loop begins, of {told}"


def test_tracks_nest() -> None:
    listener = Listener()
    with reporting(listener):
        for _ in track([1], "outer"):
            list(track([1], "inner"))
    assert listener.heard == [
        "outer begins, of 1",
        "inner begins, of 1",
        "inner steps",
        "inner ends",
        "outer steps",
        "outer ends",
    ]


def test_a_loop_that_is_left_early_still_ends() -> None:
    listener = Listener()
    with reporting(listener):
        loop: Any = track([1, 2], "loop")
        next(loop)
        loop.close()
    assert listener.heard == ["loop begins, of 2", "loop ends"]


def test_reporting_ends_with_its_context() -> None:
    outer, inner = Listener(), Listener()
    with reporting(outer):
        with pytest.raises(KeyError), reporting(inner):
            raise KeyError
        list(track([1], "loop"))
    list(track([1], "unheard"))
    assert inner.heard == []
    assert outer.heard == ["loop begins, of 1", "loop steps", "loop ends"]
