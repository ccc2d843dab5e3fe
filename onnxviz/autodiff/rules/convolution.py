"""Convolutions: the gradient of one is the transpose of the other."""

from functools import partial

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers
from onnxviz.autodiff.ruleset import node_name, vjp
from onnxviz.errors import ShapeError
from onnxviz.graph.ops import Ops
from onnxviz.graph.window import Window, spatial, transposed_window, window


@vjp("Conv")
def _conv(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    x, w, *bias = node.inputs
    assert x is not None
    assert w is not None
    win, group = window(node, w), node.attributes.get_int("group", 1)
    dx = transposed(op, g, w, win, (x, g), group)
    dw = partial(kernel_gradient, op, x, g, win, group)
    return dx, dw, *(b and op.ReduceSum(g, op.ints(0, *win.axes), keepdims=0) for b in bias)


@vjp("ConvTranspose")
def _conv_transpose(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """y = ConvTranspose(x, w) is the gradient of Conv(y, w) = x, so its own gradient is that Conv."""
    x, w, *bias = node.inputs
    assert x is not None
    assert w is not None
    win, group = transposed_window(node, w), node.attributes.get_int("group", 1)
    if win.begin is None:
        raise ShapeError(
            f"ConvTranspose node {node_name(node)!r} pads to an output size, which takes a known input size; "
            "give the model's input a shape"
        )
    dx = op.Conv(g, w, **attributes(win), group=group)
    dw = partial(kernel_gradient, op, g, x, win, group)
    return dx, dw, *(b and op.ReduceSum(g, op.ints(0, *win.axes), keepdims=0) for b in bias)


def transposed(
    op: Ops, g: ir.Value, w: ir.Value, win: Window, sizes: tuple[ir.Value, ir.Value], group: int = 1
) -> ir.Value:
    """Send `g`, shaped like a convolution's output, back to its input; `sizes` have their spatial sizes."""
    x, y = sizes
    inside = win.begin is not None and win.end is not None
    reach = [span - 1 for span in win.extent]
    if inside and set(win.strides) == {1} and all(p <= r for p, r in zip(_pads(win), reach * 2, strict=True)):
        # With stride 1 the transpose is a plain convolution, which ONNX Runtime runs faster.
        pads = [r - p for p, r in zip(_pads(win), reach * 2, strict=True)]
        return op.Conv(g, _flipped(op, w, win, group), pads=pads, dilations=list(win.dilations), group=group)
    leftover = _leftover(y, x, win)
    if leftover is not None:
        return op.ConvTranspose(g, w, **attributes(win), output_padding=leftover, group=group)
    # Where a size is not known: transpose with room for any leftover, then cut out the input.
    room = [stride - 1 for stride in win.strides]
    bare = {"kernel_shape": list(win.kernel), "strides": list(win.strides), "dilations": list(win.dilations)}
    full = op.ConvTranspose(g, w, **bare, output_padding=room, group=group)
    begin = op.ints(*win.begin) if win.begin is not None else same_begin(op, x, y, win)
    return op.Slice(full, begin, op.Add(begin, op.shape(x, 2)), op.ints(*win.axes))


def kernel_gradient(op: Ops, x: ir.Value, g: ir.Value, win: Window, group: int) -> ir.Value:
    """dw[m,c,k] = sum over n, o of g[n,m,o] x[n,c, o * stride - begin + k * dilation].

    A convolution over the batch: x with batch and channel swapped, g as its kernel, stride and dilation
    swapped. The groups of a grouped convolution stay side by side on the channel axis.
    """
    if win.begin is None:
        begin = same_begin(op, x, g, win)
        span = op.Add(op.Mul(op.Sub(op.shape(g, 2), 1), op.ints(*win.strides)), op.ints(*win.extent))
        end = op.Max(op.Sub(span, op.Add(op.shape(x, 2), begin)), op.ints(*[0] * win.rank))
        none = op.ints(0, 0)
        x, pads = op.Pad(x, op.Concat(none, begin, none, end, axis=0)), [0] * (2 * win.rank)
        batch, sizes = op.Shape(x, end=1), op.Shape(x, start=2)
    else:
        pads = _pads(win)
        batch, sizes = op.shape(x, 0, 1), op.shape(x, 2)
    rest = list(range(3, 3 + win.rank))
    split = op.Reshape(x, op.Concat(batch, op.ints(group, -1), sizes, axis=0))
    swapped = op.Transpose(split, perm=[2, 1, 0, *rest])  # C/group, group, N, ...
    data = op.Reshape(swapped, op.Concat(op.ints(0, -1), sizes, axis=0))
    kernel = op.Transpose(g, perm=[1, 0, *win.axes])  # M, N, ...
    taps = op.Conv(
        data, kernel, strides=list(win.dilations), dilations=list(win.strides), pads=pads, group=group
    )
    # What the last stride did not reach gives taps beyond the kernel.
    exact = op.Slice(taps, op.ints(*[0] * win.rank), op.ints(*win.kernel), op.ints(*win.axes))
    return op.Transpose(exact, perm=[1, 0, *win.axes])


def attributes(win: Window) -> dict[str, list[int]]:
    """A window as the attributes of a convolution, its pads explicit."""
    return {
        "kernel_shape": list(win.kernel),
        "strides": list(win.strides),
        "dilations": list(win.dilations),
        "pads": _pads(win),
    }


def same_begin(op: Ops, x: ir.Value, y: ir.Value, win: Window) -> ir.Value:
    """The first pads of SAME padding, computed when the model runs."""
    covered = op.Add(op.Mul(op.Sub(op.shape(y, 2), 1), op.ints(*win.strides)), op.ints(*win.extent))
    total = op.Max(op.Sub(covered, op.shape(x, 2)), op.ints(*[0] * win.rank))
    half = op.Div(total, 2)
    return op.Sub(total, half) if win.same_lower else half


def _pads(win: Window) -> list[int]:
    assert win.begin is not None
    assert win.end is not None
    return [*win.begin, *win.end]


def _leftover(y: ir.Value, x: ir.Value, win: Window) -> list[int] | None:
    """The input positions that the last window does not reach, per axis; None where sizes are not known."""
    if win.begin is None or win.end is None or y.shape is None or x.shape is None:
        return None
    inputs, outputs = spatial(x), spatial(y)
    leftover = []
    for i, o, s, span, b, e in zip(inputs, outputs, win.strides, win.extent, win.begin, win.end, strict=True):
        if i is None or o is None:
            return None
        rest = i + b + e - ((o - 1) * s + span)
        if rest < 0:
            return None  # ceil_mode: the last window reaches beyond the padding
        leftover.append(rest)
    return leftover


def _flipped(op: Ops, w: ir.Value, win: Window, group: int) -> ir.Value:
    """The kernel [M, C/group, ...] of the transposed convolution, [C, M/group, ...], mirrored in space."""
    swap = [1, 0, *win.axes]
    if group == 1:
        turned = op.Transpose(w, perm=swap)
    else:
        rest = op.shape(w, 2)
        parts = op.Reshape(w, op.Concat(op.ints(group, -1), op.shape(w, 1, 2), rest, axis=0))
        swapped = op.Transpose(parts, perm=[0, 2, 1, *range(3, 3 + win.rank)])
        filters = op.Div(op.shape(w, 0, 1), group)
        turned = op.Reshape(swapped, op.Concat(op.ints(-1), filters, rest, axis=0))
    if set(win.kernel) == {1}:
        return turned
    backwards = [op.ints(*[number] * win.rank) for number in (-1, np.iinfo(np.int64).min, -1)]
    return op.Slice(turned, backwards[0], backwards[1], op.ints(*win.axes), backwards[2])
