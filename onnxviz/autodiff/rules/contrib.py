"""Operators of ONNX Runtime's own (com.microsoft) that its optimiser writes, in simpler ones."""

import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import channels_first, data
from onnxviz.autodiff.ruleset import lowering, node_name
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.ops import Ops, constant_of, rank_of

# Products with what was fused to them


@lowering("com.microsoft::FusedConv")
def _fused_conv(op: Ops, node: ir.Node) -> ir.Value:
    return _fused(op, node, op.emit("Conv", node.inputs[:3], _plain(node))[0])


@lowering("com.microsoft::NhwcConv", "com.microsoft::NhwcFusedConv")
def _nhwc_conv(op: Ops, node: ir.Node) -> ir.Value:
    weights, kept = node.inputs[1:3], _plain(node)
    y = channels_first(op, node, data(node), lambda x, _: op.emit("Conv", [x, *weights], kept)[0], last=True)
    return _fused(op, node, y)


def _fused(op: Ops, node: ir.Node, y: ir.Value) -> ir.Value:
    """activation(y + z)."""
    z = (*node.inputs[3:], None)[0]
    parameters = node.attributes.get_floats("activation_params", ())
    return _activated(op, node, op.Add(y, z) if z is not None else y, parameters)


@lowering("com.microsoft::FusedGemm")
def _fused_gemm(op: Ops, node: ir.Node) -> ir.Value:
    said = node.attributes
    names = [name for name in ("activation_alpha", "activation_beta") if name in said]
    y = op.emit("Gemm", node.inputs, _plain(node))[0]
    return _activated(op, node, y, [said.get_float(name) for name in names])


@lowering("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def _fused_matmul(op: Ops, node: ir.Node) -> ir.Value:
    """alpha a b; transBatch puts the first axis in the last place but one, trans then swaps the last two."""
    factors = []
    for x, side in zip(node.inputs, "AB", strict=True):
        assert x is not None
        order = list(range(rank_of(x)))
        if node.attributes.get_int(f"transBatch{side}", 0):
            order[:-1] = [*order[1:-1], 0]
        if node.attributes.get_int(f"trans{side}", 0) and len(order) > 1:
            order[-2:] = order[:-3:-1]
        factors.append(x if order == sorted(order) else op.Transpose(x, perm=order))
    y = op.MatMul(*factors)
    alpha = node.attributes.get_float("alpha", 1.0)
    return y if alpha == 1 else op.Mul(y, alpha)


def _plain(node: ir.Node) -> dict[str, ir.Attr]:
    return {name: value for name, value in node.attributes.items() if not name.startswith("activation")}


def _activated(op: Ops, node: ir.Node, y: ir.Value, parameters: Any) -> ir.Value:
    kind = node.attributes.get_string("activation", "")
    names = {"LeakyRelu": ["alpha"], "HardSigmoid": ["alpha", "beta"], "Elu": ["alpha"]}
    if kind in ("", "Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Softsign", *names):
        given = dict(zip(names.get(kind, ()), parameters, strict=False))
        return op.emit(kind, [y], given)[0] if kind else y
    if kind == "Clip":
        return op.Clip(y, *parameters)
    raise UnsupportedOperator(
        f"{node.op_type} node {node_name(node)!r} with activation {kind!r}; "
        "use the numerical route (--gradient numeric)"
    )


# Activations


@lowering("com.microsoft::Gelu")
def _gelu(op: Ops, node: ir.Node) -> ir.Value:
    return gelu(op, data(node))


@lowering("com.microsoft::BiasGelu")
def _bias_gelu(op: Ops, node: ir.Node) -> ir.Value:
    return gelu(op, op.Add(*node.inputs))


@lowering("com.microsoft::FastGelu")
def _fast_gelu(op: Ops, node: ir.Node) -> ir.Value:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    x, bias = (*node.inputs, None)[:2]
    x = op.Add(x, bias) if bias is not None else x
    inner = op.Mul(x, op.Add(op.Mul(op.Mul(x, x), 0.035677), 0.797885))
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(inner), 1))


@lowering("com.microsoft::QuickGelu")
def _quick_gelu(op: Ops, node: ir.Node) -> ir.Value:
    x = data(node)
    return op.Mul(x, op.Sigmoid(op.Mul(x, node.attributes.get_float("alpha", 1.702))))


@lowering("com.microsoft::BiasSplitGelu")
def _bias_split_gelu(op: Ops, node: ir.Node) -> ir.Value:
    left, right = split(op, op.Add(*node.inputs), 2)
    return op.Mul(left, gelu(op, right))


@lowering("com.microsoft::BiasAdd")
def _bias_add(op: Ops, node: ir.Node) -> ir.Value:
    x, bias, skip = node.inputs
    return op.Add(op.Add(x, bias), skip)


@lowering("com.microsoft::BiasSoftmax")
def _bias_softmax(op: Ops, node: ir.Node) -> ir.Value:
    """Over the axes from `axis` on together."""
    flat = op.Flatten(op.Add(*node.inputs), axis=node.attributes.get_int("axis", 1))
    return op.reshape_like(op.Softmax(flat, axis=-1), data(node))


