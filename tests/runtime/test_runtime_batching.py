"""Batches change how long a run takes, never what it answers."""

from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest

from onnxviz.errors import SelectorError, ShapeError
from onnxviz.runtime.batching import batches, run_batched
from onnxviz.runtime.progress import reporting
from onnxviz.runtime.session import Session

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(10, 3, 8, 8)).astype(np.float32)
W = RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)


def convolution(batch: int | str, extra: str = "") -> Session:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g (float[{batch}, 3, 8, 8] x, float gain) '
        f"=> (float[{batch}, 4, 6, 6] y, float[{batch}, 4, 1, 1] pooled {', float s' if extra else ''}) "
        f"{{ c = Conv(x, w) y = Mul(c, gain) pooled = GlobalAveragePool(y) {extra} }}"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    return Session(proto, "cpu")


class Counted:
    """A session that keeps the batch sizes it was run at."""

    def __init__(self, session: Session) -> None:
        self.inputs, self._session = session.inputs, session
        self.sizes: list[int] = []

    def run(self, feeds: dict[str, Array], outputs: Any = None) -> dict[str, Array]:
        self.sizes.append(len(feeds["x"]))
        return self._session.run(feeds, outputs)


@pytest.mark.parametrize(
    ("n", "size", "ranges"),
    [(5, 2, [(0, 2), (2, 4), (4, 5)]), (4, 4, [(0, 4)]), (2, 16, [(0, 2)]), (0, 3, [])],
)
def test_ranges_cover_every_item_once(n: int, size: int, ranges: list[tuple[int, int]]) -> None:
    assert list(batches(n, size)) == ranges


@pytest.mark.parametrize(
    ("declared", "batch", "sizes"),
    [
        ("N", None, [10]),
        ("N", 1, [1] * 10),
        ("N", 3, [3, 3, 3, 1]),
        ("N", 16, [10]),
        (1, None, [1] * 10),
        (1, 5, [1] * 10),
        (4, None, [4, 4, 4]),
        (16, 1, [16]),
    ],
)
def test_every_batch_size_gives_the_same_arrays(
    declared: int | str, batch: int | None, sizes: list[int]
) -> None:
    whole = convolution("N").run({"x": X, "gain": 2.0})
    counted: Any = Counted(convolution(declared))
    found = run_batched(counted, {"x": X}, batch, shared={"gain": 2.0})
    assert counted.sizes == sizes
    assert list(found) == ["y", "pooled"]
    for name, array in found.items():
        assert array.shape == whole[name].shape
        np.testing.assert_allclose(array, whole[name], rtol=1e-5, atol=1e-6)


def test_the_last_piece_of_a_fixed_batch_is_filled_with_its_last_item() -> None:
    fed: list[Array] = []

    class Kept(Counted):
        def run(self, feeds: dict[str, Array], outputs: Any = None) -> dict[str, Array]:
            fed.append(feeds["x"])
            return super().run(feeds, outputs)

    kept: Any = Kept(convolution(4))
    assert len(run_batched(kept, {"x": X[:6]}, shared={"gain": 1.0})["y"]) == 6
    np.testing.assert_array_equal(fed[1], X[[4, 5, 5, 5]])


def test_large_items_are_run_in_smaller_batches_and_small_ones_in_sixteens() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (uint8[N, M] x) => (int64[1] y) { s = Shape <end = 1> (x) '
        "y = Identity(s) }"
    )
    for width, sizes in ((2**22, [8, 8, 4]), (10, [16, 4]), (2**26, [1])):
        counted: Any = Counted(Session(proto, "cpu"))
        n = sum(sizes)
        x = np.broadcast_to(np.zeros((1, 1), np.uint8), (n, width))

        def run(feeds: dict[str, Array], _: Any = None, seen: list[int] = counted.sizes) -> dict[str, Array]:
            seen.append(len(feeds["x"]))
            return {"y": np.zeros(len(feeds["x"]))}

        counted.run = run
        run_batched(counted, {"x": x})
        assert counted.sizes == sizes


def test_only_the_outputs_asked_for_come_back() -> None:
    assert list(run_batched(convolution("N"), {"x": X}, 4, ["pooled"], {"gain": 1.0})) == ["pooled"]


@pytest.mark.parametrize("extra", ["s = ReduceMax <keepdims = 0> (y)"])
def test_an_output_without_the_batch_axis_cannot_be_joined(extra: str) -> None:
    session = convolution("N", extra)
    with pytest.raises(ShapeError, match=r"the output 's' is \[\] for a batch of 4: its first axis is not"):
        run_batched(session, {"x": X}, 4, shared={"gain": 1.0})
    assert len(run_batched(session, {"x": X}, 4, ["y"], {"gain": 1.0})["y"]) == 10


def test_two_inputs_are_cut_together() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N, 2] a, float[N, 2] b) => (float[N, 2] y) '
        "{ y = Sub(a, b) }"
    )
    a, b = X[:, 0, 0, :2], X[:, 1, 0, :2]
    np.testing.assert_array_equal(run_batched(Session(proto, "cpu"), {"a": a, "b": b}, 3)["y"], a - b)
    with pytest.raises(ShapeError, match=r"a \[10, 2\], b \[9, 2\]"):
        run_batched(Session(proto, "cpu"), {"a": a, "b": b[:9]}, 3)


def test_inputs_that_fix_different_batches_are_refused() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[2] a, float[1] b) => (float[2] y) { y = Sub(a, b) }'
    )
    session = Session(proto, "cpu")
    with pytest.raises(ShapeError, match="a, b fix different batch sizes, 1 and 2"):
        run_batched(session, {"a": np.ones(4), "b": np.ones(4)})
    assert run_batched(session, {"a": np.arange(4.0)}, shared={"b": [1.0]})["y"].tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize(
    ("feeds", "batch", "words"),
    [
        ({"x": X[:0]}, None, "there is nothing to run: x is empty along its first axis"),
        (
            {"x": np.float32(1) * np.ones(())},
            None,
            r"one length along their first axis, but these are: x \[\]",
        ),
        ({}, None, "but these are: none"),
        ({"x": X}, 0, "a batch holds at least 1 item, but 0 was asked for"),
    ],
)
def test_what_cannot_be_cut_is_refused(feeds: dict[str, Array], batch: int | None, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        run_batched(convolution("N"), feeds, batch, shared={"gain": 1.0})


def test_an_input_that_is_nowhere_is_named() -> None:
    with pytest.raises(SelectorError, match="no array was given for the input 'gain'"):
        run_batched(convolution("N"), {"x": X})


def test_each_piece_is_reported() -> None:
    heard: list[Any] = []

    @contextmanager
    def report(description: str, total: int | None) -> Any:
        heard.append((description, total))
        yield lambda: heard.append("step")

    with reporting(report):
        run_batched(convolution("N"), {"x": X}, 4, shared={"gain": 1.0})
    assert heard == [("running the model", 3), "step", "step", "step"]
