"""The attention operators of ONNX Runtime's own (com.microsoft), in simpler ones."""

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.contrib import split
from onnxviz.autodiff.rules.helpers import data
from onnxviz.autodiff.rules.qlinear import dequantised
from onnxviz.autodiff.ruleset import lowering, node_name
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.ops import Ops, rank_of


@lowering("com.microsoft::Attention")
def _attention(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    x, w, bias, mask, past, extra = (*node.inputs, *[None] * 4)[:6]
    return _self_attention(op, node, x, w, bias, mask, past, extra)


@lowering("com.microsoft::QAttention")
def _qattention(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    q, w, bias, scale_q, scale_w, mask, zero_q, zero_w, past = (*node.inputs, *[None] * 4)[:9]
    x, w = dequantised(op, q, scale_q, zero_q), dequantised(op, w, scale_w, zero_w, axis=1)
    return _self_attention(op, node, x, w, bias, mask, past, None)


@lowering("com.microsoft::MultiHeadAttention")
def _multi_head_attention(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    q, k, v, bias, mask, extra, *past = (*node.inputs, *[None] * 8)[:8]
    _refuse(node, "past keys", any(past))
    heads = node.attributes.get_int("num_heads")
    assert q is not None
    _refuse(node, "keys that are heads", k is not None and v is not None and rank_of(k) == 4)
    if k is None:
        parts = _unpacked(op, q, 3)
    elif v is None:
        parts = [q, *_unpacked(op, k, 2)]
    else:
        parts = [q, k, v]
    if bias is not None:
        _refuse(node, "a bias to packed heads", v is None)
        start = op.ints(0)
        for place, part in enumerate(parts):
            end = op.Add(start, op.shape(part, 2, 3))
            parts[place] = op.Add(part, op.Slice(bias, start, end))
            start = end
    lanes = [_heads(op, part, heads) for part in parts]
    return [*_attend(op, node, lanes, mask, extra), None]


@lowering("com.microsoft::GroupQueryAttention")
def _group_query_attention(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    """Each head of the keys and values serves several heads of the queries, side by side."""
    q, k, v, *past, lengths, _total, cos, sin, places, extra = (*node.inputs, *[None] * 4)[:11]
    said = node.attributes
    heads, shared = said.get_int("num_heads"), said.get_int("kv_num_heads")
    _refuse(node, "past keys", any(value is not None and not _is_empty(value) for value in past))
    _refuse(node, "a window, a soft cap or a sink", _is_special(node) or any(node.inputs[11:]))
    assert q is not None
    if k is None:
        size = op.Div(op.Shape(q, start=2), heads + 2 * shared)
        widths = op.Concat(op.Mul(size, heads), op.Mul(size, shared), op.Mul(size, shared), axis=0)
        q, k, v = split(op, q, 3, widths)
    lanes = [_heads(op, part, count) for part, count in ((q, heads), (k, shared), (v, shared))]
    if said.get_int("do_rotary", 0):
        at = _places(op, data(node), 1) if places is None else places
        turn = said.get_int("rotary_interleaved", 0)
        lanes[:2] = [_turned(op, x, at, cos, sin, turn, places is not None) for x in lanes[:2]]
    present = lanes[1:]
    repeat = heads // shared
    if repeat > 1:
        wide = [op.Concat(*[op.Unsqueeze(x, op.ints(2))] * repeat, axis=2) for x in present]
        lanes[1:] = [
            op.Reshape(x, op.Concat(op.ints(0, heads, -1), op.Shape(p, start=3), axis=0))
            for x, p in zip(wide, present, strict=True)
        ]
    ends = op.Add(op.Cast(lengths, to=int(ir.DataType.INT64)), 1)
    y, *_ = _attend(op, node, lanes, None, extra, causal=said.get_int("causal", 1), ends=ends)
    return [y, *present, None]


@lowering("com.microsoft::RotaryEmbedding")
def _rotary_embedding(op: Ops, node: ir.Node) -> ir.Value:
    x, places, cos, sin = node.inputs
    assert x is not None
    assert places is not None
    said = node.attributes
    rank, heads = rank_of(x), said.get_int("num_heads", 0)
    if rank == 3:
        size = op.Mul(op.Shape(cos, start=1), 2)
        sizes = op.ints(0, 0, heads, -1) if heads else op.Concat(op.ints(0, 0, -1), size, axis=0)
        lanes = op.Transpose(op.Reshape(x, sizes), perm=[0, 2, 1, 3])
    else:
        lanes = x
    single = rank_of(places) == 1
    at = op.Add(places, _places(op, x, rank - 2)) if single else places
    y = _turned(op, lanes, at, cos, sin, said.get_int("interleaved", 0), not single)
    return op.reshape_like(op.Transpose(y, perm=[0, 2, 1, 3]), x) if rank == 3 else y


def _self_attention(
    op: Ops,
    node: ir.Node,
    x: ir.Value | None,
    w: ir.Value | None,
    bias: ir.Value | None,
    mask: ir.Value | None,
    past: ir.Value | None,
    extra: ir.Value | None,
) -> list[ir.Value | None]:
    """Queries, keys and values from one product."""
    said = node.attributes
    _refuse(node, "past keys", past is not None)
    _refuse(node, "rotary places", said.get_int("do_rotary", 0) == 1)
    heads, sizes = said.get_int("num_heads"), said.get_ints("qkv_hidden_sizes", None)
    product = op.MatMul(x, w)
    product = op.Add(product, bias) if bias is not None else product
    parts = split(op, product, 3, op.ints(*sizes) if sizes else None)
    y, k, v = _attend(op, node, [_heads(op, part, heads) for part in parts], mask, extra)
    return [y, op.Concat(op.Unsqueeze(k, op.ints(0)), op.Unsqueeze(v, op.ints(0)), axis=0)]


def _attend(
    op: Ops,
    node: ir.Node,
    heads: list[ir.Value],
    mask: ir.Value | None,
    extra: ir.Value | None,
    causal: int | None = None,
    ends: ir.Value | None = None,
) -> list[ir.Value]:
    """softmax(q k^T scale + masks) v with its heads side by side; and the heads of the keys and values."""
    q, k, v = heads
    scale = node.attributes.get_float("scale", 0.0)
    if scale == 0:
        size = op.Cast(op.Squeeze(op.Shape(q, start=3)), to=int(q.dtype or ir.DataType.FLOAT))
        scores = op.Div(op.MatMul(q, op.Transpose(k, perm=[0, 1, 3, 2])), op.Sqrt(size))
    else:
        scores = op.Mul(op.MatMul(q, op.Transpose(k, perm=[0, 1, 3, 2])), scale)
    filled = node.attributes.get_float("mask_filter_value", -10000.0)
    columns = op.Range(op.scalar(0), op.Squeeze(op.Shape(k, start=2, end=3)), op.scalar(1))
    if mask is not None:
        scores = op.Where(_kept(op, node, mask, columns), scores, op.Add(scores, filled))
    if ends is not None:
        kept = op.Less(columns, op.Reshape(ends, op.ints(-1, 1, 1, 1)))
        scores = op.Where(kept, scores, -math.inf)
    if causal or node.attributes.get_int("unidirectional", 0):
        rows = op.Range(op.scalar(0), op.Squeeze(op.Shape(q, start=2, end=3)), op.scalar(1))
        earlier = op.GreaterOrEqual(op.Unsqueeze(rows, op.ints(1)), columns)
        scores = op.Where(earlier, scores, -math.inf)
    if extra is not None:
        scores = op.Add(scores, extra)
    y = op.Transpose(op.MatMul(op.Softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
    return [op.Reshape(y, op.ints(0, 0, -1)), k, v]


def _kept(op: Ops, node: ir.Node, mask: ir.Value, columns: ir.Value) -> ir.Value:
    """Which keys a mask lets through: ones in [B, T] or [B, S, T], or the lengths [B] of the rows."""
    rank = rank_of(mask)
    _refuse(node, f"a mask of rank {rank}", rank > 3)
    if rank == 1:
        wide = op.Cast(mask, to=int(ir.DataType.INT64))
        return op.Less(columns, op.Reshape(wide, op.ints(-1, 1, 1, 1)))
    return op.Cast(op.Unsqueeze(mask, op.ints(1) if rank == 3 else op.ints(1, 2)), to=int(ir.DataType.BOOL))


def _heads(op: Ops, x: ir.Value | None, count: int) -> ir.Value:
    """[B, S, count * size] as [B, count, S, size]."""
    return op.Transpose(op.Reshape(x, op.ints(0, 0, count, -1)), perm=[0, 2, 1, 3])


def _unpacked(op: Ops, x: ir.Value, count: int) -> list[ir.Value]:
    """[B, S, heads, count, size] as `count` times [B, S, heads * size]."""
    return [
        op.Reshape(op.Squeeze(part, op.ints(3)), op.ints(0, 0, -1)) for part in split(op, x, count, axis=3)
    ]


def _places(op: Ops, x: ir.Value, axis: int) -> ir.Value:
    return op.Range(op.scalar(0), op.Squeeze(op.shape(x, axis, axis + 1)), op.scalar(1))


def _turned(
    op: Ops, x: ir.Value, places: ir.Value, cos: Any, sin: Any, interleaved: int, by_row: bool
) -> ir.Value:
    """x [B, heads, S, size] with each pair of numbers (u, v) turned: (u cos - v sin, v cos + u sin)."""
    c, s = (op.Gather(table, places) for table in (cos, sin))
    if by_row:
        c, s = (op.Unsqueeze(table, op.ints(1)) for table in (c, s))
    half = op.Shape(cos, start=1)
    end = op.ints(np.iinfo(np.int64).max)
    turning = op.Slice(x, op.ints(0), op.Mul(half, 2), op.ints(-1))
    rest = op.Slice(x, op.Mul(half, 2), end, op.ints(-1))
    if interleaved:
        pairs = op.Reshape(turning, op.Concat(op.Shape(turning, end=3), half, op.ints(2), axis=0))
        u, v = (op.Gather(pairs, op.scalar(place), axis=-1) for place in (0, 1))
    else:
        u, v = op.Slice(turning, op.ints(0), half, op.ints(-1)), op.Slice(turning, half, end, op.ints(-1))
    new = [op.Sub(op.Mul(u, c), op.Mul(v, s)), op.Add(op.Mul(v, c), op.Mul(u, s))]
    if interleaved:
        both = op.Concat(*(op.Unsqueeze(part, op.ints(-1)) for part in new), axis=-1)
        new = [op.Reshape(both, op.Shape(turning))]
    return op.Concat(*new, rest, axis=-1)


def _is_empty(value: ir.Value) -> bool:
    return value.shape is not None and 0 in value.shape


def _is_special(node: ir.Node) -> bool:
    said = node.attributes
    capped = said.get_float("softcap", 0.0) > 0 or said.get_int("smooth_softmax", 0) > 0
    return capped or said.get_int("local_window_size", -1) > 0


def _refuse(node: ir.Node, what: str, holds: object) -> None:
    if holds:
        raise UnsupportedOperator(
            f"{node.op_type} node {node_name(node)!r} with {what}; "
            "use the numerical route (--gradient numeric)"
        )
