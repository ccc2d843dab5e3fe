"""The arithmetic of sliding windows: kernel, stride, dilation and padding of convolutions and pools."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxviz.errors import ShapeError
from onnxviz.graph.ops import rank_of


@dataclass(frozen=True)
class Window:
    """A window's geometry on the spatial axes of its operator.

    Output position o covers the input positions o * stride - begin + k * dilation, for k in [0, kernel).
    `begin` and `end` are None on all axes where SAME padding of a strided window meets an unknown size:
    then the padding is known only when the model runs.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...] | None
    end: tuple[int, ...] | None
    same_lower: bool = False

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def extent(self) -> tuple[int, ...]:
        """How many input positions one window spans: (kernel - 1) * dilation + 1."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def axes(self) -> tuple[int, ...]:
        """The spatial axes of an [N, C, ...] tensor."""
        return tuple(range(2, 2 + self.rank))


def spatial(value: ir.Value) -> tuple[int | None, ...]:
    """The sizes of the axes behind batch and channel; None where unknown.

    Raises:
        ShapeError: The rank itself is unknown.
    """
    rank_of(value)
    assert value.shape is not None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape[2:])


def window(node: ir.Node, weight: ir.Value | None = None) -> Window:
    """The geometry of a Conv or pool node, `auto_pad` resolved to explicit pads wherever it can be.

    Args:
        node: A Conv, ConvTranspose or pool; the first input is the data.
        weight: The kernel [M, C/group, ...] of a convolution, read where `kernel_shape` is absent.

    Raises:
        ShapeError: Neither the attribute nor the weight tells the kernel's size.
    """
    attributes = node.attributes
    kernel = attributes.get_ints("kernel_shape", ())
    if not kernel:
        sizes = spatial(weight) if weight is not None else ()
        if not sizes or None in sizes:
            raise ShapeError(f"the kernel size of {node.op_type} node {node.name!r} is unknown")
        kernel = [size for size in sizes if size is not None]
    rank = len(kernel)
    strides = tuple(attributes.get_ints("strides", ()) or [1] * rank)
    dilations = tuple(attributes.get_ints("dilations", ()) or [1] * rank)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    mode = attributes.get_string("auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        begin, end = same_pads(
            spatial_or_unknown(node.inputs[0], rank), extent, strides, mode == "SAME_LOWER"
        )
    else:
        pads = attributes.get_ints("pads", ()) if mode == "NOTSET" else ()
        pads = pads or [0] * (2 * rank)
        begin, end = tuple(pads[:rank]), tuple(pads[rank:])
    return Window(tuple(kernel), strides, dilations, begin, end, mode == "SAME_LOWER")


def transposed_window(node: ir.Node, weight: ir.Value | None) -> Window:
    """The geometry of a ConvTranspose: input i reaches the outputs i * stride - begin + k * dilation.

    Its pads follow from the size of the output where that is given, as SAME or as `output_shape`; they are
    None where that takes an input size that is not known.

    Raises:
        ShapeError: Neither the attribute nor the weight tells the kernel's size.
    """
    win = window(node, weight)
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    wanted = node.attributes.get_ints("output_shape", ())[-win.rank :]
    if not wanted and not mode.startswith("SAME"):
        return win
    extra = node.attributes.get_ints("output_padding", ()) or [0] * win.rank
    totals = []
    for axis, size in enumerate(spatial_or_unknown(node.inputs[0], win.rank)):
        total = win.extent[axis] + extra[axis] - win.strides[axis]
        if wanted:
            if size is None:
                return replace(win, begin=None, end=None)
            total += size * win.strides[axis] - wanted[axis]
        totals.append(max(0, total))
    half = tuple(total // 2 for total in totals)
    rest = tuple(total - one for total, one in zip(totals, half, strict=True))
    begin, end = (half, rest) if mode == "SAME_UPPER" else (rest, half)
    return replace(win, begin=begin, end=end)


def same_pads(
    sizes: Sequence[int | None], extent: Sequence[int], strides: Sequence[int], lower: bool
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The pads that make ceil(size / stride) windows fit; the odd one at the end, or first if `lower`.

    A stride of 1 needs extent - 1 in all, whatever the size. (None, None): a size that matters is unknown.
    """
    totals = []
    for size, span, stride in zip(sizes, extent, strides, strict=True):
        if stride == 1:
            totals.append(span - 1)
        elif size is None:
            return None, None
        else:
            totals.append(max(0, (math.ceil(size / stride) - 1) * stride + span - size))
    first = tuple(total - total // 2 if lower else total // 2 for total in totals)
    return first, tuple(total - one for total, one in zip(totals, first, strict=True))


def spatial_or_unknown(value: ir.Value | None, rank: int) -> tuple[int | None, ...]:
    """As `spatial`, with every size unknown where the rank is."""
    if value is None or value.shape is None:
        return (None,) * rank
    return spatial(value)
