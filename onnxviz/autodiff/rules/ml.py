"""The operators of classical machine learning (ai.onnx.ml) that are not piecewise constant."""

import math

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.backward import is_float
from onnxviz.autodiff.rules.helpers import cast_like, data, type_of
from onnxviz.autodiff.ruleset import lowering, node_name
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.ops import Ops, rank_of


@lowering("ai.onnx.ml::ArrayFeatureExtractor")
def _array_feature_extractor(op: Ops, node: ir.Node) -> ir.Value:
    x, places = node.inputs
    taken = op.Gather(x, op.Reshape(places, op.ints(-1)), axis=-1)
    return op.Unsqueeze(taken, op.ints(0)) if rank_of(data(node)) == 1 else taken


@lowering("ai.onnx.ml::Scaler")
def _scaler(op: Ops, node: ir.Node) -> ir.Value:
    return op.Mul(op.Sub(_numbers(op, node), _floats(op, node, "offset")), _floats(op, node, "scale"))


@lowering("ai.onnx.ml::Normalizer")
def _normalizer(op: Ops, node: ir.Node) -> ir.Value:
    """x over its norm, and x itself where that is 0."""
    x, last = _numbers(op, node), op.ints(-1)
    reduce = {"MAX": op.ReduceMax, "L1": op.ReduceL1, "L2": op.ReduceL2}
    norm = reduce[node.attributes.get_string("norm", "MAX")](x, last, keepdims=1)
    return op.Div(x, op.Where(op.Equal(norm, 0), 1, norm))


@lowering("ai.onnx.ml::LinearRegressor")
def _linear_regressor(op: Ops, node: ir.Node) -> ir.Value:
    transform = node.attributes.get_string("post_transform", "NONE")
    if transform != "NONE":
        raise UnsupportedOperator(
            f"{node.op_type} node {node_name(node)!r} with post_transform {transform!r}; "
            "use the numerical route (--gradient numeric)"
        )
    targets = node.attributes.get_int("targets", 1)
    width = len(node.attributes.get_floats("coefficients")) // targets
    weights = op.Reshape(_floats(op, node, "coefficients"), op.ints(targets, width))
    y = op.Gemm(op.Reshape(_numbers(op, node), op.ints(-1, width)), weights, transB=1)
    return op.Add(y, _floats(op, node, "intercepts")) if "intercepts" in node.attributes else y


@lowering("ai.onnx.ml::Imputer")
def _imputer(op: Ops, node: ir.Node) -> ir.Value:
    x, replaced = data(node), node.attributes.get_float("replaced_value_float", 0.0)
    missing = op.IsNaN(x) if math.isnan(replaced) else op.Equal(x, replaced)
    return op.Where(missing, _floats(op, node, "imputed_value_floats"), x)


@lowering("ai.onnx.ml::FeatureVectorizer")
def _feature_vectorizer(op: Ops, node: ir.Node) -> ir.Value:
    """Side by side, each cut or filled with zeros to its width."""
    widths = node.attributes.get_ints("inputdimensions")
    columns = []
    for x, width in zip(node.inputs, widths, strict=True):
        assert x is not None
        missing = op.Sub(op.ints(width), op.shape(x, 1, 2))
        columns.append(op.Pad(_numbers(op, node, x), op.Concat(op.ints(0, 0, 0), missing, axis=0)))
    return op.Concat(*columns, axis=1)


def _numbers(op: Ops, node: ir.Node, x: ir.Value | None = None) -> ir.Value:
    """An input, the first where none is said; integers are taken as floats of the output's type."""
    value = data(node) if x is None else x
    return value if is_float(value) else cast_like(op, value, node.outputs[0])


def _floats(op: Ops, node: ir.Node, name: str) -> ir.Value:
    """An attribute as a constant of the type that is computed in."""
    like = data(node) if is_float(data(node)) else node.outputs[0]
    return op.constant(np.array(node.attributes.get_floats(name), type_of(like).numpy()))
