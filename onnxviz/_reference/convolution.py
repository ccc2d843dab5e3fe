"""Convolutions."""

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array, Ints, halves


class ConvTranspose(OpRun):
    """onnx's own fails for groups."""

    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: str = "NOTSET",
        dilations: Ints = None,
        group: int = 1,
        kernel_shape: Ints = None,
        output_padding: Ints = None,
        output_shape: Ints = None,
        pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:
        del kernel_shape
        sizes, rank = x.shape[2:], x.ndim - 2
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        extra = output_padding or [0] * rank
        full = [
            (i - 1) * s + (k - 1) * d + 1 + e
            for i, s, k, d, e in zip(sizes, stride, w.shape[2:], dilation, extra, strict=True)
        ]
        y = np.zeros((len(x), group, w.shape[1], *full), x.dtype)
        maps = x.reshape(len(x), group, -1, *sizes)
        kernel = w.reshape(group, -1, *w.shape[1:])
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(
                slice(t * d, t * d + (i - 1) * s + 1, s)
                for t, d, i, s in zip(tap, dilation, sizes, stride, strict=True)
            )
            y[:, :, :, *at] += np.einsum("ngc...,gcm->ngm...", maps, kernel[:, :, :, *tap])
        y = y.reshape(len(x), -1, *full)
        if output_shape or auto_pad.startswith("SAME"):
            wanted = list(output_shape or [i * s for i, s in zip(sizes, stride, strict=True)])[-rank:]
            totals = [max(0, f - o) for f, o in zip(full, wanted, strict=True)]
            upper = auto_pad == "SAME_UPPER"
            begin = [total // 2 if upper else total - total // 2 for total in totals]
            end = [total - one for total, one in zip(totals, begin, strict=True)]
        else:
            begin, end = halves(pads if auto_pad == "NOTSET" else None, rank)
        if output_shape:
            y = np.pad(y, [(0, 0)] * 2 + [(0, max(0, o - f)) for o, f in zip(wanted, full, strict=True)])
            full = list(y.shape[2:])
        kept = tuple(slice(first, size - last) for first, size, last in zip(begin, full, end, strict=True))
        y = y[:, :, *kept]
        return (y if b is None else y + b.reshape(-1, *[1] * rank),)


OPERATORS = (ConvTranspose,)
