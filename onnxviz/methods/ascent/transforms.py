"""Random transforms of a picture: linear maps along its two axes, and rotations.

A transform is drawn anew at each step and fed to the graph. What works along each axis by itself (padding,
jitter, scale, blur) is a pair of matrices, and several in a row are their product: the picture X becomes
D (X - fill) A' + fill. A rotation reads each pixel from another.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array

from onnxviz.errors import SelectorError
from onnxviz.graph.ops import Ops

Array: TypeAlias = npt.NDArray[Any]
Size: TypeAlias = tuple[int, int]

FILL = 127.5
"""What lies around a picture: the middle of its range."""


@dataclass(frozen=True)
class Transform:
    """One transform by name, with its numbers."""

    name: str
    numbers: tuple[float, ...]

    @property
    def along_axes(self) -> bool:
        """Whether it works along each axis by itself."""
        return self.name != "rotate"

    def drawn(self, rng: np.random.Generator, size: Size) -> tuple[Any, Any]:
        """Sparse matrices down and across, drawn for a picture of that size."""
        down, across = _DRAWN[self.name](rng, size, *self.numbers)
        return down, across

    def angle(self, rng: np.random.Generator) -> float:
        """An angle in radians: one of the whole degrees up to the first number, or one of some zeros."""
        most, zeros = int(self.numbers[0]), int(self.numbers[1]) if len(self.numbers) > 1 else 0
        degrees = [*range(-most, most + 1), *[0] * zeros]
        # lucid's pi has three digits.
        return float(3.14 * degrees[rng.integers(len(degrees))] / 180)


def parse_transforms(texts: tuple[str, ...]) -> tuple[Transform, ...]:
    """Transforms from texts: "pad:12", "jitter:8", "scale:0.9:1.1:11", "rotate:10:5", "blur:1", "roll:32".

    `pad` puts so many pixels of mid-grey around; `jitter` cuts so many pixels off, at random on either side;
    `scale` resizes by one of so many factors between two (bilinear); `rotate` turns by a whole degree up to
    the first number, with so many more chances of none; `blur` is a Gaussian of that standard deviation;
    `roll` shifts around the edges by up to so many pixels, and the gradient back.

    Raises:
        SelectorError: A text is none of these.
    """
    found = []
    for text in texts:
        name, *numbers = text.split(":")
        try:
            values = tuple(float(number) for number in numbers)
        except ValueError:
            values = ()
        if name not in _COUNTS or len(values) not in _COUNTS[name] or not all(map(math.isfinite, values)):
            raise SelectorError(
                f"no transform {text!r}; write pad:12, jitter:8, scale:0.9:1.1:11, rotate:10, blur:1, roll:32"
            )
        if any(value < 0 for value in values):
            raise SelectorError(f"the numbers of transform {text!r} are not below 0")
        found.append(Transform(name, values))
    return tuple(found)


def _pad(_rng: np.random.Generator, size: Size, width: float) -> list[Any]:
    return [_sparse(np.eye, n + 2 * int(width), n, -int(width)) for n in size]


def _jitter(rng: np.random.Generator, size: Size, width: float) -> list[Any]:
    cut = int(width)
    if min(size) <= cut:
        raise SelectorError(f"jitter:{cut} leaves nothing of a picture of {size[0]}x{size[1]}")
    return [_sparse(np.eye, n - cut, n, int(rng.integers(cut + 1))) for n in size]


def _scale(rng: np.random.Generator, size: Size, low: float, high: float, count: float = 11) -> list[Any]:
    factor = np.linspace(low, high, int(count))[rng.integers(int(count))]
    return [_sparse(resize_legacy, n, int(np.float32(factor) * np.float32(n))) for n in size]


def _blur(_rng: np.random.Generator, size: Size, sigma: float) -> list[Any]:
    return [_sparse(gaussian, n, sigma) for n in size]


def _roll(rng: np.random.Generator, size: Size, most: float) -> list[Any]:
    return [csr_array(np.roll(np.eye(n), int(rng.integers(-int(most), int(most) + 1)), axis=0)) for n in size]


def _fit(_rng: np.random.Generator, size: Size, height: float, width: float) -> list[Any]:
    return [_sparse(resize_centred, n, int(new)) for n, new in zip(size, (height, width), strict=True)]


_DRAWN: Mapping[str, Callable[..., list[Any]]] = {
    "pad": _pad,
    "jitter": _jitter,
    "scale": _scale,
    "blur": _blur,
    "roll": _roll,
    "fit": _fit,
}
_COUNTS = {"pad": (1,), "jitter": (1,), "scale": (2, 3), "rotate": (1, 2), "blur": (1,), "roll": (1,)}


@lru_cache(maxsize=512)
def _sparse(build: Callable[..., Array], *numbers: float) -> Any:
    """A matrix as a sparse one; the same few are drawn again and again."""
    return csr_array(build(*numbers))


def resize_legacy(size: int, new: int) -> Array:
    """The matrix [new, size] of TensorFlow 1's bilinear resize: position i reads i * size / new."""
    return _sampled(np.arange(new) * (size / new), size)


