"""The inverse Fourier transform of a real picture as products of matrices, which every device has.

A picture of H x W has the coefficients [H, W // 2 + 1] that `numpy.fft.rfft2` gives; an odd W is computed one
column wider and cut, as lucid does.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxviz.graph.ops import Ops
from onnxviz.methods.ascent.transforms import Array, Size


@dataclass(frozen=True)
class Spectrum:
    """The coefficients of pictures of one size."""

    size: Size

    @property
    def shape(self) -> Size:
        """Rows and columns of the coefficients."""
        height, width = self.size
        return height, (width + 1) // 2 + 1 if width % 2 else width // 2 + 1

    @property
    def frequencies(self) -> Array:
        """Cycles per pixel of each coefficient, [H, columns]."""
        height, width = self.size
        down = np.fft.fftfreq(height)[:, None]
        across = np.fft.fftfreq(width)[: self.shape[1]]
        return np.asarray(np.sqrt(down * down + across * across))

    def inverse(self, op: Ops, real: ir.Value, imaginary: ir.Value) -> ir.Value:
        """The picture [B, C, H, W] of coefficients, each part [B, C, H, columns]."""
        height, width = self.size
        columns = self.shape[1]
        whole = 2 * (columns - 1)
        down = 2 * np.pi * np.outer(np.arange(height), np.arange(height)) / height
        across = 2 * np.pi * np.outer(np.arange(columns), np.arange(width)) / whole
        # The half that is left out mirrors all but the first and the last column.
        twice = np.where(np.isin(np.arange(columns), (0, columns - 1)), 1.0, 2.0)[:, None]
        cos_down, sin_down = (op.constant(f(down).astype(np.float32)) for f in (np.cos, np.sin))
        cos_across = op.constant((twice * np.cos(across) / (height * whole)).astype(np.float32))
        sin_across = op.constant((twice * np.sin(across) / (height * whole)).astype(np.float32))
        re = op.Sub(op.MatMul(cos_down, real), op.MatMul(sin_down, imaginary))
        im = op.Add(op.MatMul(sin_down, real), op.MatMul(cos_down, imaginary))
        return op.Sub(op.MatMul(re, cos_across), op.MatMul(im, sin_across))
