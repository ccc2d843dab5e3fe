"""The formulas of class activation maps, as nodes.

Each takes a layer's activation and the gradient of the score by it, both [N, C, Z] (the channels' places in
one row), and answers the signed map [N, Z]; the ReLU that some papers end in belongs to the picture. Below, A
is the activation, g the gradient, k counts channels and i places.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from onnxviz.graph.ops import Ops

Fragment: TypeAlias = Callable[..., ir.Value]

TOLERANCE = 1e-6
"""Power iteration stops when no element of the unit vector moves by more than this."""

MOST_ITERATIONS = 1000
"""Or after so many steps, where the two largest singular values are all but equal."""

_PLACES, _CHANNELS = -1, 1


def weighted(op: Ops, weights: ir.Value, a: ir.Value) -> ir.Value:
    """sum_k w_k A_ki; the weights are [N, C]."""
    row = op.Unsqueeze(weights, op.ints(1))
    return op.Squeeze(op.MatMul(row, a), op.ints(1))


def cam(op: Ops, a: ir.Value, g: ir.Value) -> ir.Value:
    """sum_k w_ck A_ki (Zhou et al. 2016, equation 2), for scores that are sum_k w_ck mean_i A_ki.

    g_ki is w_ck over the number of places then.
    """
    return weighted(op, op.ReduceSum(g, op.ints(_PLACES), keepdims=0), a)


def grad_cam(op: Ops, a: ir.Value, g: ir.Value) -> ir.Value:
    """sum_k w_k A_ki with w_k = mean_i g_ki (Selvaraju et al. 2017, equations 1 and 2)."""
    return weighted(op, op.ReduceMean(g, op.ints(_PLACES), keepdims=0), a)


def grad_cam_plus_plus(op: Ops, a: ir.Value, g: ir.Value) -> ir.Value:
    """sum_k w_k A_ki with w_k = sum_i alpha_ki ReLU(g_ki) (Chattopadhyay et al. 2018, equations 5 and 19).

    alpha = g^2 / (2 g^2 + (sum_i A_ki) g^3), and 0 where g is; the score is taken for the exponent of theirs,
    so that its second and third derivatives are powers of the first. Divided by g^2 that is 1 / (2 + (sum A)
    g), which no small gradient makes 0 / 0.
    """
    rising = op.Relu(g)
    total = op.ReduceSum(a, op.ints(_PLACES), keepdims=1)
    shares = op.Div(rising, op.Add(op.Mul(total, rising), 2))
    return weighted(op, op.ReduceSum(shares, op.ints(_PLACES), keepdims=0), a)


def xgrad_cam(op: Ops, a: ir.Value, g: ir.Value) -> ir.Value:
    """sum_k w_k A_ki with w_k = sum_i g_ki A_ki / sum_i A_ki (Fu et al. 2020, equation 8).

    A channel whose activation sums to zero has no such weight; it gets none.
    """
    total = op.ReduceSum(a, op.ints(_PLACES), keepdims=0)
    product = op.ReduceSum(op.Mul(g, a), op.ints(_PLACES), keepdims=0)
    silent = op.Equal(total, 0)
    return weighted(op, op.Where(silent, 0, op.Div(product, op.Where(silent, 1, total))), a)


def hires_cam(op: Ops, a: ir.Value, g: ir.Value) -> ir.Value:
    """sum_k g_ki A_ki (Draelos & Carin 2020, equation 5)."""
    return op.ReduceSum(op.Mul(g, a), op.ints(_CHANNELS), keepdims=0)


def element_wise(op: Ops, a: ir.Value, g: ir.Value) -> ir.Value:
    """sum_k ReLU(g_ki A_ki): what of HiResCAM speaks for the target in each channel (pytorch-grad-cam)."""
    return op.ReduceSum(op.Relu(op.Mul(g, a)), op.ints(_CHANNELS), keepdims=0)


def layer_cam(op: Ops, a: ir.Value, g: ir.Value) -> ir.Value:
    """sum_k ReLU(g_ki) A_ki (Jiang et al. 2021, equations 5 to 7)."""
    return op.ReduceSum(op.Mul(op.Relu(g), a), op.ints(_CHANNELS), keepdims=0)


def eigen_grad_cam(op: Ops, a: ir.Value, g: ir.Value) -> ir.Value:
    """EigenCAM of g A in place of A (pytorch-grad-cam)."""
    return eigen_cam(op, op.Mul(g, a))


def eigen_cam(op: Ops, a: ir.Value, _g: ir.Value | None = None) -> ir.Value:
    """X v, with X = A as places by channels, centred, and v its first right singular vector.

    Muhammad & Yeasin 2020, "Eigen-CAM".

    A singular vector has no sign of its own: it gets the one with which the map correlates with sum_k A_ki. v
    is found by power iteration from the place that is farthest from the mean, to `TOLERANCE`.
    """
    centred = op.Sub(a, op.ReduceMean(a, op.ints(_PLACES), keepdims=1))
    direction = _first_direction(op, centred)
    projection = op.Squeeze(op.MatMul(op.Transpose(direction, perm=[0, 2, 1]), centred), op.ints(1))
    together = op.ReduceSum(op.Mul(projection, _summed(op, centred)), op.ints(_PLACES), keepdims=1)
    return op.Where(op.Less(together, 0), op.Neg(projection), projection)


def _summed(op: Ops, a: ir.Value) -> ir.Value:
    return op.ReduceSum(a, op.ints(_CHANNELS), keepdims=0)


def _first_direction(op: Ops, x: ir.Value) -> ir.Value:
    """The unit vectors [N, C, 1] along which the columns of x [N, C, Z] spread most."""
    lengths = op.ReduceSum(op.Mul(x, x), op.ints(_CHANNELS), keepdims=1)
    farthest = op.ArgMax(lengths, axis=-1, keepdims=1)
    column = op.Expand(farthest, op.Concat(op.Shape(x, start=0, end=2), op.ints(1), axis=0))
    start = _unit(op, op.GatherElements(x, column, axis=2))

    def step(inside: Ops, _count: ir.Value, _go_on: ir.Value, v: ir.Value) -> list[ir.Value]:
        along = inside.MatMul(inside.Transpose(v, perm=[0, 2, 1]), x)
        turned = _unit(inside, inside.MatMul(x, inside.Transpose(along, perm=[0, 2, 1])))
        moved = inside.ReduceMax(inside.Abs(inside.Sub(turned, v)), keepdims=0)
        return [inside.Greater(moved, TOLERANCE), turned]

    count = ir.Value(name=f"{op.prefix}step", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    go_on = ir.Value(name=f"{op.prefix}go_on", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    body = op.nested([count, go_on, op.placeholder(start)], step)
    limit = op.constant(np.array(MOST_ITERATIONS, np.int64))
    (found,) = op.emit("Loop", [limit, op.constant(np.array(True)), start], {"body": body})
    found.type = start.type
    return found


def _unit(op: Ops, v: ir.Value) -> ir.Value:
    """v over its length; 0 stays 0."""
    length = op.ReduceL2(v, op.ints(1), keepdims=1)
    return op.Div(v, op.Where(op.Equal(length, 0), 1, length))
