"""Which output holds the scores, and which tensor to differentiate: the one before a final Softmax."""

import contextlib
from dataclasses import dataclass

import onnx_ir as ir

from onnxviz.errors import SelectorError, ShapeError, did_you_mean
from onnxviz.graph.families import ELEMENTWISE
from onnxviz.graph.flow import ancestors
from onnxviz.graph.model import Model, shape_of

SQUASHING = ("Softmax", "Sigmoid", "LogSoftmax")
_SAME_ORDER = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Identity", "Dropout")
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
_REARRANGE = (*_SAME_ORDER, *_QUANTISERS, *SQUASHING, *ELEMENTWISE, "Transpose", "Concat", "Slice", "Split")
_NOT_SCORES = ("bool", "string", "int32", "int64", "unknown")


@dataclass(frozen=True)
class Scores:
    """The output read and the tensor differentiated for it, whose elements are in the same order.

    `squashed` names the operator stepped over (None: there is none, and `tensor` is the output or what is
    reshaped to it). `class_axis` is the output's axis of classes (None: it has no one such axis). `batched`
    says whether the output's first axis is the batch; else it holds one picture's answer.
    """

    output: str
    tensor: str
    squashed: str | None
    class_axis: int | None
    shape: tuple[int | str | None, ...]
    batched: bool = True

    @property
    def classes(self) -> int | None:
        """The axis of classes in the answer for one picture, which has no batch axis."""
        return None if self.class_axis is None else self.class_axis - self.batched

    @property
    def has_places(self) -> bool:
        """Whether the output has axes beside batch and class: boxes, anchors, pixels."""
        own = range(self.batched, len(self.shape))
        return any(self.shape[axis] != 1 for axis in own if axis != self.class_axis)


def find_scores(model: Model, output: str | None = None) -> Scores:
    """The scores of a model: of the output named, else of the first that looks like scores.

    That is the first behind a Softmax or Sigmoid with an axis of classes, else the first with exactly one
    axis longer than 1 beside the batch, else the first output of numbers.

    Raises:
        SelectorError: There is no output of that name.
        ShapeError: The rank of the output is not known, or it holds no numbers.
    """
    names = [value.name for value in model.outputs]
    if output is not None:
        if output not in names:
            near = did_you_mean(output, names)
            raise SelectorError(f"no output {output!r}{near}; there are {', '.join(names)}")
        return scores_of(model, output)
    found: list[Scores] = []
    for value in model.outputs:
        if value.dtype not in _NOT_SCORES:
            with contextlib.suppress(ShapeError):
                found.append(scores_of(model, value.name))
    if not found:
        raise ShapeError(f"none of the outputs {', '.join(map(str, model.outputs))} can hold scores")
    behind_softmax = [s for s in found if s.squashed is not None and s.class_axis is not None]
    with_classes = [s for s in found if s.class_axis is not None]
    return (behind_softmax or with_classes or found)[0]


def scores_of(model: Model, output: str) -> Scores:
    """What to differentiate for an output: back over reshapes and quantisers to a Softmax or Sigmoid."""
    value = model.tensor(output)
    shape = shape_of(value)
    if shape is None:
        raise ShapeError(f"the rank of output {output!r} is unknown; give the model's input a shape")
    behind = value
    node = behind.producer()
    while node is not None and node.op_type in (*_SAME_ORDER, *_QUANTISERS) and node.inputs[0] is not None:
        behind = node.inputs[0]
        node = behind.producer()
    if not shape:
        raise ShapeError(f"output {output!r} is one number for the whole batch; name another output")
    batched = not isinstance(shape[0], int) or shape[0] in (1, *_batches(model))
    longer = [axis for axis, size in enumerate(shape) if size != 1 and axis >= batched]
    axis = longer[0] if len(longer) == 1 else None
    if node is None or node.op_type not in SQUASHING or node.inputs[0] is None:
        return Scores(output, _first_floats(value), None, axis, shape, batched)
    if axis is None and node.op_type != "Sigmoid" and behind.shape is not None:
        rank = len(behind.shape)
        normalised = node.attributes.get_int("axis", -1) % rank
        if rank == len(shape):
            axis = normalised
        elif normalised == rank - 1 and behind.shape[-1] == shape[-1]:
            axis = len(shape) - 1
    return Scores(output, _first_floats(node.inputs[0]), node.op_type, axis, shape, batched)


def _batches(model: Model) -> list[int | str | None]:
    """The sizes of the inputs' first axes."""
    return [value.shape[0] for value in model.inputs if value.shape]


def _first_floats(value: ir.Value) -> str:
    """The name of a value, or of the first tensor of floats behind it where it is quantised."""
    while value.dtype is not None and not value.dtype.is_floating_point():
        node = value.producer()
        if node is None or node.inputs[0] is None or node.op_type not in (*_SAME_ORDER, *_QUANTISERS):
            raise ShapeError(f"output {value.name!r} does not hold floats, so nothing leads back from it")
        value = node.inputs[0]
    return str(value.name)


def quantised_scores(model: Model, scores: Scores) -> list[str]:
    """The tensors of integers that the scores are moved and dequantised from; none where they are not."""
    return quantised_origins(model, scores.tensor)


def quantised_origins(model: Model, tensor: str) -> list[str]:
    """The tensors of integers that a tensor is moved and dequantised from; none where it is not."""
    value, found = model.tensor(tensor), list[str]()
    node = value.producer()
    while node is not None and node.op_type in (*_SAME_ORDER, *_QUANTISERS) and node.inputs[0] is not None:
        value = node.inputs[0]
        if value.dtype is not None and value.dtype.is_integer():
            found.append(str(value.name))
        node = value.producer()
    return found


def before_scores(model: Model, scores: Scores) -> set[ir.Value]:
    """The tensors that the scores are computed from and not merely moved or rescaled from.

    Detectors and segmenters end in operators that rearrange what their last convolutions answered: those
    tensors hold the scores themselves, and are left out.
    """
    target = model.tensor(scores.tensor)
    themselves: set[ir.Value] = set()
    pending = [target]
    while pending:
        value = pending.pop()
        node = value.producer()
        if value in themselves or node is None:
            continue
        themselves.add(value)
        if node.op_type in _REARRANGE:
            pending.extend(v for v in node.inputs if v is not None)
    return ancestors([target]) - themselves
