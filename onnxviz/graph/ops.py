"""`Ops`: write ONNX nodes as calls."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.tape import Tape

from onnxviz.errors import ModelError, ShapeError

Operand: TypeAlias = "ir.Value | float | int | npt.NDArray[Any] | None"

_FIXED_TYPE = {
    **dict.fromkeys(["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"], ir.DataType.BOOL),
    **dict.fromkeys(["Not", "And", "Or", "Xor", "IsInf", "IsNaN"], ir.DataType.BOOL),
    **dict.fromkeys(["Shape", "Size", "SequenceLength", "NonZero", "ArgMax", "ArgMin"], ir.DataType.INT64),
}
# Which input a result has the type of, where that is not the first that is not a condition.
_TYPED_BY = {
    **dict.fromkeys(["Unsqueeze", "Squeeze", "Reshape", "Expand", "Transpose"], 0),
    "CastLike": 1,
    "OneHot": 2,
}
_MAKES_SEQUENCES = ("SequenceConstruct", "SequenceErase", "SequenceInsert", "SequenceMap", "SplitToSequence")


class Ops:
    """Append nodes to a graph: ``op.Mul(x, 2.0)`` returns the output value.

    Plain numbers become constants of the first typed operand's type and are written once. New values
    carry their element type, and a prefix that no name of the model begins with.
    """

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        """Write to `graph`, with names that begin with `prefix` (numbered if the model has used it)."""
        taken = [str(name) for name in ir.convenience.create_value_mapping(graph)]
        taken += [node.name or "" for node in graph]
        tries = (f"{prefix}{'' if n == 1 else n}/" for n in itertools.count(1))
        self.prefix = next(p for p in tries if not any(name.startswith(p) for name in taken))
        self.opset_imports: Mapping[str, int] = graph.opset_imports
        self.graph = graph
        self._tape = self._root = Tape(graph)
        self._shapes: dict[tuple[ir.Value, int | None, int | None], ir.Value] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._weights: dict[ir.Value, ir.Value] = {}
        self._numbers = itertools.count(1)

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        """``op.Relu(x)``: one node of that operator with one output."""
        if op_type.startswith("_"):
            raise AttributeError(op_type)
        return lambda *inputs, **attributes: self.emit(op_type, inputs, attributes)[0]

    @property
    def nodes(self) -> Sequence[ir.Node]:
        """What has been written so far."""
        return self._tape.nodes

    def inside(self, graph: ir.Graph) -> Self:
        """The same for a graph nested in this one: all names differ, and constants stay outside."""
        nested = copy.copy(self)
        nested.graph, nested._tape, nested._shapes = graph, Tape(graph), {}
        return nested

    def emit(
        self,
        op_type: str,
        inputs: Sequence[Operand],
        attributes: Mapping[str, Any],
        outputs: int = 1,
        domain: str = "",
    ) -> tuple[ir.Value, ...]:
        """Append one node and return its outputs; attributes that are None are left out."""
        # The condition of a Where and the indices of a gather say nothing of what a literal should be.
        typed = [v.dtype for v in inputs if isinstance(v, ir.Value) and v.dtype is not None]
        like = next((t for t in typed if t != ir.DataType.BOOL), typed[0] if typed else ir.DataType.FLOAT)
        values = [self.lift(v, like) for v in inputs]
        teller = values[_TYPED_BY[op_type]] if op_type in _TYPED_BY else None
        kind = like if teller is None or teller.dtype is None else teller.dtype
        produced = [ir.Value(name=self._name(op_type), type=self._type_of(op_type, attributes, kind))]
        produced += [ir.Value(name=self._name(op_type)) for _ in range(outputs - 1)]
        given = {name: value for name, value in attributes.items() if value is not None}
        self._tape.op_multi_out(
            op_type, values, given, outputs=produced, domain=domain, name=produced[0].name
        )
        return tuple(produced)

    def lift(self, operand: Operand, like: ir.DataType = ir.DataType.FLOAT) -> ir.Value | None:
        """An operand as a graph value; a number takes the type `like`, an array keeps its own."""
        if operand is None or isinstance(operand, ir.Value):
            return operand
        return self.constant(
            operand if isinstance(operand, np.ndarray) else np.asarray(operand, like.numpy())
        )

    def constant(self, array: npt.NDArray[Any]) -> ir.Value:
        """A constant of the graph; the same one for the same content."""
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._root.initializer(ir.tensor(array), self._name("constant"))
        return self._constants[key]

    def weight(self, value: ir.Value) -> ir.Value:
        """A weight of a nested graph as one of the whole graph."""
        assert value.const_value is not None
        if value not in self._weights:
            self._weights[value] = self._root.initializer(value.const_value, self._name("weight"))
        return self._weights[value]

    def ints(self, *numbers: int) -> ir.Value:
        """A constant vector of int64: axes, shapes, pads."""
        return self.constant(np.array(numbers, np.int64))

    def scalar(self, number: int) -> ir.Value:
        """A constant int64 of rank 0."""
        return self.constant(np.array(number, np.int64))

    def shape(self, value: ir.Value, start: int | None = None, end: int | None = None) -> ir.Value:
        """The shape of a value, or part of it, as int64: a constant where it is known, else computed."""
        if value.shape is not None:
            dims = list(value.shape)[start:end]
            if all(isinstance(dim, int) for dim in dims):
                return self.ints(*(int(dim) for dim in dims))  # type: ignore[arg-type]
        key = (value, start, end)
        if key not in self._shapes:
            self._shapes[key] = self.Shape(value, start=start, end=end)
        return self._shapes[key]

    def reshape_like(self, value: ir.Value, like: ir.Value) -> ir.Value:
        """`value` with the shape of `like`."""
        return self.Reshape(value, self.shape(like), allowzero=1)

    def zeros_like(self, value: ir.Value) -> ir.Value:
        """Zeros of a value's type and shape."""
        return self.full(self.shape(value), 0, value.dtype or ir.DataType.FLOAT)

    def full(self, shape: ir.Value, number: float, dtype: ir.DataType) -> ir.Value:
        """A tensor of one number, of a shape that may be computed."""
        return self.ConstantOfShape(shape, value=ir.tensor(np.full(1, number, dtype.numpy())))

    def nested(self, inputs: Sequence[ir.Value], write: Callable[..., Sequence[ir.Value]]) -> ir.Graph:
        """The graph with those inputs whose outputs `write(op, *inputs)` returns."""
        graph = ir.Graph(inputs, [], nodes=[], name="body")
        inside = self.inside(graph)
        graph.outputs.extend(inside.returned(write(inside, *inputs)))
        return graph

    def placeholder(self, like: ir.Value, kind: ir.TypeProtocol | None = None) -> ir.Value:
        """What a nested graph is fed: a value of another's shape, and of its type or the type `kind`."""
        return ir.Value(name=self._name("input"), type=kind or like.type, shape=like.shape)

    def element(self, sequence: ir.Value) -> ir.Value:
        """A placeholder for an element of a sequence, of any shape."""
        assert sequence.dtype is not None
        return ir.Value(name=self._name("element"), type=ir.TensorType(sequence.dtype))

    def returned(self, values: Sequence[ir.Value]) -> list[ir.Value]:
        """Values as a nested graph may return them: each made inside, and each once."""
        made = {value for node in self.nodes for value in node.outputs}
        answers: list[ir.Value] = []
        for value in values:
            if value in made and value not in answers:
                answers.append(value)
            else:
                (same,) = self.emit("Identity", [value], {})
                same.type, same.shape = value.type, value.shape
                answers.append(same)
        return answers

    def _type_of(
        self, op_type: str, attributes: Mapping[str, Any], like: ir.DataType
    ) -> ir.TensorType | ir.SequenceType:
        tells = attributes.get({"Cast": "to", "ConstantOfShape": "value"}.get(op_type, ""))
        if tells is not None:
            tells = tells.value if isinstance(tells, ir.Attr) else tells
            return ir.TensorType(ir.DataType(tells) if op_type == "Cast" else tells.dtype)
        tensor = ir.TensorType(_FIXED_TYPE.get(op_type, like))
        return ir.SequenceType(tensor) if op_type in _MAKES_SEQUENCES else tensor

    def _name(self, stem: str) -> str:
        return f"{self.prefix}{stem}_{next(self._numbers)}"


def rank_of(value: ir.Value) -> int:
    """The number of axes of a value.

    Raises:
        ShapeError: It is unknown.
    """
    if value.shape is None:
        raise ShapeError(
            f"the rank of tensor {value.name!r} is unknown; give the model's input a shape "
            "(Model.resized, --input-shape)"
        )
    return len(value.shape)


def constant_of(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The array behind a value that is a weight or a Constant node, else None.

    Raises:
        ModelError: Its file cannot be read.
    """
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    try:
        return None if tensor is None else tensor.numpy()
    except (OSError, ValueError) as err:
        raise ModelError(f"the weights of {value.name!r} cannot be read: {err}") from err
