"""Maps from the attention of transformers: LeGrad, attention rollout, and the last attention itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.pullback import gradient
from onnxviz.autodiff.rules.quantization import is_quantiser, unclipped
from onnxviz.autodiff.ruleset import GRADIENT, RuleSet, zero_everywhere
from onnxviz.autodiff.spelled import spell_out
from onnxviz.autodiff.variants import STRAIGHT_THROUGH
from onnxviz.graph.attention import Attention, attentions, head_of, is_fused, read_out, streams
from onnxviz.graph.extend import extend
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops, rank_of
from onnxviz.graph.replay import replay
from onnxviz.methods.attribution.cams import at_least_single
from onnxviz.methods.attribution.method import MAP, Graph, Maps, Method
from onnxviz.methods.attribution.question import Question, Subject
from onnxviz.methods.scores import quantised_scores

_SCORES = "onnxviz.block_scores"
_STOP = "onnxviz.stop"  # marks, in a node's metadata, where no gradient passes


def spelled(subject: Subject) -> Subject:
    """The subject with its fused blocks written out: maps and sums of tokens are tensors then."""
    if not any(map(_is_fused, subject.model.ir_model.graph)):
        return subject
    model = subject.rewrite("blocks spelled out", lambda: spell_out(subject.model, _is_fused))
    return replace(subject, model=model)


def _is_fused(node: ir.Node) -> bool:
    return is_fused(node) or node.op_type in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")


def legrad_graph(subject: Subject, _layers: Sequence[Layer] = ()) -> Model:
    """Mean over blocks l, heads and queries of ReLU(ds^l / dA^l) (Bousselham et al. 2024, section 3.3).

    A^l is the attention of block l, and s^l the score that the model's own head (its last norm, its pooling
    and its classifier) gives to the tokens as block l leaves them; s^L is the model's score. Where no head
    can be put on earlier blocks, s^L is taken for each s^l: `uses_own_scores` tells. The authors' code for
    CLIP averages all tokens in front of the head, where the model's own takes the class token.
    """
    subject = spelled(subject)
    found = attentions(subject.model, subject.scores.tensor)
    maps = [attention.tensor for attention in found]

    def build() -> Model:
        scored = _block_scores(subject, found)
        if scored is None:
            derived = subject.gradient(maps)
        else:
            rules = _rules(subject)
            derived = gradient(scored, of=_SCORES, wrt=maps, rules=rules, keep=subject.keep)

        def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
            slopes = (values[derived.gradients[name]] for name in maps)
            heads = [_heads(op, slope, values[subject.input], found[0]) for slope in slopes]
            rows = [op.ReduceMean(op.Relu(one), op.ints(1, 2), keepdims=0) for one in heads]
            return {MAP: _places(op, op.Mean(*rows), found[0])}

        return extend(derived, MAP, write, subject.keep)

    return subject.rewrite(("legrad", subject.scores.tensor, subject.keep), build)


def uses_own_scores(subject: Subject) -> bool:
    """Whether LeGrad gives each block a score of its own, as the paper does."""
    subject = spelled(subject)
    found = attentions(subject.model, subject.scores.tensor)
    return len(found) == 1 or _head(subject, found) is not None


def legrad(question: Question, _layers: Sequence[Layer]) -> Maps:
    """LeGrad's maps [h, w]; see `legrad_graph`."""
    model = legrad_graph(question.subject)
    notes: tuple[str, ...] = ()
    if not uses_own_scores(question.subject):
        notes = ("legrad: the model's head fits no earlier block; the gradients are those of the last score",)
    return Maps(list(question.run(model)[MAP].astype(np.float64)), model.rules, "graph", notes)


def rollout_graph(subject: Subject, _layers: Sequence[Layer] = ()) -> Model:
    """The rows of A~_L ... A~_1 that the scores are read from, A~ = (mean over heads of A + I) / 2.

    Abnar & Zuidema 2020, section 3.1: the product takes the residual connections for identities. The rows
    of A sum to 1, so those of A~ do. Rows are those of the class token, or the mean of those of the tokens
    with a place where all are pooled.
    """
    return _attention_graph(subject, "attention-rollout", _rolled)


def last_attention_graph(subject: Subject, _layers: Sequence[Layer] = ()) -> Model:
    """The last block's attention from what the scores are read from, its mean over heads."""
    return _attention_graph(subject, "attention", lambda op, row, maps: op.MatMul(row, maps[-1]))


def _attention_graph(
    subject: Subject, name: str, spread: Callable[[Ops, ir.Value, Sequence[ir.Value]], ir.Value]
) -> Model:
    """The graph of a map of the attentions alone: how far a row over the tokens is spread by them."""
    subject = spelled(subject)
    found = attentions(subject.model, subject.scores.tensor)
    row = _reading(subject, found[0])

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        heads = [_heads(op, values[one.tensor], values[subject.input], one) for one in found]
        maps = [op.ReduceMean(one, op.ints(1), keepdims=0) for one in heads]
        start = op.CastLike(op.constant(row), maps[-1])
        return {MAP: _places(op, op.Squeeze(spread(op, start, maps), op.ints(1)), found[0])}

    key = (name, subject.scores.tensor, subject.keep)
    return subject.rewrite(key, lambda: extend(subject.model, MAP, write, subject.keep))


def _rolled(op: Ops, row: ir.Value, maps: Sequence[ir.Value]) -> ir.Value:
    """The row through each (A + I) / 2, the last block's first: vectors by matrices, never their product."""
    for one in reversed(maps):
        row = op.Mul(op.Add(op.MatMul(row, one), row), 0.5)
    return row


