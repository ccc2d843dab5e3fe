"""The standard's conformance cases, as models of tensors, and of floats where that can be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
from onnx.backend.test.case.test_case import TestCase

from onnxviz._reference.arrays import Array

_TYPES = onnx.TensorProto
FLOATS = (_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.BFLOAT16)
# Which inputs of the operators on integers are data; those of the others are taken as they are.
_DATA = {
    "DequantizeLinear": (0,),
    "QLinearMatMul": (0, 3),
    "QLinearConv": (0, 3),
    "MatMulInteger": (0, 1),
    "ConvInteger": (0, 1),
}
_QUANTISERS = (*_DATA, "QuantizeLinear", "DynamicQuantizeLinear")
# What is defined on [-1, 1] alone, and quantisers, whose scales may be tiny, are nudged inwards.
_INWARDS = {"Asin", "Acos", "Atanh", *_QUANTISERS}


@dataclass(frozen=True)
class Case:
    """A case of the suite: a model, what to feed it, and what it must make, how closely."""

    name: str
    operator: str
    model: onnx.ModelProto
    feeds: Mapping[str, Array]
    expected: Mapping[str, Array]
    relative: float
    absolute: float

    @property
    def sources(self) -> list[str]:
        """The inputs of floats."""
        return _of_floats(self.model.graph.input)

    @property
    def targets(self) -> list[str]:
        """The outputs of floats."""
        return _of_floats(self.model.graph.output)

    @property
    def nudged(self) -> dict[str, Array]:
        """What to feed in float64, a little off: no ties, no zeros, no ends of ranges.

        What is infinite stays so, for masks hold infinities; but no remainder is left of one.
        """
        operators = {node.op_type for node in self.model.graph.node}
        rng = np.random.default_rng(0)
        nudged = dict(self.feeds)
        for name in self.sources:
            x, noise = self.feeds[name].astype(np.float64), rng.uniform(0.002, 0.02, self.feeds[name].shape)
            if "Mod" in operators:
                x = np.where(np.isfinite(x), x, 2.5)
            nudged[name] = x * (1 - 5 * noise) if operators & _INWARDS else x + noise
        return nudged


def suite() -> list[Case]:
    """All cases of `load_model_tests(kind="node")`, in the order of their names."""
    with np.errstate(all="ignore"):  # the suite computes infinities on purpose
        loaded = onnx.backend.test.loader.load_model_tests(kind="node")
    tests = {test.name: test for test in sorted(loaded, key=lambda test: test.name)}
    # A case's twin, expanded by a function body, is named after it.
    return [_case(test, tests.get(name.partition("_expanded")[0], test)) for name, test in tests.items()]


def _case(test: TestCase, twin: TestCase) -> Case:
    """A case whose sequences and optionals are made of tensors and taken apart inside its model."""
    assert test.model is not None
    assert twin.model is not None
    assert test.data_sets
    proto = onnx.ModelProto()
    proto.CopyFrom(test.model)
    given, results = test.data_sets[0]
    inputs, outputs, nodes = list(proto.graph.input), list(proto.graph.output), list(proto.graph.node)
    for field in (proto.graph.input, proto.graph.output, proto.graph.node):
        del field[:]
    feeds, expected = dict[str, Array](), dict[str, Array]()
    before, after = list[onnx.NodeProto](), list[onnx.NodeProto]()
    for info, data in zip(inputs, given, strict=True):
        parts = _named_parts(info, data)
        feeds |= parts
        proto.graph.input.extend(_infos(info, parts))
        before += _put_together(info, list(parts))
    for info, data in zip(outputs, results, strict=True):
        parts = _named_parts(info, data)
        expected |= parts
        proto.graph.output.extend(_infos(info, parts))
        after += _taken_apart(info, list(parts))
    proto.graph.node.extend([*before, *nodes, *after])
    for node in proto.graph.node:
        if node.op_type == "Dropout" and not any(attribute.name == "seed" for attribute in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("seed", 0))
    if any(node.op_type in _QUANTISERS for node in nodes):
        _in_floats(proto, feeds, expected)
    operator = twin.model.graph.node[0].op_type
    return Case(test.name, operator, proto, feeds, expected, test.rtol, test.atol)


def _named_parts(info: onnx.ValueInfoProto, data: Any) -> dict[str, Array]:
    """The tensors in an input or output, by the names that they get."""
    if info.type.HasField("tensor_type"):
        return {info.name: _array(data)}
    parts = [] if data is None else data if isinstance(data, list) else [data]
    return {f"{info.name}_{place}": _array(part) for place, part in enumerate(parts)}


def _put_together(info: onnx.ValueInfoProto, parts: Sequence[str]) -> Iterator[onnx.NodeProto]:
    """Nodes that make a sequence or an optional of tensors."""
    kind, optional = info.type, info.type.HasField("optional_type")
    if kind.HasField("tensor_type"):
        return
    inner = kind.optional_type.elem_type if optional else kind
    held = [f"{info.name}_held" if optional else info.name]
    if not inner.HasField("sequence_type"):
        held = list(parts)
    elif parts:
        yield onnx.helper.make_node("SequenceConstruct", parts, held)
    else:
        of = inner.sequence_type.elem_type.tensor_type.elem_type
        yield onnx.helper.make_node("SequenceEmpty", [], held, dtype=of)
    if optional:
        empty = {} if held else {"type": inner}
        yield onnx.helper.make_node("Optional", held, [info.name], **empty)


def _taken_apart(info: onnx.ValueInfoProto, parts: Sequence[str]) -> Iterator[onnx.NodeProto]:
    """Nodes that give the tensors in a sequence or an optional."""
    kind, held = info.type, info.name
    if kind.HasField("tensor_type"):
        return
    if kind.HasField("optional_type"):
        kind = kind.optional_type.elem_type
        held = f"{info.name}_held" if kind.HasField("sequence_type") else parts[0]
        yield onnx.helper.make_node("OptionalGetElement", [info.name], [held])
    if kind.HasField("sequence_type"):
        for place, part in enumerate(parts):
            yield onnx.helper.make_node("Constant", [], [f"{part}_at"], value_int=place)
            yield onnx.helper.make_node("SequenceAt", [held, f"{part}_at"], [part])


def _in_floats(proto: onnx.ModelProto, feeds: dict[str, Array], expected: dict[str, Array]) -> None:
    """Let integers that stand for numbers come from floats by a quantiser of scale 1, and go as floats."""
    graph, float32 = proto.graph, _TYPES.FLOAT
    data = {node.input[place] for node in graph.node for place in _DATA.get(node.op_type, ())}
    for info in graph.input:
        if info.name not in data or info.type.tensor_type.elem_type in FLOATS:
            continue
        inner = f"{info.name}_integer"
        for node in graph.node:
            node.input[:] = [inner if name == info.name else name for name in node.input]
        for place, (suffix, number) in enumerate(
            {"scale": np.ones((), np.float32), "zero": np.zeros((), feeds[info.name].dtype)}.items()
        ):
            tensor = onnx.numpy_helper.from_array(number)
            graph.node.insert(
                place, onnx.helper.make_node("Constant", [], [f"{inner}_{suffix}"], value=tensor)
            )
        read = [info.name, f"{inner}_scale", f"{inner}_zero"]
        graph.node.insert(2, onnx.helper.make_node("QuantizeLinear", read, [inner]))
        info.type.tensor_type.elem_type = float32
        feeds[info.name] = feeds[info.name].astype(np.float32)
    for info in graph.output:
        if info.type.tensor_type.elem_type in FLOATS:
            continue
        outer = f"{info.name}_float"
        graph.node.append(onnx.helper.make_node("Cast", [info.name], [outer], to=float32))
        expected[outer] = expected.pop(info.name).astype(np.float32)
        info.name, info.type.tensor_type.elem_type = outer, float32


def _of_floats(infos: Sequence[onnx.ValueInfoProto]) -> list[str]:
    return [info.name for info in infos if info.type.tensor_type.elem_type in FLOATS]


def _infos(info: onnx.ValueInfoProto, parts: Mapping[str, Array]) -> list[onnx.ValueInfoProto]:
    """The declarations of the tensors in an input or output."""
    if info.type.HasField("tensor_type"):
        return [info]
    return [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in parts.items()
    ]


def _array(data: Any) -> Array:
    return onnx.numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else np.asarray(data)
