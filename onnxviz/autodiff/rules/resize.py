"""Resize, linear in its input in every mode and separable in its axes."""

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, data, same_size, type_of
from onnxviz.autodiff.ruleset import ZERO, vjp
from onnxviz.graph.ops import Ops, constant_of, rank_of


@vjp("Resize")
def _resize(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """Along each axis y = R x, so dx = R^T g; R^T is the resized identity matrix itself."""
    rank = rank_of(data(node))
    dx = g
    for axis in _resized_axes(node, rank):
        matrix = _resized_identity(op, node, axis, rank)  # [in, out]
        last = [a for a in range(rank) if a != axis] + [axis]
        contracted = op.MatMul(op.Transpose(dx, perm=last), op.Transpose(matrix, perm=[1, 0]))
        dx = op.Transpose(contracted, perm=[int(a) for a in np.argsort(last)])
    droi = None if _crops(node) else ZERO
    # Between two sizes of y, scales move the places that are read; of those, the nearest stays.
    dscales = ZERO if node.attributes.get_string("mode", "nearest") == "nearest" else None
    return (dx, droi, dscales, ZERO)[: len(node.inputs)]


def _resized_axes(node: ir.Node, rank: int) -> list[int]:
    """The axes that are not known to stay as they are."""
    x, y = data(node), node.outputs[0]
    roi, scales, _ = _parameters(node)
    among = _axes(node, rank)
    known, box = constant_of(scales), constant_of(roi) if _crops(node) else np.array([[0], [1]])
    if known is None and _policy(node) == "stretch" and x.shape is not None and y.shape is not None:
        known = np.array([1 if same_size(x.shape[axis], y.shape[axis]) else np.nan for axis in among])
    if known is None or box is None:
        return among
    same = (known == 1) & (box.reshape(2, -1) == [[0], [1]]).all(axis=0)
    return [axis for axis, stays in zip(among, same, strict=True) if not stays]


def _resized_identity(op: Ops, node: ir.Node, axis: int, rank: int) -> ir.Value:
    """The identity with its rows resized as the node resizes `axis`: row i is what becomes of input i."""
    x, y = data(node), node.outputs[0]
    roi, scales, sizes = _parameters(node)
    among = _axes(node, rank)
    place, count = among.index(axis), op.shape(x, axis, axis + 1)
    square = op.full(op.Concat(count, count, axis=0), 0, type_of(x))
    rows = op.Unsqueeze(op.EyeLike(square, dtype=int(type_of(x))), op.ints(1, 2))  # [in, 1, 1, in]
    attributes = {**node.attributes, "axes": [3]}
    if roi is not None:
        roi = op.Gather(roi, op.ints(place, place + len(among)))
        attributes["extrapolation_value"] = 0.0
    if scales is not None:
        scales = op.Gather(scales, op.ints(place))
    elif _policy(node) == "stretch":
        sizes = op.shape(y, axis, axis + 1)
    else:
        # One axis sets the scale of all: it comes along, and every row is repeated on it.
        counts = op.Gather(op.shape(x), op.ints(*among))
        ratios = op.Div(*(op.Cast(numbers, to=int(ir.DataType.FLOAT)) for numbers in (sizes, counts)))
        leader = (op.ArgMin if _policy(node) == "not_larger" else op.ArgMax)(ratios, axis=0)
        rows = op.Expand(rows, op.Concat(op.ints(1, 1), op.Gather(counts, leader), op.ints(1), axis=0))
        sizes = op.Gather(sizes, op.Concat(leader, op.ints(place), axis=0))
        attributes["axes"] = [2, 3]
        if roi is not None:
            uncropped = op.constant(np.array([0, 1], type_of(roi).numpy()))
            roi = op.Gather(op.Concat(uncropped, roi, axis=0), op.ints(0, 2, 1, 3))
    resized = op.emit("Resize", [rows, roi, scales, sizes], attributes)[0]
    if attributes["axes"] == [2, 3]:
        resized = op.Slice(resized, op.ints(0), op.ints(1), op.ints(2))
    return op.Squeeze(resized, op.ints(1, 2))


def _parameters(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None, ir.Value | None]:
    """The inputs roi, scales and sizes; where one is not used it is None."""
    roi, scales, sizes = (*node.inputs[1:], None, None, None)[:3]
    return roi if _crops(node) else None, scales if sizes is None else None, sizes


def _axes(node: ir.Node, rank: int) -> list[int]:
    return [axis % rank for axis in node.attributes.get_ints("axes", ())] or list(range(rank))


def _crops(node: ir.Node) -> bool:
    return node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"


def _policy(node: ir.Node) -> str:
    return node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