@lowering("com.microsoft::BiasDropout")
def _bias_dropout(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    x, bias, residual, _ratio, training = (*node.inputs, None, None, None)[:5]
    trains = constant_of(training)
    if training is not None and (trains is None or trains.any()):
        raise UnsupportedOperator(
            f"BiasDropout node {node_name(node)!r} may be in training mode; export the model for inference"
        )
    y = op.Add(x, bias)
    return [op.Add(y, residual) if residual is not None else y, None]


def gelu(op: Ops, x: ir.Value) -> ir.Value:
    """x / 2 (1 + erf(x / sqrt 2))."""
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Mul(x, math.sqrt(0.5))), 1))


# Norms


@lowering("SimplifiedLayerNormalization")
def _simplified_layer_norm(op: Ops, node: ir.Node) -> list[ir.Value]:
    x, scale = node.inputs
    axes = range(node.attributes.get_int("axis", -1) % rank_of(data(node)), rank_of(data(node)))
    y, _, inverse = _normal(op, node, x, [*axes], 1e-5, centred=False)
    return [op.Mul(y, scale), inverse]


@lowering("com.microsoft::SkipLayerNormalization")
def _skip_layer_norm(op: Ops, node: ir.Node) -> list[ir.Value]:
    x, skip, scale, shift, bias = (*node.inputs, None, None)[:5]
    total = op.Add(op.Add(x, skip), bias) if bias is not None else op.Add(x, skip)
    y, mean, inverse = _normal(op, node, total, [-1], 1e-12)
    y = op.Mul(y, scale)
    return [op.Add(y, shift) if shift is not None else y, mean, inverse, total]


@lowering("com.microsoft::SkipSimplifiedLayerNormalization")
def _skip_simplified_layer_norm(op: Ops, node: ir.Node) -> list[ir.Value]:
    x, skip, scale, bias = (*node.inputs, None)[:4]
    total = op.Add(op.Add(x, skip), bias) if bias is not None else op.Add(x, skip)
    y, mean, inverse = _normal(op, node, total, [-1], 1e-12, centred=False)
    return [op.Mul(y, scale), mean, inverse, total]


@lowering("com.microsoft::EmbedLayerNormalization")
def _embed_layer_norm(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    words, segments, word, position, segment, scale, shift, _mask, places = (*node.inputs, None, None)[:9]
    if places is None:
        places = op.Range(op.scalar(0), op.Squeeze(op.shape(data(node), 1, 2)), op.scalar(1))
    total = op.Add(op.Gather(word, words), op.Gather(position, places))
    if segments is not None and segment is not None:
        total = op.Add(total, op.Gather(segment, segments))
    y, _, _ = _normal(op, node, total, [-1], 1e-12)
    return [op.Add(op.Mul(y, scale), shift), None, total]


@lowering("com.microsoft::GroupNorm")
def _group_norm(op: Ops, node: ir.Node) -> ir.Value:
    _x, scale, shift = node.inputs
    groups = node.attributes.get_int("groups")

    def body(x: ir.Value, _kept: Mapping[str, Any]) -> ir.Value:
        across = [op.Reshape(channel, op.ints(-1, *[1] * (rank_of(x) - 2))) for channel in (scale, shift)]
        split = op.Reshape(x, op.Concat(op.shape(x, 0, 1), op.ints(groups, -1), axis=0))
        normal = op.Reshape(_normal(op, node, split, [-1], 1e-5)[0], op.Shape(x))
        y = op.Add(op.Mul(normal, across[0]), across[1])
        return op.Mul(y, op.Sigmoid(y)) if node.attributes.get_int("activation", 0) else y

    return channels_first(op, node, data(node), body, last=node.attributes.get_int("channels_last", 1) == 1)


def _normal(
    op: Ops, node: ir.Node, x: ir.Value | None, axes: list[int], epsilon: float, centred: bool = True
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(x - mean) / sqrt(variance + epsilon), the mean, and the factor; without a mean if not `centred`."""
    mean = op.ReduceMean(x, op.ints(*axes), keepdims=1)
    apart = op.Sub(x, mean) if centred else x
    square = op.ReduceMean(op.Mul(apart, apart), op.ints(*axes), keepdims=1)
    deviation = op.Sqrt(op.Add(square, node.attributes.get_float("epsilon", epsilon)))
    return op.Div(apart, deviation), mean, op.Div(1, deviation)


# The rest


def split(op: Ops, x: ir.Value, count: int, sizes: ir.Value | None = None, axis: int = -1) -> list[ir.Value]:
    """`count` parts along an axis, equal ones if no sizes are given."""
    equal = {"num_outputs": count} if sizes is None else {}
    parts = op.emit("Split", [x, sizes], {"axis": axis, **equal}, outputs=count)
    for part in parts:
        part.type = x.type
    return list(parts)


@lowering("com.microsoft::NhwcMaxPool")
def _nhwc_max_pool(op: Ops, node: ir.Node) -> ir.Value:
    return channels_first(op, node, data(node), lambda x, kept: op.emit("MaxPool", [x], kept)[0], last=True)
