"""Fourier transforms, whose transposes are Fourier transforms, and ranges."""

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, cast_like, data
from onnxviz.autodiff.ruleset import ZERO, lowering, vjp
from onnxviz.graph.ops import Ops, constant_of, rank_of


@vjp("DFT")
def _dft(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """With F the transform of n numbers, that of y = F x is n F^-1, and that of y = F^-1 x is F / n."""
    x, (y,) = data(node), node.outputs
    inverse, onesided = (node.attributes.get_int(name, 0) for name in ("inverse", "onesided"))
    given, axis = (*node.inputs[1:], None, None)[:2]
    if axis is None:
        axis = op.scalar(node.attributes.get_int("axis", 1) if op.opset_imports[""] < 20 else -2)
    if not onesided or inverse:
        n = op.Gather(op.Shape(y), axis)
    else:
        n = op.Gather(op.Shape(x), axis) if given is None else op.Reshape(given, op.ints())
    # What is real has a spectrum of which one side tells all; the inverse of one side is zero on the other.
    dx = transform(op, g, axis, n, inverse=not inverse, onesided=onesided and inverse)
    dx = (op.Div if inverse else op.Mul)(dx, cast_like(op, n, g))
    if inverse and onesided:
        dx = op.Mul(dx, _sides(op, n, axis, g))
    if given is not None:
        dx = _fitted(op, dx, axis, op.Gather(op.Shape(x), axis))
    assert x.shape is not None
    real = [op.ints(0), op.shape(x, rank_of(x) - 1), op.ints(-1)]
    return dx if x.shape[-1] == 2 else op.Slice(dx, *real), *(ZERO for _ in node.inputs[1:])


@lowering("STFT")
def _stft(op: Ops, node: ir.Node) -> ir.Value:
    """The transforms of the frames, each times the window."""
    x, step, window, length = (*node.inputs, None, None)[:4]
    assert x is not None
    samples = op.Squeeze(op.shape(x, 1, 2), op.ints(0))
    if window is not None:
        length = op.Shape(window)
    size = samples if length is None else op.Reshape(length, op.ints())
    zero, one = op.scalar(0), op.scalar(1)
    starts = op.Range(zero, op.Add(op.Sub(samples, size), one), op.Reshape(step, op.ints()))
    places = op.Add(op.Unsqueeze(starts, op.ints(1)), op.Range(zero, size, one))
    frames = op.Gather(x, places, axis=1)  # [batch, frame, sample, part]
    if window is not None:
        frames = op.Mul(frames, op.Unsqueeze(window, op.ints(1)))
    return transform(op, frames, op.scalar(2), None, onesided=node.attributes.get_int("onesided", 1))


@vjp("Range")
def _range(op: Ops, _node: ir.Node, g: ir.Value) -> Answers:
    """y_i = start + i delta."""
    places = op.Range(op.scalar(0), op.Size(g), op.scalar(1))
    ddelta = op.ReduceSum(op.Mul(g, cast_like(op, places, g)), keepdims=0)
    return op.ReduceSum(g, keepdims=0), ZERO, ddelta


def transform(
    op: Ops, x: ir.Value, axis: ir.Value, n: ir.Value | None, inverse: bool = False, onesided: int = 0
) -> ir.Value:
    """The DFT of n numbers (by default of all) along `axis`; both are int64 of rank 0."""
    attributes = {"inverse": int(inverse), "onesided": onesided}
    if op.opset_imports[""] >= 20:
        y = op.DFT(x, n, axis, **attributes)
    else:
        known = constant_of(axis)
        assert known is not None
        y = op.DFT(x, n, axis=int(known), **attributes)
    if x.shape is not None:  # ONNX infers no rank where n is computed
        y.shape = ir.Shape([None] * len(x.shape))
    return y


def _sides(op: Ops, n: ir.Value, axis: ir.Value, g: ir.Value) -> ir.Value:
    """In how many places of a whole spectrum of n each place of one side stands: two, but for both ends."""
    half = op.Range(op.scalar(0), op.Add(op.Div(n, 2), 1), op.scalar(1))
    ends = op.Equal(op.Mod(op.Mul(half, 2), n), 0)
    assert g.dtype is not None
    twice = op.Add(op.Cast(op.Not(ends), to=int(g.dtype)), 1)
    rank = rank_of(g)
    along = op.Equal(op.ints(*range(rank)), op.Mod(axis, rank))
    return op.Reshape(twice, op.Where(along, op.ints(-1), op.ints(1)))


def _fitted(op: Ops, x: ir.Value, axis: ir.Value, size: ir.Value) -> ir.Value:
    """x cut off, or filled up with zeros, to `size` along `axis`."""
    axes, zero = op.Reshape(axis, op.ints(1)), op.ints(0)
    missing = op.Sub(size, op.Gather(op.Shape(x), axes))
    filled = op.Pad(x, op.Concat(zero, op.Max(missing, zero), axis=0), None, axes)
    return op.Slice(filled, zero, op.Reshape(size, op.ints(1)), axes)
