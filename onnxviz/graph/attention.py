"""Attention between the tokens of a picture: where a graph keeps its maps, and what lies around them."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxviz.errors import ShapeError
from onnxviz.graph.families import in_family
from onnxviz.graph.flow import ancestors, dependents
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import constant_of
from onnxviz.graph.tokens import size_of, tokens_of

_FUSED = ("Attention", "MultiHeadAttention", "QAttention", "PackedAttention", "GroupQueryAttention")
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast")
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
_MIXING = ("MatMul", "Gemm", "Conv", "Einsum", "Attention", "QAttention")


@dataclass(frozen=True)
class Attention:
    """A map of attention [N, heads, T, T], or [N * heads, T, T]: from each of T tokens to each.

    `tokens` are how many are in front that have no place, and the height and width of the grid of those
    that have one; `size` is T.
    """

    tensor: str
    tokens: tuple[int, int, int]
    size: int

    @property
    def placed(self) -> range:
        """The tokens that have a place."""
        before, height, width = self.tokens
        return range(before, before + height * width)


def is_fused(node: ir.Node) -> bool:
    """Whether a node attends and keeps its map to itself."""
    return node.op_type in _FUSED


def attending(model: Model, target: str) -> list[ir.Value]:
    """What operators of attention between tokens make on the way to tensor `target`, in the graph's order.

    Maps, where attention is written out; else what a fused operator makes of them.
    """
    needed, axes = ancestors([model.tensor(target)]), model.places.axes
    found = []
    for node in model.ir_model.graph:
        value = node.outputs[0]
        made = axes.get(str(value.name), ())
        between = len(made) > 2 and made[-1] == made[-2] and tokens_of(made[-1]) is not None
        over_keys = node.op_type == "Softmax" and node.attributes.get_int("axis", -1) in (-1, len(made) - 1)
        if value in needed and (is_fused(node) or (over_keys and between)):
            found.append(value)
    return found


def attentions(model: Model, target: str) -> list[Attention]:
    """The maps of attention over the whole picture that lead to tensor `target`, the first block's first.

    Raises:
        ShapeError: There is none, or some reach only over windows, or are not kept in a tensor of their own.
    """
    found: list[Attention] = []
    for value in attending(model, target):
        node, name = value.producer(), str(value.name)
        if node is not None and is_fused(node):
            raise ShapeError(
                f"{node.op_type} node {node.name or name!r} keeps its map of attention to itself; "
                "export the model for opset 22 or less, and without fused operators"
            )
        *others, queries, _keys = model.places.axes[name]
        tokens = tokens_of(queries)
        assert tokens is not None
        if len(others) > 2 or any(part.of for axis in others for part in axis):
            raise ShapeError(
                f"attention {name!r} reaches over windows of the picture, not over all of it; "
                "use a map of the last layer, such as grad-cam"
            )
        found.append(Attention(name, tokens, size_of(queries)))
    if not found:
        raise ShapeError(
            "this model has no attention between the tokens of a picture of known height and width; "
            "use another method, such as grad-cam"
        )
    if len({attention.tokens for attention in found}) > 1:
        raise ShapeError(
            "the maps of attention are of several grids; use a map of one layer, such as grad-cam"
        )
    return found


def projected(model: Model, attended: ir.Value) -> ir.Value | None:
    """What the queries of an attention are a linear map of; None where no such map is found."""
    value: ir.Value | None = attended
    while value is not None and (node := value.producer()) is not None:
        moving = [one for one in node.inputs if one is not None and _is_traced(model, one)]
        value = moving[0] if moving else None
        if in_family(node, _MIXING) and len(moving) == 1:
            return value
    return None


def streams(model: Model, found: Sequence[Attention], target: str) -> list[ir.Value] | None:
    """The tokens as each attention's block leaves them, where all is added to one stream; else None.

    A block adds what it computes to what it is given, which is what the block before has left; each block
    adds as often.
    """
    graph = model.ir_model.graph
    needed = ancestors([model.tensor(target)])
    sums = [node for node in graph if node.outputs[0] in needed and _adds_tokens(model, node)]
    made = {node.outputs[0] for node in sums}
    left: list[ir.Value] = []
    counts: list[int] = []
    for attention in found:
        behind = dependents(graph, [model.tensor(attention.tensor)])
        inside = [node for node in sums if node.outputs[0] in behind]
        if not inside:
            return None
        given = [value for value in inside[0].inputs if value is not None and value not in behind]
        if len(given) != 1 or (counts and _summed(given[0]) not in made):
            return None
        left.append(given[0])
        counts.append(len(inside))
    per_block = {one - other for one, other in zip(counts, [*counts[1:], 0], strict=True)}
    if len(per_block) > 1 or len(set(left)) < len(left):
        return None
    return [*left[1:], _settled(model, inside[-1].outputs[0])]


def _settled(model: Model, value: ir.Value) -> ir.Value:
    """A sum as the next block reads it: quantised and back, or with the bias that a fused sum had."""
    readers = [node for node in value.consumers() if node.op_type not in ("Shape", "Size")]
    moving = [one for node in readers for one in node.inputs if one is not None and _is_traced(model, one)]
    if len(readers) == len(moving) == 1 and readers[0].op_type in ("Add", *_QUANTISERS):
        return _settled(model, readers[0].outputs[0])
    return value


def _summed(value: ir.Value) -> ir.Value:
    """What a value is, quantised and back."""
    node = value.producer()
    if node is not None and node.op_type in _QUANTISERS and node.inputs[0] is not None:
        return _summed(node.inputs[0])
    return value


def head_of(model: Model, stream: ir.Value, target: str) -> list[ir.Node] | None:
    """The nodes that compute `target` from the last block's tokens; None where they read earlier ones too."""
    behind, needed = dependents(model.ir_model.graph, [stream]), ancestors([model.tensor(target)])
    between = (behind & needed) - {stream}
    nodes = [node for node in model.ir_model.graph if any(value in between for value in node.outputs)]
    read = {value for node in nodes for value in node.inputs if value is not None}
    return nodes if all(v in behind or not _is_traced(model, v) for v in read) else None


