"""Attention, the embedding of positions, and what stands in for attention along a sequence."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import cast_like, same_size
from onnxviz.autodiff.ruleset import lowering, node_name
from onnxviz.errors import ShapeError
from onnxviz.graph.ops import Ops, rank_of


@lowering("Attention")
def _attention(op: Ops, node: ir.Node) -> Sequence[ir.Value | None]:
    """y = P v with P = softmax(softcap(scale q k^T) + mask), whose row is 0 for a query that sees no key."""
    q, k, v, mask, past_key, past_value, _ = _inputs(node)
    assert q is not None
    assert k is not None
    assert v is not None
    attributes = node.attributes
    packed = rank_of(q) == 3
    if packed:
        kv_heads = attributes.get_int("kv_num_heads")
        q = _by_head(op, q, attributes.get_int("q_num_heads"))
        k, v = _by_head(op, k, kv_heads), _by_head(op, v, kv_heads)
    key, value = k, v
    if past_key is not None and past_value is not None:
        key, value = op.Concat(past_key, k, axis=2), op.Concat(past_value, v, axis=2)
    assert q.shape is not None
    assert k.shape is not None

    # The queries of all heads that share a key are the rows of one matrix.
    grouped = not same_size(q.shape[1], k.shape[1])
    together = op.Concat(op.ints(0), op.shape(k, 1, 2), op.ints(-1, 0), axis=0)
    apart = op.Concat(op.ints(0), op.shape(q, 1, 2), op.ints(-1, 0), axis=0)
    rows = op.Mul(op.Reshape(q, together) if grouped else q, _scale(op, node, q))
    product = op.MatMul(rows, op.Transpose(key, perm=[0, 1, 3, 2]))
    scores = op.Reshape(product, apart) if grouped else product
    softcap = attributes.get_float("softcap", 0.0)
    capped = op.Mul(op.Tanh(op.Div(scores, softcap)), softcap) if softcap > 0 else scores
    biased, visible = capped, _visible(op, node, q, key)
    if mask is not None:
        mask = _as_wide_as(op, mask, k, key)
        if mask.dtype != ir.DataType.BOOL:
            biased = op.Add(capped, cast_like(op, mask, q))
            mask = op.Greater(mask, -np.inf)
        visible = mask if visible is None else op.And(visible, mask)
    weights = _softmax(op, node, biased, visible)
    shares = cast_like(op, op.Reshape(weights, together) if grouped else weights, value)
    y = cast_like(op, op.MatMul(shares, value), q)
    y = op.Reshape(y, apart) if grouped else y
    if packed:
        y = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), op.ints(0, 0, -1))
    logits = biased if visible is None else op.Where(visible, biased, -np.inf)
    shown = (scores, capped, logits, weights)[attributes.get_int("qk_matmul_output_mode", 0)]
    return y, key, value, shown


@lowering("RotaryEmbedding")
def _rotary_embedding(op: Ops, node: ir.Node) -> ir.Value:
    """Each pair of numbers, taken for a point of a plane, is turned by the angle of its position."""
    x, cos, sin, positions = (*node.inputs, None)[:4]
    assert x is not None
    packed = rank_of(x) == 3
    heads = op.Reshape(x, op.ints(0, 0, node.attributes.get_int("num_heads"), -1)) if packed else x
    turned = node.attributes.get_int("rotary_embedding_dim", 0)
    axis, last = 4 if node.attributes.get_int("interleaved", 0) else 3, op.ints(3)
    moving = op.Slice(heads, op.ints(0), op.ints(turned), last) if turned else heads
    pairs = op.Reshape(moving, op.ints(0, 0, 0, -1, 2) if axis == 4 else op.ints(0, 0, 0, 2, -1))
    a, b = op.emit("Split", [pairs], {"axis": axis, "num_outputs": 2}, outputs=2)
    b.type = a.type
    if positions is not None:
        cos, sin = op.Gather(cos, positions, axis=0), op.Gather(sin, positions, axis=0)
    cos, sin = (op.Unsqueeze(cache, op.ints(2 if packed else 1, axis)) for cache in (cos, sin))
    real, imaginary = op.Sub(op.Mul(cos, a), op.Mul(sin, b)), op.Add(op.Mul(sin, a), op.Mul(cos, b))
    y = op.Reshape(op.Concat(real, imaginary, axis=axis), op.ints(0, 0, 0, -1))
    if turned:
        y = op.Concat(y, op.Slice(heads, op.ints(turned), op.ints(np.iinfo(np.int64).max), last), axis=3)
    return op.reshape_like(y, x) if packed else y


def _inputs(node: ir.Node) -> tuple[ir.Value | None, ...]:
    """Query, key, value, mask, past key, past value and the numbers of keys that are no padding."""
    return (*node.inputs, *[None] * 4)[:7]


def _by_head(op: Ops, x: ir.Value, heads: int) -> ir.Value:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    assert x.shape is not None
    batch, length, width = x.shape
    y = op.Transpose(op.Reshape(x, op.ints(0, 0, heads, -1)), perm=[0, 2, 1, 3])
    y.shape = ir.Shape([batch, heads, length, width // heads if isinstance(width, int) else None])
    return y


def _scale(op: Ops, node: ir.Node, q: ir.Value) -> ir.Value | float:
    """The scale given, else one over the square root of the size of a head."""
    assert q.shape is not None
    size = q.shape[3]
    if "scale" in node.attributes:
        return node.attributes.get_float("scale")
    if isinstance(size, int):
        return float(1 / np.sqrt(size))
    return op.Reciprocal(op.Sqrt(cast_like(op, op.shape(q, 3, 4), q)))


def _visible(op: Ops, node: ir.Node, q: ir.Value, key: ir.Value) -> ir.Value | None:
    """Which keys a query may see by their places alone; None if all.

    A query stands as many places behind the first key as there were keys before this block of queries.
    """
    *_, past_key, _, valid = _inputs(node)
    attributes = node.attributes
    left, right = attributes.get_int("left_window_size", -1), attributes.get_int("right_window_size", -1)
    count = op.Squeeze(op.shape(q, 2, 3), op.ints(0))
    keys = op.Range(op.scalar(0), op.Squeeze(op.Shape(key, start=2, end=3), op.ints(0)), op.scalar(1))
    queries = op.Unsqueeze(op.Range(op.scalar(0), count, op.scalar(1)), op.ints(1))
    if valid is not None:
        valid = op.Reshape(valid, op.ints(-1, 1, 1, 1))
    if past_key is not None:
        queries = op.Add(queries, op.shape(past_key, 2, 3))
    elif valid is not None:
        queries = op.Add(queries, op.Sub(valid, count))
    conditions = []
    if attributes.get_int("is_causal", 0):
        conditions.append(op.LessOrEqual(keys, queries))
    if left >= 0:
        conditions.append(op.LessOrEqual(op.Sub(queries, keys), left))
    if right >= 0:
        conditions.append(op.LessOrEqual(op.Sub(keys, queries), right))
    if valid is not None:
        conditions.append(op.Less(keys, valid))
    visible = None
    for condition in conditions:
        visible = condition if visible is None else op.And(visible, condition)
    return visible


def _as_wide_as(op: Ops, mask: ir.Value, k: ir.Value, key: ir.Value) -> ir.Value:
    """The mask, with the keys hidden that it says nothing of."""
    assert mask.shape is not None
    assert k.shape is not None
    if op.opset_imports[""] < 24 or (key is k and same_size(mask.shape[-1], k.shape[2])):
        return mask
    missing = op.Sub(op.Shape(key, start=2, end=3), op.shape(mask, rank_of(mask) - 1))
    assert mask.dtype is not None
    hidden = False if mask.dtype == ir.DataType.BOOL else -np.inf
    padded = op.Pad(mask, op.Concat(op.ints(0), missing, axis=0), op.lift(hidden, mask.dtype), op.ints(-1))
    padded.type = mask.type
    return padded


def _softmax(op: Ops, node: ir.Node, scores: ir.Value, visible: ir.Value | None) -> ir.Value:
    """The softmax over the visible keys; 0 elsewhere, so that no row is made of NaN."""
    own = scores.dtype
    assert own is not None
    if visible is not None:
        sees = op.ReduceMax(cast_like(op, visible, scores), op.ints(-1), keepdims=1)
        scores = op.Where(visible, scores, op.Where(op.Greater(sees, 0), -np.inf, op.lift(0, own)))
    precision = node.attributes.get_int("softmax_precision", int(own))
    weights = op.Softmax(op.Cast(scores, to=precision) if precision != own else scores, axis=-1)
    weights = op.Cast(weights, to=int(own)) if precision != own else weights
    return weights if visible is None else op.Where(visible, weights, 0)


@lowering("LinearAttention")
def _linear_attention(op: Ops, node: ir.Node) -> Sequence[ir.Value]:
    """A Scan of S <- e^g S; v <- beta (v - k S); S <- S + k^T v; y = scale q S.

    The queries of all heads that share a state are the rows of one matrix.
    """
    q, k, v, past, decay, beta = (*node.inputs, *[None] * 3)[:6]
    assert q is not None
    assert k is not None
    assert v is not None
    assert q.dtype is not None
    half = q.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    wide = int(ir.DataType.FLOAT if half else q.dtype)
    kv_heads, q_heads = (node.attributes.get_int(name) for name in ("kv_num_heads", "q_num_heads"))
    layouts = (
        (q, (kv_heads, q_heads // kv_heads, -1)),
        (k, (kv_heads, -1, 1)),
        (v, (kv_heads, 1, -1)),
        (decay, (kv_heads, -1, 1)),
        (beta, (-1, 1, 1)),
    )
    rows, column, row, gate, rate = (
        x and _scanned(op, op.Cast(x, to=wide) if half else x, layout) for x, layout in layouts
    )
    size = op.Div(op.shape(q, 2, 3), op.ints(q_heads))
    scale = node.attributes.get_float("scale", 0.0) or op.Reciprocal(op.Sqrt(op.Cast(size, to=wide)))
    width = op.Div(op.shape(v, 2, 3), op.ints(kv_heads))
    shape = op.Concat(op.shape(q, 0, 1), op.ints(kv_heads), size, width, axis=0)
    start = op.full(shape, 0, ir.DataType(wide)) if past is None else op.Cast(past, to=wide)
    scanned = [op.Mul(rows, scale), column, row, gate and op.Exp(gate), rate]
    fed = [start, *(x for x in scanned if x is not None)]

    def step(
        op: Ops, state: ir.Value, q: ir.Value, k: ir.Value, v: ir.Value, *rest: ir.Value
    ) -> Sequence[ir.Value]:
        if decay is not None:
            state = op.Mul(state, rest[0])
        if beta is not None:
            v = op.Mul(rest[-1], op.Sub(v, op.MatMul(op.Transpose(k, perm=[0, 1, 3, 2]), state)))
        state = op.Add(state, op.MatMul(k, v))
        return state, op.MatMul(q, state)

    inner = [op.placeholder(x) for x in fed]
    for value in inner:
        value.shape = ir.Shape([None] * 4)
    attributes = {"body": op.nested(inner, step), "num_scan_inputs": len(fed) - 1}
    final, read = op.emit("Scan", fed, attributes, outputs=2)
    final.type = read.type = start.type
    y = op.Reshape(op.Transpose(read, perm=[1, 0, 2, 3, 4]), op.ints(0, 0, -1))
    return cast_like(op, y, q), cast_like(op, final, q if past is None else past)


def _scanned(op: Ops, x: ir.Value, layout: tuple[int, ...]) -> ir.Value:
    """[batch, length, ...] as [length, batch, *layout]."""
    return op.Transpose(op.Reshape(x, op.ints(0, 0, *layout)), perm=[1, 0, 2, 3, 4])


@lowering("CausalConvWithState")
def _causal_conv_with_state(op: Ops, node: ir.Node) -> Sequence[ir.Value]:
    """The convolution of what came before and x, each channel by itself."""
    x, w, bias, past = (*node.inputs, None, None)[:4]
    assert x is not None
    assert w is not None
    assert w.shape is not None
    channels, _, size = w.shape
    if not isinstance(channels, int) or not isinstance(size, int):
        raise ShapeError(f"CausalConvWithState node {node_name(node)!r} has a kernel of unknown size")
    padded = op.Pad(x, op.ints(0, 0, size - 1, 0, 0, 0)) if past is None else op.Concat(past, x, axis=2)
    y = op.Conv(padded, w, bias, group=channels)
    if node.attributes.get_string("activation", "none") != "none":
        y = op.Mul(y, op.Sigmoid(y))
    return y, op.Slice(padded, op.shape(x, 2, 3), op.ints(np.iinfo(np.int64).max), op.ints(2))
