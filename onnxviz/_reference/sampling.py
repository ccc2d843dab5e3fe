"""Operators that sample pictures at computed places."""

import math
from collections.abc import Sequence

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array, Ints, halves


class GridSample(OpRun):
    """onnx's own computes the places in float32, moves those beyond the border in cubic mode, and knows only
    the names that the modes have from opset 20 on.
    """

    def _run(self, x: Array, grid: Array, align_corners: int, mode: str, padding_mode: str) -> tuple[Array]:
        rank = x.ndim - 2
        matrices = []
        for axis, size in enumerate(x.shape[2:]):
            point = grid[..., rank - 1 - axis].reshape(len(x), -1)
            place = (point + 1) / 2 * (size - 1) if align_corners else ((point + 1) * size - 1) / 2
            matrices.append(_weights(place, size, mode, padding_mode, bool(align_corners)))
        return (_weighted(x, matrices).reshape(*x.shape[:2], *grid.shape[1:-1]).astype(x.dtype),)


class DeformConv(OpRun):
    """onnx's own computes the places in float32."""

    def _run(
        self,
        x: Array,
        w: Array,
        offset: Array,
        bias: Array | None = None,
        mask: Array | None = None,
        dilations: Ints = None,
        group: int = 1,
        kernel_shape: Ints = None,
        offset_group: int = 1,
        pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:
        kernel, outputs = kernel_shape or w.shape[2:], offset.shape[2:]
        rank, taps = len(kernel), math.prod(kernel)
        begin, _ = halves(pads, rank)
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        moves = offset.reshape(len(x), offset_group, taps, rank, *outputs)
        shares = np.ones((len(x), offset_group * taps, *outputs), x.dtype) if mask is None else mask
        shares = shares.reshape(len(x), offset_group, taps, *outputs)
        y = np.zeros((len(x), len(w), *outputs), x.dtype)
        for channel in range(x.shape[1]):
            g = channel * offset_group // x.shape[1]
            first = channel // w.shape[1] * (len(w) // group)
            readers = slice(first, first + len(w) // group)
            for tap, at in enumerate(np.ndindex(*kernel)):
                matrices = []
                for axis, size in enumerate(x.shape[2:]):
                    grid = np.indices(outputs)[axis] * stride[axis] - begin[axis] + at[axis] * dilation[axis]
                    place = (grid + moves[:, g, tap, axis]).reshape(len(x), -1)
                    matrices.append(_weights(place, size, "linear", "zeros", True))
                read = _weighted(x[:, channel : channel + 1], matrices).reshape(len(x), 1, *outputs)
                kernels = w[readers, channel % w.shape[1]][(slice(None), *at)]
                y[:, readers] += read * shares[:, g, tap][:, None] * kernels.reshape(-1, *[1] * rank)
        return (y if bias is None else y + bias.reshape(-1, *[1] * rank),)


class AffineGrid(OpRun):
    """onnx's own answers in float32, and divides by zero where an aligned axis has one pixel."""

    def _run(self, theta: Array, size: Array, align_corners: int) -> tuple[Array]:
        axes = []
        for number in size[2:]:
            doubled = 2 * np.arange(number)
            axes.append(doubled / max(number - 1, 1) - 1 if align_corners else (doubled + 1) / number - 1)
        points = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size[2:])], axis=-1)
        grid = points.reshape(-1, points.shape[-1]) @ theta.transpose(0, 2, 1)
        return (grid.reshape(len(theta), *size[2:], len(size) - 2).astype(theta.dtype),)


class MaxRoiPool(OpRun):
    """onnx has none."""

    def _run(self, x: Array, rois: Array, pooled_shape: Sequence[int], spatial_scale: float) -> tuple[Array]:
        y = np.zeros((len(rois), x.shape[1], *pooled_shape), x.dtype)
        for number, (batch, *corners) in enumerate(rois):
            left, top, right, bottom = (_rounded(corner * spatial_scale) for corner in corners)
            bins = [
                _whole_bins(first, last, count, size)
                for first, last, count, size in zip(
                    (top, left), (bottom, right), pooled_shape, x.shape[2:], strict=True
                )
            ]
            for i, rows in enumerate(bins[0]):
                for j, columns in enumerate(bins[1]):
                    window = x[int(batch), :, rows, columns].reshape(x.shape[1], -1)
                    y[number, :, i, j] = window.max(axis=1) if window.shape[1] else 0
        return (y,)


def _rounded(number: float) -> int:
    """Halves are rounded away from zero."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


def _whole_bins(first: int, last: int, count: int, size: int) -> list[slice]:
    step = max(last - first + 1, 1) / count
    edges = ((math.floor(i * step), math.ceil((i + 1) * step)) for i in range(count))
    return [slice(*(min(max(edge + first, 0), size) for edge in both)) for both in edges]


def _weighted(x: Array, matrices: Sequence[Array]) -> Array:
    """[N, C, P]: the pixels, times one matrix [N, P, size] for each spatial axis."""
    letters = "hwd"[: len(matrices)]
    terms = ",".join(f"np{letter}" for letter in letters)
    return np.asarray(np.einsum(f"nc{letters},{terms}->ncp", x, *matrices))


def _weights(place: Array, size: int, mode: str, padding: str, aligned: bool) -> Array:
    """How much of each of `size` pixels is read at each place: [..., size]."""
    low, high = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
    reach = {"nearest": [0], "linear": [0, 1], "bilinear": [0, 1]}.get(mode, [-1, 0, 1, 2])
    first = np.rint(place) if mode == "nearest" else np.floor(place)
    answer = np.zeros((*place.shape, size), place.dtype)
    for tap in reach:
        pixel = first + tap
        share = np.ones_like(place) if mode == "nearest" else _kernel(np.abs(place - pixel), len(reach))
        if padding == "zeros":
            share = np.where((pixel >= 0) & (pixel < size), share, 0)
        elif padding == "reflection" and high > low:
            pixel = (pixel - low) % (2 * (high - low))
            pixel = low + np.minimum(pixel, 2 * (high - low) - pixel)
        at = np.clip(pixel, 0, size - 1).astype(int)
        answer += share[..., None] * (at[..., None] == np.arange(size))
    return answer


def _kernel(distance: Array, taps: int) -> Array:
    """The weight of a pixel at a distance: a tent, or Keys's cubic convolution with a = -3/4."""
    if taps == 2:
        return np.asarray(1 - distance)
    near = (1.25 * distance - 2.25) * distance**2 + 1
    far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)


OPERATORS = (GridSample, DeformConv, AffineGrid, MaxRoiPool)
