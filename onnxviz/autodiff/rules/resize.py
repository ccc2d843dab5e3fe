"""Resize, linear in its input in every mode and separable in its axes."""

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, data, same_size
from onnxviz.autodiff.ruleset import ZERO, node_name, vjp
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.ops import Ops, constant_of, rank_of


@vjp("Resize")
def _resize(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """Along each axis y = R x, so dx = R^T g; R^T is the resized identity matrix itself."""
    x, rest = data(node), node.inputs[1:]
    attributes = node.attributes
    if attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise UnsupportedOperator(
            f"no 'gradient' rule for Resize with tf_crop_and_resize (node {node_name(node)!r}); "
            "use the numerical route (--gradient numeric)"
        )
    if attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedOperator(
            f"no 'gradient' rule for Resize with keep_aspect_ratio_policy (node {node_name(node)!r}); "
            "use the numerical route (--gradient numeric)"
        )
    rank = rank_of(x)
    dx = g
    for axis in _resized_axes(node, rank):
        matrix = _resized_identity(op, node, axis, rank)  # [in, out]
        last = [a for a in range(rank) if a != axis] + [axis]
        contracted = op.MatMul(op.Transpose(dx, perm=last), op.Transpose(matrix, perm=[1, 0]))
        dx = op.Transpose(contracted, perm=[int(a) for a in np.argsort(last)])
    return dx, *(ZERO for _ in rest)


def _resized_axes(node: ir.Node, rank: int) -> list[int]:
    """The axes whose size or scale is not known to stay the same."""
    x, y = data(node), node.outputs[0]
    _, scales, _ = _parameters(node)
    known = constant_of(scales)
    among = [axis % rank for axis in node.attributes.get_ints("axes", ())] or list(range(rank))
    if known is not None:
        return [axis for axis, scale in zip(among, known, strict=True) if scale != 1]
    if x.shape is None or y.shape is None:
        return among
    return [axis for axis in among if not same_size(x.shape[axis], y.shape[axis])]


def _resized_identity(op: Ops, node: ir.Node, axis: int, rank: int) -> ir.Value:
    """The identity with its rows resized as the node resizes `axis`: row i is what becomes of input i."""
    x, y = data(node), node.outputs[0]
    assert x.dtype is not None
    _, scales, sizes = _parameters(node)
    size = op.shape(x, axis, axis + 1)
    square = op.full(op.Concat(size, size, axis=0), 0, x.dtype)
    identity = op.Unsqueeze(op.EyeLike(square, dtype=int(x.dtype)), op.ints(0, 1))
    kept = {
        name: value
        for name, value in node.attributes.items()
        if name not in ("axes", "keep_aspect_ratio_policy")
    }
    if sizes is not None:
        target = op.Concat(op.ints(1, 1), size, op.shape(y, axis, axis + 1), axis=0)
        resized = op.emit("Resize", [identity, None, None, target], kept)[0]
    else:
        among = [a % rank for a in node.attributes.get_ints("axes", ())] or list(range(rank))
        place = among.index(axis)
        scale = op.Slice(scales, op.ints(place), op.ints(place + 1))
        resized = op.emit("Resize", [identity, None, op.Concat(np.ones(3, np.float32), scale, axis=0)], kept)[
            0
        ]
    return op.Squeeze(resized, op.ints(0, 1))


def _parameters(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None, ir.Value | None]:
    """The inputs roi, scales and sizes; an empty one stands for none."""
    roi, scales, sizes = (*node.inputs[1:], None, None, None)[:3]
    if sizes is not None:
        scales = None
    return roi, scales, sizes
