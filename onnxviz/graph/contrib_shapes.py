"""Stand-ins for operators of whose outputs onnx's shape inference knows nothing, or too little.

They are ONNX Runtime's own, those of classical machine learning, and a few of the standard.

Each gives way to a standard operator whose output has the same type and shape, while shapes are inferred.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx
import onnx.defs

Link: TypeAlias = tuple[str, Sequence[str | list[int]], Mapping[str, Any]]
StandIn: TypeAlias = Callable[[onnx.NodeProto], Sequence[onnx.NodeProto]]


def put_stand_ins(graph: onnx.GraphProto) -> bool:
    """Replace, in place, what onnx knows too little of; whether there was any.

    What a stand-in takes beside has a name that no model has.
    """
    nodes: list[onnx.NodeProto] = []
    found = False
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= put_stand_ins(attribute.g)
        find = _STAND_INS.get(node.op_type) if _is_foreign(node) else None
        find = find or (_UNTOLD.get(node.op_type) if not node.domain else None)
        stand_ins = find(node) if find is not None else []
        found |= bool(stand_ins)
        nodes += stand_ins or [node]
    if found:
        _set_nodes(graph, nodes)
    return found


def _set_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    copies = onnx.GraphProto(node=nodes)
    del graph.node[:]
    graph.node.MergeFrom(copies.node)


def _is_foreign(node: onnx.NodeProto) -> bool:
    return node.domain in ("com.microsoft", "ai.onnx.ml") or (
        not node.domain and not onnx.defs.has(node.op_type)
    )


_HELPS = "onnxviz stand-in/"  # begins the names of what a stand-in takes beside its last node


def _like(op_type: str, *places: int, typed: int | None = None, **attributes: Any) -> StandIn:
    """An operator on some of the node's inputs; its output is cast to the type of the input at `typed`."""

    def stand_ins(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
        inputs = [node.input[place] for place in places if place < len(node.input)]
        chain: list[Link] = [(op_type, inputs, attributes)]
        if typed is not None:
            chain.append(("CastLike", [node.input[typed]], {}))
        return _chained(node, chain)

    return stand_ins


def _spatial(op_type: str, *places: int, last: bool | None = None) -> StandIn:
    """The same for one with places, whose channels may lie on the last axis."""

    def stand_ins(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
        said = {attribute.name: attribute for attribute in node.attribute}
        inputs = [node.input[place] for place in places]
        if not (last if last is not None else "channels_last" in said and said["channels_last"].i):
            return _chained(node, [(op_type, inputs, {})])
        rank = 2 + (len(said["kernel_shape"].ints) if "kernel_shape" in said else 2)
        data, *weights = inputs
        first, back = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
        return _chained(
            node,
            [
                ("Transpose", [data], {"perm": first}),
                (op_type, weights, {}),
                ("Transpose", [], {"perm": back}),
            ],
        )

    return stand_ins


def _chained(
    node: onnx.NodeProto,
    chain: Sequence[Link],
    place: int = 0,
) -> list[onnx.NodeProto]:
    """Operators of which each reads the one before it first; the last makes the node's output at `place`.

    A list among the inputs is a constant.
    """
    nodes: list[onnx.NodeProto] = []
    before: list[str] = []
    for op_type, inputs, attributes in chain:
        stem, names = f"{_HELPS}{node.output[place]}/{len(nodes)}", list[str]()
        for number, value in enumerate(inputs):
            if isinstance(value, list):
                name = f"{stem}/{number}"
                nodes.append(onnx.helper.make_node("Constant", [], [name], name, value_ints=value))
                value = name
            names.append(value)
        made = onnx.helper.make_node(op_type, [*before, *names], [stem], stem, **attributes)
        made.output.extend(f"{stem}/part {n}" for n in range(1, attributes.get("num_outputs", 1)))
        known = onnx.defs.get_schema(op_type).attributes
        given = {attribute.name for attribute in made.attribute}
        made.attribute.extend(a for a in node.attribute if a.name in known and a.name not in given)
        nodes.append(made)
        before = [stem]
    nodes[-1].output[0] = node.output[place]
    return nodes


def _ints(node: onnx.NodeProto) -> dict[str, int]:
    return {attribute.name: attribute.i for attribute in node.attribute}


def _given(node: onnx.NodeProto, place: int) -> bool:
    return place < len(node.input) and node.input[place] != ""


def _concat(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    return _like("Concat", *range(2, len(node.input), 3))(node)


def _split_gelu(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    return _chained(node, [("Split", node.input[:1], {"axis": -1, "num_outputs": 2})])


def _norm_of_sum(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """The fourth output is the sum itself."""
    same: list[Link] = [("Identity", node.input[:1], {})]
    beside = _chained(node, same, place=3) if "".join(node.output[3:4]) else []
    return [*_chained(node, same), *beside]


def _matmul(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    said = _ints(node)
    factors, nodes = list(node.input[:2]), list[onnx.NodeProto]()
    for place, side in enumerate("AB"):
        batch, swapped = said.get(f"transBatch{side}", 0), said.get(f"trans{side}", 0)
        if batch or swapped:
            moved = ("b...j->...jb" if swapped else "b...j->...bj") if batch else "...ij->...ji"
            name = f"{_HELPS}{node.output[0]}/{side}"
            nodes.append(
                onnx.helper.make_node("Einsum", factors[place : place + 1], [name], name, equation=moved)
            )
            factors[place] = name
    return [*nodes, *_chained(node, [("MatMul", factors, {})])]


def _gemm(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    return _like("Gemm", 0, 3, typed=None if _given(node, 7) else 1)(node)


def _matmul_n_bits(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    column: Link = ("Slice", [node.input[0], [0], [1], [-1]], {})
    return _chained(node, [column, ("Expand", [[_ints(node)["N"]]], {})])


def _self_attended(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """Queries, keys and values lie side by side in one product, and the output is as wide as the values."""
    sizes = next((list(a.ints) for a in node.attribute if a.name == "qkv_hidden_sizes"), None)
    third: Link = ("Slice", [[sum(sizes[:2])], [sum(sizes)], [-1]], {}) if sizes else ("Split", [], _THIRDS)
    typed: list[Link] = [("CastLike", [node.input[3]], {})] if node.op_type == "QAttention" else []
    values: list[Link] = [("MatMul", node.input[:2], {}), third, *typed]
    heads: Link = ("Reshape", [[0, 0, _ints(node)["num_heads"], -1]], {})
    present: list[Link] = [
        heads,
        ("Transpose", [], {"perm": [0, 2, 1, 3]}),
        ("Expand", [[2, 1, 1, 1, 1]], {}),
    ]
    beside = _chained(node, [*values, *present], place=1) if "".join(node.output[1:2]) else []
    return [*_chained(node, values), *beside]


_THIRDS = {"axis": -1, "num_outputs": 3}


def _attended(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """[B,S,D] queries and [B,L,V] values make [B,S,V]; the other forms are packed."""
    if _given(node, 2):
        return _like("Einsum", 0, 2, equation="bsd,blv->bsv")(node)
    if _given(node, 1):
        return _like("Identity", 0)(node)
    return _chained(
        node, [("ReduceSum", [node.input[0], [3]], {"keepdims": 0}), ("Reshape", [[0, 0, -1]], {})]
    )


def _group_attended(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """The output is as wide as the queries, which may be packed with the shared keys and values."""
    if _given(node, 1):
        return _like("Identity", 0)(node)
    heads, shared = (_ints(node)[name] for name in ("num_heads", "kv_num_heads"))
    lanes: Link = ("Reshape", [node.input[0], [0, 0, heads + 2 * shared, -1]], {})
    return _chained(node, [lanes, ("Slice", [[0], [heads], [2]], {}), ("Reshape", [[0, 0, -1]], {})])


def _features(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """Floats, as many in a row as the attributes say."""
    widths = next((sum(a.ints) for a in node.attribute if a.name == "inputdimensions"), None)
    row: Link = ("Expand", [[1, widths or _ints(node).get("targets", 1)]], {})
    column: Link = ("Slice", [[0], [1], [-1]], {})
    return _chained(node, [("Cast", node.input[:1], {"to": onnx.TensorProto.FLOAT}), column, row])


_STAND_INS: Mapping[str, StandIn] = {
    **dict.fromkeys(("BiasAdd", "BiasGelu", "FastGelu", "Gelu", "QuickGelu"), _like("Identity", 0)),
    **dict.fromkeys(("BiasDropout", "BiasSoftmax", "GroupNorm", "RotaryEmbedding"), _like("Identity", 0)),
    **dict.fromkeys(("Inverse", "SimplifiedLayerNormalization", "Trilu"), _like("Identity", 0)),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _norm_of_sum),
    "Attention": _self_attended,
    "BiasSplitGelu": _split_gelu,
    "DequantizeLinear": _like("DequantizeLinear", 0, 1, 2),
    "DynamicQuantizeMatMul": _like("MatMul", 0, 1),
    "EmbedLayerNormalization": _like("Gather", 2, 0),
    "FeatureVectorizer": _features,
    "FusedConv": _spatial("Conv", 0, 1),
    "FusedGemm": _like("Gemm", 0, 1),
    "FusedMatMul": _matmul,
    "GroupQueryAttention": _group_attended,
    "Imputer": _like("Identity", 0),
    "LinearRegressor": _features,
    "MatMulIntegerToFloat": _like("MatMul", 0, 1, typed=2),
    "MatMulNBits": _matmul_n_bits,
    "MultiHeadAttention": _attended,
    **dict.fromkeys(("Normalizer", "Scaler"), _like("Cast", 0, to=onnx.TensorProto.FLOAT)),
    "NhwcConv": _spatial("Conv", 0, 1, last=True),
    "NhwcFusedConv": _spatial("Conv", 0, 1, last=True),
    "NhwcMaxPool": _spatial("MaxPool", 0, last=True),
    "QAttention": _self_attended,
    "QGemm": _gemm,
    "QLinearAdd": _like("Add", 0, 3),
    "QLinearAveragePool": _spatial("AveragePool", 0),
    "QLinearConcat": _concat,
    "QLinearConv": _spatial("Conv", 0, 3),
    "QLinearGlobalAveragePool": _spatial("GlobalAveragePool", 0),
    "QLinearLeakyRelu": _like("Identity", 0),
    "QLinearMul": _like("Mul", 0, 3),
    "QLinearSigmoid": _like("Identity", 0),
    "QLinearSoftmax": _like("Identity", 0),
    "QLinearWhere": _like("Where", 0, 1, 4),
    "QuantizeLinear": _like("QuantizeLinear", 0, 1, 2),
    "TransposeMatMul": _matmul,
}

# Operators of the standard of whose output onnx says nothing, in some opsets and types.
_UNTOLD: Mapping[str, StandIn] = dict.fromkeys(
    ("GroupNormalization", "MeanVarianceNormalization"), _like("Identity", 0)
)