def _reading(subject: Subject, attention: Attention) -> np.ndarray:
    """The share of each token in what the scores are read from, [1, 1, T]."""
    read = read_out(subject.model, subject.scores.tensor) or attention.placed
    row = np.zeros((1, 1, attention.size), np.float32)
    row[..., list(read)] = 1 / len(read)
    return row


def _by_graph(graph: Graph) -> Callable[[Question, Sequence[Layer]], Maps]:
    def maps(question: Question, _layers: Sequence[Layer]) -> Maps:
        return Maps(list(question.run(graph(question.subject, ()))[MAP].astype(np.float64)))

    return maps


def _heads(op: Ops, value: ir.Value, picture: ir.Value, attention: Attention) -> ir.Value:
    """Numbers for each pair of tokens as [N, heads, T, T], of single precision at least."""
    wide = at_least_single(op, value)
    if rank_of(value) == 4:
        return wide
    rest = op.ints(-1, attention.size, attention.size)
    return op.Reshape(wide, op.Concat(op.shape(picture, 0, 1), rest, axis=0))


def _places(op: Ops, row: ir.Value, attention: Attention) -> ir.Value:
    """The numbers [N, T] of those tokens that have a place, as [N, h, w]."""
    first, end = attention.placed.start, attention.placed.stop
    return op.Reshape(
        op.Slice(row, op.ints(first), op.ints(end), op.ints(1)), op.ints(0, *attention.tokens[1:])
    )


def _head(subject: Subject, found: list[Attention]) -> tuple[list[ir.Value], list[ir.Node]] | None:
    """What each block leaves, and the nodes of the model's head; None where it fits no earlier block."""
    left = streams(subject.model, found, subject.scores.tensor) if len(found) > 1 else None
    nodes = None if left is None else head_of(subject.model, left[-1], subject.scores.tensor)
    return None if left is None or nodes is None else (left, nodes)


def _block_scores(subject: Subject, found: list[Attention]) -> Model | None:
    """The model of the sum of all s^l, in which each is a function of its own block's attention alone.

    The gradient of the sum by A^l is that of s^l, for none passes from a block to the one before.
    """
    head = _head(subject, found)
    if head is None:
        return None
    left, nodes = head

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        made = {str(node.outputs[0].name) for node in nodes}
        copies = [node for node in op.graph if node.outputs[0].name in made]
        *earlier, last = (values[str(value.name)] for value in left)
        scores = [values[subject.scores.tensor]]
        for stream in earlier:
            _stop_behind(op, stream)
            given = {last: stream}
            _replay_in_floats(op, copies, given)
            scores.append(given[values[subject.scores.tensor]])
        total = op.Sum(*scores)
        total.shape = values[subject.scores.tensor].shape
        return {_SCORES: total}

    return extend(subject.model, _SCORES, write, subject.keep)


def _stop_behind(op: Ops, stream: ir.Value) -> None:
    """Have all that reads a value read a copy of it that no gradient passes, in place."""
    uses = list(stream.uses())
    copy = op.Identity(stream)
    copy.shape = stream.shape
    node = copy.producer()
    assert node is not None
    node.metadata_props[_STOP] = "yes"
    for use in uses:
        use.node.replace_input_with(use.idx, copy)


def _replay_in_floats(op: Ops, nodes: Sequence[ir.Node], given: dict[ir.Value, ir.Value]) -> None:
    """The head for another block's tokens, less its quantisers: their ranges are those of the last block."""
    for node in nodes:
        before = node.inputs[0].producer() if node.op_type == "DequantizeLinear" and node.inputs[0] else None
        if before is not None and before.op_type == "QuantizeLinear" and before.outputs[0] in given:
            source = before.inputs[0]
            assert source is not None
            given[node.outputs[0]] = given.get(source, source)
        else:
            replay(op, [node], given)


def _rules(subject: Subject) -> RuleSet:
    """The true gradient, straight through quantisers, but for the stops; a score never clips."""
    quantised = any(map(is_quantiser, subject.model.ir_model.graph))
    ends = quantised_scores(subject.model, subject.scores)
    base = unclipped(STRAIGHT_THROUGH, ends) if quantised else GRADIENT
    return base.when(lambda node: _STOP in node.metadata_props, zero_everywhere)


_ONE_TARGET = "it knows no target, and takes no gradient: the map is the same for each"

ATTENTION: tuple[Method, ...] = (
    Method(
        "legrad",
        legrad,
        "pixels",
        "mean over blocks l, heads and queries of ReLU(ds^l / dA^l), s^l the head's score of block l",
        "1 F + 1 B + the head behind each block",
        "Bousselham et al. 2024, arXiv:2404.03214",
        graph=legrad_graph,
        relative=True,
    ),
    Method(
        "attention-rollout",
        _by_graph(rollout_graph),
        "pixels",
        "the class token's row of A~_L ... A~_1, A~ = (mean over heads of A + I) / 2",
        "1 F",
        "Abnar & Zuidema 2020, arXiv:2005.00928",
        _ONE_TARGET,
        graph=rollout_graph,
    ),
    Method(
        "attention",
        _by_graph(last_attention_graph),
        "pixels",
        "the class token's row of the last A, its mean over heads",
        "1 F up to the last attention",
        "Caron et al. 2021, arXiv:2104.14294",
        _ONE_TARGET,
        graph=last_attention_graph,
    ),
)
