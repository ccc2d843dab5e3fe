"""Matrix products and determinants."""

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, same_size, unbroadcast
from onnxviz.autodiff.ruleset import vjp
from onnxviz.graph.ops import Ops, rank_of


@vjp("Gemm")
def _gemm(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    (a, b, *c), (y,) = node.inputs, node.outputs
    attributes = node.attributes
    ta, tb = attributes.get_int("transA", 0), attributes.get_int("transB", 0)
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    da = op.Gemm(b, g, transA=tb, transB=1) if ta else op.Gemm(g, b, transB=1 - tb)
    db = op.Gemm(g, a, transA=1, transB=ta) if tb else op.Gemm(a, g, transA=1 - ta)
    return (
        op.Mul(da, alpha),
        op.Mul(db, alpha),
        *(bias and unbroadcast(op, op.Mul(g, beta), bias, y) for bias in c),
    )


@vjp("MatMul")
def _matmul(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    a, b = node.inputs
    assert a is not None
    assert b is not None
    ra, rb = rank_of(a), rank_of(b)
    if ra == 1 and rb == 1:
        return op.Mul(g, b), op.Mul(g, a)
    # A vector is a matrix with one row (left) or one column (right) whose axis the product drops.
    if ra == 1:
        rows = op.Unsqueeze(g, op.ints(-2))
        da = op.Squeeze(op.MatMul(rows, _transpose(op, b, rb)), op.ints(-2))
        db = op.MatMul(op.Unsqueeze(a, op.ints(1)), rows)
        return _sum_leading(op, da, rb - 2), db
    if rb == 1:
        columns = op.Unsqueeze(g, op.ints(-1))
        da = op.MatMul(columns, op.Unsqueeze(b, op.ints(0)))
        db = op.Squeeze(op.MatMul(_transpose(op, a, ra), columns), op.ints(-1))
        return da, _sum_leading(op, db, ra - 2)
    da, db = op.MatMul(g, _transpose(op, b, rb)), op.MatMul(_transpose(op, a, ra), g)
    return _sum_batch(op, da, a, b), _sum_batch(op, db, b, a)


def _transpose(op: Ops, x: ir.Value, rank: int) -> ir.Value:
    return op.Transpose(x, perm=[*range(rank - 2), rank - 1, rank - 2])


def _sum_leading(op: Ops, g: ir.Value, axes: int) -> ir.Value:
    return op.ReduceSum(g, op.ints(*range(axes)), keepdims=0) if axes else g


def _sum_batch(op: Ops, g: ir.Value, x: ir.Value, other: ir.Value) -> ir.Value:
    """Undo the broadcast of x's batch axes: g has the batch of x and `other` together, and x's matrix."""
    assert x.shape is not None
    assert other.shape is not None
    batch = list(x.shape)[:-2], list(other.shape)[:-2]
    width = max(map(len, batch))
    padded = [[*[1] * (width - len(dims)), *dims] for dims in batch]
    pairs = list(zip(*padded, strict=True))
    certain = all(a == 1 or b == 1 or same_size(a, b) for a, b in pairs)
    together = [b if a == 1 else a for a, b in pairs] if certain else [None] * width
    g.shape = ir.Shape([*together, *list(x.shape)[-2:]])
    return unbroadcast(op, g, x, g)


@vjp("Det")
def _det(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """d det(A) / dA is the matrix of cofactors; that of (i, j) is det(A with the unit vector j as its row i).

    So singular matrices need no special care, and the derivative of this is made of determinants again.
    """
    (x,) = node.inputs
    assert x is not None
    assert x.dtype is not None
    rank = rank_of(x)
    size = op.Squeeze(op.shape(x, rank - 1), op.ints(0))
    along = op.Range(op.scalar(0), size, op.scalar(1))
    i, j, row, column = (op.Reshape(along, op.ints(-1, *[1] * after)) for after in (3, 2, 1, 0))
    unit = op.Cast(op.Equal(column, j), to=int(x.dtype))
    axes = op.ints(rank - 2, rank - 1)
    cofactors = op.Det(op.Where(op.Equal(row, i), unit, op.Unsqueeze(x, axes)))
    return (op.Mul(op.Unsqueeze(g, axes), cofactors),)