def read_out(model: Model, target: str) -> list[int] | None:
    """The tokens without a place (a class token) that alone lead to `target`; None where others do too."""
    needed = ancestors([model.tensor(target)])
    values = [value for node in model.ir_model.graph for value in node.outputs if value in needed]
    last = next((value for value in reversed(values) if _tokens(model, value) is not None), None)
    layout = None if last is None else model.places.layout(str(last.name))
    if last is None or layout is None:
        return None
    axis = model.places.axes[str(last.name)][layout[0][0]]
    before, height, width = layout[2] or (0, 0, 0)
    found = set[int]()
    for node in last.consumers():
        if node.op_type in ("Shape", "Size") or not any(value in needed for value in node.outputs):
            continue
        picked = _picked(node, size_of(axis))
        if not picked or any(model.places.layout(str(value.name)) for value in node.outputs):
            return None
        found.update(picked)
    return sorted(found) if found and found.isdisjoint(range(before, before + height * width)) else None


def token_layer(model: Model, candidates: Sequence[Layer], target: str) -> Layer | None:
    """Where to take a CAM of a transformer whose scores are read from a class token; None for other models.

    Of the last block's output the tokens with a place have no gradient then: nothing reads them. Their last
    word is in the last attention, so the layer is what its queries, keys and values are computed from: the
    norm in front of it.

    Args:
        model: The model.
        candidates: The layers with feature maps that the scores are computed from, in the model's order.
        target: The tensor of the scores.
    """
    if read_out(model, target) is None:
        return None
    layers = {layer.tensor: layer for layer in candidates}
    for attended in reversed(attending(model, target)):
        value = projected(model, attended)
        while value is not None and value.name not in layers:
            node = value.producer()
            value = node.inputs[0] if node is not None and node.op_type in _MOVES else None
        if value is not None:
            return layers[str(value.name)]
    return None


def _tokens(model: Model, value: ir.Value) -> tuple[int, int, int] | None:
    """The tokens of a value that has features of each."""
    layout = model.places.layout(str(value.name))
    return None if layout is None or layout[1] is None else layout[2]


def _is_traced(model: Model, value: ir.Value) -> bool:
    return value.name in model.places.axes


def _adds_tokens(model: Model, node: ir.Node) -> bool:
    """Whether a node adds two tensors of the same tokens and features."""
    if node.op_type != "Add":
        return False
    given = [model.places.axes.get(str(value.name)) for value in node.inputs if value is not None]
    return given[0] is not None and given[0] == given[-1] and _tokens(model, node.outputs[0]) is not None


def _picked(node: ir.Node, size: int) -> list[int]:
    """Which of so many tokens a Gather, or a Slice of one axis, takes; none where that is not known."""
    given = [constant_of(value) for value in node.inputs[1:3]]
    if node.op_type == "Gather" and given[0] is not None:
        return [int(place) % size for place in given[0].flat]
    if node.op_type == "Slice" and given[0] is not None and given[1] is not None and given[0].size == 1:
        return list(range(size)[int(given[0].item()) : int(given[1].item())])
    return []