def resize_centred(size: int, new: int) -> Array:
    """The matrix [new, size] of a bilinear resize between the centres of pixels."""
    return _sampled((np.arange(new) + 0.5) * (size / new) - 0.5, size)


def crop_resize(size: int, new: int, start: float, stop: float) -> Array:
    """The matrix [new, size] of TensorFlow's `crop_and_resize` along an axis; what lies outside is 0.

    `start` and `stop` are shares of the axis, 1 being the last pixel's position.
    """
    step = (stop - start) * (size - 1) / (new - 1) if new > 1 else 0.0
    first = start * (size - 1) if new > 1 else 0.5 * (start + stop) * (size - 1)
    positions = first + step * np.arange(new)
    matrix = _sampled(positions, size)
    matrix[(positions < 0) | (positions > size - 1)] = 0
    return matrix


def gaussian(size: int, sigma: float) -> Array:
    """The matrix [size, size] of SciPy's Gaussian filter, edges reflected."""
    return np.asarray(gaussian_filter1d(np.eye(size), sigma, axis=0))


def _sampled(positions: Array, size: int) -> Array:
    """The matrix that reads an axis at positions, linearly between its two neighbours."""
    inside = np.clip(positions, 0, size - 1)
    low = np.floor(inside).astype(int)
    high = np.minimum(low + 1, size - 1)
    share = inside - low
    rows = np.arange(len(positions))
    matrix = np.zeros((len(positions), size))
    np.add.at(matrix, (rows, low), 1 - share)
    np.add.at(matrix, (rows, high), share)
    return matrix


@lru_cache(maxsize=64)
def rotation(size: Size, angle: float) -> tuple[Array, Array]:
    """Which pixel each pixel is read from when a picture turns about its middle, and whether that is inside.

    Both [h * w], row by row; by `angle` in radians, the nearest pixel, as TensorFlow Addons does it.
    """
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    cos, sin = math.cos(angle), math.sin(angle)
    across, down = x - (width - 1) / 2, y - (height - 1) / 2
    column = np.floor(cos * across - sin * down + (width - 1) / 2 + 0.5).astype(np.int64)
    row = np.floor(sin * across + cos * down + (height - 1) / 2 + 0.5).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(inside, row * width + column, 0).ravel(), inside.ravel()


@dataclass(frozen=True)
class Stage:
    """Transforms in a row that go into one step of the graph: all along the axes, or one rotation."""

    transforms: tuple[Transform, ...]
    inputs: tuple[str, ...]

    @property
    def turns(self) -> bool:
        """Whether it is a rotation."""
        return not self.transforms[0].along_axes

    def write(self, op: Ops, picture: ir.Value, given: dict[str, ir.Value]) -> ir.Value:
        """The picture [B, C, h, w] transformed."""
        if self.turns:
            read, inside = (given[name] for name in self.inputs)
            flat = op.Reshape(picture, op.ints(0, 0, -1))
            # What a rotation brings in from outside is black, as in lucid.
            turned = op.Mul(op.Gather(flat, read, axis=2), inside)
            return op.reshape_like(turned, picture)
        down, across = (given[name] for name in self.inputs)
        moved = op.MatMul(op.MatMul(down, op.Sub(picture, FILL)), across)
        return op.Add(moved, FILL)

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[dict[str, Array], Size]:
        """What to feed for a picture of that size, float32, and the size that it then has."""
        if self.turns:
            read, inside = rotation(size, self.transforms[0].angle(rng))
            return dict(zip(self.inputs, (read, inside.astype(np.float32)), strict=True)), size
        downs, acrosses, current = [], [], size
        for transform in self.transforms:
            down, across = transform.drawn(rng, current)
            downs.append(down)
            acrosses.append(across)
            current = (down.shape[0], across.shape[0])
        down, across = (
            reduce(lambda whole, one: one @ whole, chain).toarray() for chain in (downs, acrosses)
        )
        arrays = (down.astype(np.float32), np.ascontiguousarray(across.T, np.float32))
        return dict(zip(self.inputs, arrays, strict=True)), current


def stages(transforms: tuple[Transform, ...]) -> tuple[Stage, ...]:
    """Transforms gathered into as few stages as possible."""
    groups: list[list[Transform]] = []
    for transform in transforms:
        if groups and transform.along_axes and groups[-1][0].along_axes:
            groups[-1].append(transform)
        else:
            groups.append([transform])
    return tuple(
        Stage(
            tuple(group),
            (f"down_{i}", f"across_{i}") if group[0].along_axes else (f"read_{i}", f"inside_{i}"),
        )
        for i, group in enumerate(groups)
    )
