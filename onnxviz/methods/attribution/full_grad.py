"""FullGrad: what the input and every bias add to the score, laid over one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxviz.graph.extend import extend
from onnxviz.graph.feature_maps import flattened, restored
from onnxviz.graph.flow import ancestors, dependents
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops, rank_of
from onnxviz.graph.resample import resized
from onnxviz.methods.attribution.cams import floats_at
from onnxviz.methods.attribution.method import MAP, Maps, Method, completeness
from onnxviz.methods.attribution.question import Question, Subject

_TOTAL = "onnxviz.total"

# Where an operator names its bias, and the axis of the output along which it lies (None: the last ones).
_BIASES = {"Conv": (2, 1), "ConvTranspose": (2, 1), "Gemm": (2, None), "LayerNormalization": (2, None)}


@dataclass(frozen=True)
class _Bias:
    """A tensor, and the name of the value that was added to make it, along an axis or to the last ones."""

    tensor: str
    value: str | None
    axis: int | None
    normalisation: tuple[str, ...] = ()
    epsilon: float = 0.0

    def written(self, op: Ops, values: Mapping[str, ir.Value]) -> ir.Value:
        """The bias, ready to be multiplied with the tensor."""
        if self.value is not None:
            bias = values[self.value]
        else:
            scale, shift, mean, variance = (values[name] for name in self.normalisation)
            spread = op.Sqrt(op.Add(variance, self.epsilon))
            bias = op.Sub(shift, op.Div(op.Mul(mean, scale), spread))
        if self.axis is None:
            return bias
        after = rank_of(values[self.tensor]) - self.axis - 1
        return op.Reshape(bias, op.ints(-1, *[1] * after))


def full_grad(question: Question, layers: Sequence[Layer]) -> Maps:
    """psi(x dS/dx) + sum over layers and channels of psi(b dS/dz) (Srinivas & Fleuret 2019, equation 7).

    b is what a layer adds to its linear part z: the bias of a convolution, a dense layer or a normalisation,
    or a constant that is added. psi takes the magnitude, scales each layer's to [0, 1], and resizes. Dense
    layers have no places and count for the completeness alone, which holds where all else is linear by
    pieces.
    """
    model = full_grad_graph(question.subject, layers)
    found = question.run(model)
    checks = completeness(list(found[_TOTAL]), question.values())
    return Maps(list(found[MAP].astype(np.float64)), model.rules, "graph", checks=checks)


def full_grad_graph(subject: Subject, _layers: Sequence[Layer] = ()) -> Model:
    """The model of FullGrad's map [N, H, W] and of what all of it sums to, [N]."""
    biases = _biases(subject)
    layers = {layer.tensor: layer for layer in subject.model.layers}
    at = [subject.input, *(bias.tensor for bias in biases)]
    derived = subject.gradient(at, "auto", at)

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        slopes = {name: values[derived.gradients[name]] for name in at}
        picture = values[subject.input]
        pixels, slope = floats_at(op, subject.model, derived, subject.input, values)
        given = _picture_layer(subject)
        shares: list[tuple[Layer | None, ir.Value]] = [(given, op.Mul(slope, pixels))]
        shares += [
            (layers.get(bias.tensor), op.Mul(slopes[bias.tensor], bias.written(op, values)))
            for bias in biases
        ]
        size = [op.Squeeze(op.shape(picture, axis, axis + 1)) for axis in given.grid]
        planes = [
            resized(op, _plane(op, layer, share), *size)
            for layer, share in shares
            if layer is not None and layer.channel is not None and (len(layer.grid) == 2 or layer.tokens)
        ]
        rows = op.Concat(op.Shape(picture, start=0, end=1), op.ints(-1), axis=0)
        total = [op.ReduceSum(op.Reshape(share, rows), op.ints(1), keepdims=0) for _, share in shares]
        return {MAP: op.Sum(*planes), _TOTAL: op.Sum(*total)}

    return subject.rewrite(("full-grad",), lambda: extend(derived, MAP, write, subject.keep))


def _plane(op: Ops, layer: Layer, share: ir.Value) -> ir.Value:
    """The magnitudes of a layer's share, scaled to [0, 1] over all of it and summed over its channels."""
    flat = op.Abs(flattened(op, share, layer))
    lowest = op.ReduceMin(flat, op.ints(1, 2), keepdims=1)
    span = op.Sub(op.ReduceMax(flat, op.ints(1, 2), keepdims=1), lowest)
    scaled = op.Div(op.Sub(flat, lowest), op.Where(op.Equal(span, 0), 1, span))
    return restored(op, op.ReduceSum(scaled, op.ints(1), keepdims=0), share, layer)


def _picture_layer(subject: Subject) -> Layer:
    """The model's input, as a layer."""
    info = next(value for value in subject.model.inputs if value.name == subject.input)
    rows = subject.rows
    channel = ({1, 2, 3} - {rows, rows + 1}).pop()
    return Layer(-1, info.name, info.name, "Input", None, info.shape, 0, 0, None, (rows, rows + 1), channel)


def _biases(subject: Subject) -> list[_Bias]:
    """All that is added on the way from the picture to the scores."""
    graph = subject.model.ir_model.graph
    behind = dependents(graph, [subject.model.tensor(subject.input)])
    needed = ancestors([subject.model.tensor(subject.scores.tensor)])
    moving = dependents(graph, graph.inputs)
    found = []
    for node in graph:
        tensor = node.outputs[0]
        if tensor not in needed or tensor not in behind or tensor.dtype is None:
            continue
        if not tensor.dtype.is_floating_point():
            continue
        if node.op_type in _BIASES:
            place, axis = _BIASES[node.op_type]
            given = node.inputs[place] if len(node.inputs) > place else None
            if given is not None and given not in moving:
                found.append(_Bias(str(tensor.name), str(given.name), axis))
        elif node.op_type == "BatchNormalization":
            names = tuple(str(value.name) for value in node.inputs[1:5] if value is not None)
            epsilon = node.attributes.get_float("epsilon", 1e-5)
            found.append(_Bias(str(tensor.name), None, 1, names, epsilon))
        elif node.op_type == "Add":
            fixed = [value for value in node.inputs if value is not None and value not in moving]
            found += [_Bias(str(tensor.name), str(value.name), None) for value in fixed]
    return found


FULL_GRAD = Method(
    "full-grad",
    full_grad,
    "pixels",
    "|x dS/dx| and every layer's |b dS/dz|, each scaled to [0, 1], summed",
    "1 F + 1 B, all layers",
    "Srinivas & Fleuret 2019, arXiv:1905.00780",
    caveat="it shows how much each place matters, not whether for or against the target",
    graph=full_grad_graph,
)
