"""Ablation-CAM: how much of the score each channel holds up."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.attribution.fragments import weighted
from onnxviz.methods.attribution.looped import Asked, along, counting, loop, looped, turned
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import Question, Subject
from onnxviz.methods.attribution.shared import by_picture, maps_of, nothing, scores_of
from onnxviz.methods.attribution.tail import tail_of
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track


def ablation_cam(question: Question, layers: Sequence[Layer]) -> Maps:
    """sum_k w_k A_k with w_k = (S - S_k) / |S| (Desai & Ramaswamy 2020).

    S_k is the score with channel k set to zero, in all its places. The paper divides by S, whose sign turns
    the map over where the score is negative, as raw scores often are; |S| is the same where it is not. A
    score of zero divides nothing.

    Only what follows the layer is run: once as it is, and once without each channel. What goes round the
    layer (a skip connection) keeps its value.
    """
    [layer] = layers
    raw: dict[int, Array] = {}
    for numbers in track(by_picture(question), f"ablating {layer.name}"):
        maps, whole, without = _ablated(question, layer, numbers)
        size = np.abs(whole)
        weights = (whole - without) / np.where(size > 0, size, 1)
        raw |= zip(numbers, np.tensordot(weights, maps, axes=1), strict=True)
    return Maps([raw[number] for number in range(len(question))])


def ablation_graph(subject: Subject, layers: Sequence[Layer]) -> Model:
    """Ablation-CAM as one graph: a turn of a loop for each channel.

    Raises:
        DisconnectedError: The scores do not depend on the layer.
    """
    [layer] = layers

    def write(op: Ops, asked: Asked) -> ir.Value:
        a, axis = asked.activation, layer.channel
        assert axis is not None
        count = op.Gather(op.Shape(a), op.scalar(axis))
        numbers = along(op, counting(op, count), axis, a)

        def without(inside: Ops, channel: ir.Value) -> ir.Value:
            kept = inside.Where(inside.Equal(numbers, channel), asked.nothing, a)
            return asked.again(inside, a, kept)

        whole = asked.score(op, asked.scores)
        size = op.Abs(whole)
        lost = op.Sub(whole, loop(op, count, without))
        weights = op.Div(lost, op.Where(op.Equal(size, 0), 1, size))
        maps = asked.maps(op)
        return weighted(op, turned(op, weights, maps.dtype), maps)

    return looped(subject, layer, "ablation", write)


def _ablated(question: Question, layer: Layer, numbers: Sequence[int]) -> tuple[Array, Array, Array]:
    """One picture's maps [C, h, w], its targets' scores [T, 1], and those without each channel [T, C]."""
    assert layer.channel is not None
    tail = tail_of(question, layer, numbers[0])
    absent = np.moveaxis(nothing(question, layer, tail.activation), layer.channel, 1)
    whole = scores_of(question, numbers, tail.rows(tail.activation))
    without = []
    for start, stop in track(list(batches(absent.shape[1], tail.at_once)), "channels"):
        copies = np.repeat(tail.activation, stop - start, axis=0)
        own = np.moveaxis(copies, layer.channel, 1)
        own[range(stop - start), range(start, stop)] = absent[0, start:stop]
        without.append(scores_of(question, numbers, tail.rows(copies)))
    return maps_of(question, layer, tail.activation), whole, np.concatenate(without, axis=1)


ABLATIONS = (
    Method(
        "ablation-cam",
        ablation_cam,
        "layer",
        "sum_k w_k A_k with w_k = (S - S without channel k) / |S|",
        "1 F + what follows the layer, C times",
        "Desai & Ramaswamy 2020, WACV",
        caveat="divided by |S|: by S, as in the paper, it would turn over where the score is negative",
        graph=ablation_graph,
    ),
)
