"""Quantisers: one that onnx's evaluator lacks, and all as the straight-through estimator has them.

At its first run an operator of `STRAIGHT_THROUGH` rounds as it does in truth. In later runs of the same
evaluator the rounding error stays what it was, so that small steps tell the straight-through derivative.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx.helper import tensor_dtype_to_np_dtype
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv import Conv

from onnxviz._reference.arrays import Array


class _Rounding(OpRun):
    _first: tuple[Array, Array, Array] | None = None

    def quantised(self, steps: Array, zero: Array | None, dtype: ir.DataType, strictly: bool) -> Array:
        """`steps` rounded, shifted and clipped; later moved along with `steps` where they were in range.

        The ends of the range are in it, unless `strictly`.
        """
        shift = 0 if zero is None else zero.astype(np.float64)
        if self._first is None:
            low, high = float(dtype.min), float(dtype.max)
            moved = (np.rint(steps) if dtype.is_integer() else steps) + shift
            clipped = np.clip(moved, low, high)
            inside = (low < clipped) & (clipped < high) if strictly else clipped == moved
            self._first = clipped.astype(dtype.numpy()).astype(np.float64), steps, inside
        clipped, start, inside = self._first
        return np.where(inside, clipped + steps - start, clipped)


class QuantizeLinear(_Rounding):
    """x / scale, rounded."""

    def _run(
        self,
        x: Array,
        scale: Array,
        zero: Array | None = None,
        axis: int = 1,
        block_size: int = 0,
        output_dtype: int = 0,
        **_rounding: object,
    ) -> tuple[Array]:
        steps = x / _spread(scale, x, axis, block_size)
        shift = None if zero is None else _spread(zero, x, axis, block_size)
        return (self.quantised(steps, shift, _type_of(zero, output_dtype), strictly=False),)


class DequantizeLinear(OpRun):
    """onnx's own begins at opset 19."""

    def _run(
        self,
        x: Array,
        scale: Array,
        zero: Array | None = None,
        axis: int = 1,
        block_size: int = 0,
        output_dtype: int = 0,
    ) -> tuple[Array]:
        dtype = tensor_dtype_to_np_dtype(output_dtype) if output_dtype else scale.dtype
        number = x.astype(scale.dtype)
        if zero is not None:
            number = number - _spread(zero, x, axis, block_size).astype(scale.dtype)
        return ((number * _spread(scale, x, axis, block_size)).astype(dtype),)


class DynamicQuantizeLinear(_Rounding):
    """x / scale, rounded; the range stays what it was as well."""

    _range: tuple[Array, Array] | None = None

    def _run(self, x: Array) -> tuple[Array, Array, Array]:
        low, high = np.minimum(x.min(), 0), np.maximum(x.max(), 0)
        scale = np.asarray((high - low) / 255)
        if self._range is None:
            self._range = scale, np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
        held, zero = self._range
        return self.quantised(x / held, zero, ir.DataType.UINT8, strictly=False), scale, zero


class QLinearMatMul(_Rounding):
    """The product of the floats that the operands stand for, quantised."""

    def _run(
        self, a: Array, sa: Array, za: Array, b: Array, sb: Array, zb: Array, sy: Array, zy: Array
    ) -> tuple[Array]:
        y = (_less(a, za) * sa) @ (_less(b, zb) * sb)
        return (self.quantised(y / sy, zy, _type_of(zy), strictly=True),)


class QLinearConv(_Rounding):
    """The convolution of the floats that the operands stand for, quantised."""

    def _run(
        self,
        x: Array,
        sx: Array,
        zx: Array,
        w: Array,
        sw: Array,
        zw: Array,
        sy: Array,
        zy: Array,
        bias: Array | None = None,
        **attributes: Any,
    ) -> tuple[Array]:
        per_map = [array.reshape(-1, *[1] * (w.ndim - 1)) for array in (zw, sw)]
        floats = _less(x, zx) * sx, _less(w, per_map[0]) * per_map[1]
        b = () if bias is None else (bias * sx * sw,)
        y = _convolution(*floats, *b, **attributes)
        return (self.quantised(y / sy, zy, _type_of(zy), strictly=True),)


class MatMulInteger(OpRun):
    """A product less zero points."""

    def _run(self, a: Array, b: Array, za: Array | None = None, zb: Array | None = None) -> tuple[Array]:
        rows = za[..., None] if za is not None and za.ndim == 1 and za.size > 1 else za
        return (_less(a, rows) @ _less(b, zb),)


class ConvInteger(OpRun):
    """A convolution less zero points."""

    def _run(
        self, x: Array, w: Array, zx: Array | None = None, zw: Array | None = None, **attributes: Any
    ) -> tuple[Array]:
        per_map = None if zw is None else zw.reshape(-1, *[1] * (w.ndim - 1))
        return (_convolution(_less(x, zx), _less(w, per_map), **attributes),)


def _less(x: Array, zero: Array | None) -> Array:
    number = x.astype(np.float64)
    return number if zero is None else number - zero


def _spread(s: Array, x: Array, axis: int, block_size: int) -> Array:
    """A scale or zero point, broadcast against x: one for all, one per place on an axis, or per block."""
    if s.size == 1 and s.ndim < 2:
        return s.reshape(())
    if s.ndim == 1:
        return s.reshape(-1, *[1] * (x.ndim - axis % x.ndim - 1))
    return s.repeat(block_size, axis).take(np.arange(x.shape[axis]), axis)


def _type_of(zero: Array | None, output_dtype: int = 0) -> ir.DataType:
    return ir.DataType(output_dtype or 2) if zero is None else ir.DataType.from_numpy(zero.dtype)


def _convolution(*inputs: Any, **attributes: Any) -> Array:
    said = {name: value for name, value in attributes.items() if value is not None}
    return np.asarray(Conv.eval(*inputs, **said))


OPERATORS: tuple[type[OpRun], ...] = (DequantizeLinear,)

STRAIGHT_THROUGH: tuple[type[OpRun], ...] = (
    ConvInteger,
    DynamicQuantizeLinear,
    MatMulInteger,
    QLinearConv,
    QLinearMatMul,
    QuantizeLinear,
)
"""What replaces quantisers and what computes with their integers, to tell straight-through derivatives."""
