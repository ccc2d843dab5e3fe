"""Shape inference: onnx's own, helped where it loses track of what is known.

A shape may hang on numbers that the graph computes from constants and from sizes. Onnx follows them through
a few operators; the others are computed here, and lent to its inference as constants.
"""

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.shape_inference
from onnx.external_data_helper import uses_external_data

from onnxviz.graph.contrib_shapes import put_stand_ins

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int | str | None, ...]
Numbers: TypeAlias = ChainMap[str, Array | None]
Shapes: TypeAlias = ChainMap[str, Shape | None]

_ROUNDS = 12  # what is lent makes shapes known, and these make numbers known
_SMALL = 1024  # elements
# An untrusted file may hold many nodes: elements, of which computing one more tensor costs some.
_BUDGET, _COST = 2**20, 64
_SHADOW = "onnxviz shadow"  # begins the names of what no model has

# What onnx's evaluator and every runtime compute alike.
_ELEMENTWISE = frozenset(
    ["Abs", "Add", "And", "Cast", "Ceil", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual"]
).union(["Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Sqrt", "Sub", "Where"])
_MOVING = frozenset(
    ["Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"]
)
_MAKING = frozenset(
    ["ConstantOfShape", "Expand", "NonZero", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"]
)
_PLAIN = _ELEMENTWISE | _MOVING | _MAKING


def infer_shapes(proto: onnx.ModelProto, strict: bool = False) -> onnx.ModelProto:
    """The model with the types and shapes that can be told, its nodes as they are.

    Raises:
        InferenceError: The graph contradicts itself; if `strict`, also where only a declared shape does.
    """
    inferred = _copy(proto)
    foreign = put_stand_ins(inferred.graph)
    inferred = told = _inferred(inferred, strict)
    if foreign:
        inferred = _copy(proto)
        _take_over(told.graph, inferred.graph)
    # The body of a local function may be anything, whatever its name; they are inlined on loading.
    if not proto.functions and _lacks_ranks(told.graph):
        _take_over(_helped(told).graph, inferred.graph)
    return inferred


def known_sizes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes, of the outer graph's tensors, of which every size can be told.

    One walk in which each node's shape follows from the sizes and numbers known before it: what takes a shape
    from a tensor whose shape was computed, again and again, needs no more rounds than one.

    Raises:
        InferenceError: The graph contradicts itself.
    """
    told = infer_shapes(proto)
    opsets = {entry.domain: entry.version for entry in told.opset_import}
    lender, graph = _Lender(opsets), told.graph
    types = {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
    types |= {tensor.name: _info(tensor).type for tensor in graph.initializer}
    shapes: Shapes = ChainMap({name: _shape(kind) for name, kind in types.items() if _is_told(kind)})
    numbers: Numbers = ChainMap({tensor.name: _small(tensor) for tensor in graph.initializer})
    for node in graph.node:
        numbers.update(dict.fromkeys(node.output))
        made = lender.made(node, shapes, numbers)
        for name, array in zip(node.output, made, strict=False):
            if array is not None and array.size <= _SMALL and not _has_symbols(array) and name:
                numbers[name] = array = array.astype(np.int64) if array.dtype == object else array
                shapes[name], types[name] = array.shape, _info(onnx.numpy_helper.from_array(array, name)).type
        if not all(_is_static(shapes.get(name)) for name in node.output if name):
            for name, kind in _inferred_alone(node, types, numbers, told).items():
                types[name], shapes[name] = kind, _shape(kind)
    return {name: shape for name, shape in shapes.items() if shape is not None and _is_static(shape)}  # type: ignore[misc]


def _inferred_alone(
    node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], numbers: Numbers, model: onnx.ModelProto
) -> Mapping[str, onnx.TypeProto]:
    """The types of one node's outputs, from what is known of its inputs; none where that fails."""
    known = {name: numbers.get(name) for name in node.input}
    given = {
        name: onnx.numpy_helper.from_array(array, name)
        for name, array in known.items()
        if array is not None and array.dtype != object
    }
    try:
        version = {entry.domain: entry.version for entry in model.opset_import}[node.domain]
        return onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, version, node.domain),
            node,
            {name: types[name] for name in node.input if name in types},
            given,
            opset_imports=list(model.opset_import),
            ir_version=model.ir_version,
        )
    except Exception:  # odd graphs fail in many ways; their shapes are unknown then
        return {}


def _is_static(shape: Shape | None) -> bool:
    return shape is not None and all(isinstance(size, int) for size in shape)


def _has_symbols(array: Array) -> bool:
    return array.dtype == object and not all(isinstance(size, int) for size in array.flat)


def _helped(told: onnx.ModelProto) -> onnx.ModelProto:
    """The model with what is known lent to it, and all that onnx tells then; no runtime would take it."""
    lender = _Lender({entry.domain: entry.version for entry in told.opset_import})
    for _ in range(_ROUNDS):
        shadow = _copy(told)
        shadow.ir_version = max(shadow.ir_version, 4)  # since which constants need not be inputs
        if not lender.lend(shadow.graph):
            break
        try:
            told = _inferred(shadow)
        except onnx.shape_inference.InferenceError:
            break
        if not _lacks_ranks(told.graph):
            break
    return told


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _inferred(proto: onnx.ModelProto, strict: bool = False) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(proto, strict_mode=strict, data_prop=True)


def _lacks_ranks(graph: onnx.GraphProto) -> bool:
    """Whether a node, in the graph or in a nested one, makes a tensor of unknown rank."""
    told = {value.name for value in (*graph.value_info, *graph.output) if _is_told(value.type)}
    told.update(tensor.name for tensor in graph.initializer)
    made = (name for node in graph.node for name in node.output if name)
    return not told.issuperset(made) or any(map(_lacks_ranks, _nested(graph.node)))


def _is_told(kind: onnx.TypeProto) -> bool:
    what = kind.WhichOneof("value")
    return what is not None and (what != "tensor_type" or kind.tensor_type.HasField("shape"))


def _take_over(told: onnx.GraphProto, graph: onnx.GraphProto) -> None:
    """Write what the shadow says of a graph's own tensors into it, in place."""
    made = {name for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    known = {value.name: value for value in graph.value_info}
    for value in (*told.value_info, *told.output, *map(_info, told.initializer)):
        if value.name in made and (value.name not in known or _is_told(value.type)):
            known[value.name] = value
    inner = [value for name, value in known.items() if name not in outputs]
    del graph.value_info[:]
    graph.value_info.extend(inner)
    for mine, theirs in ((graph.input, told.input), (graph.output, told.output)):
        for value, other in zip(mine, theirs, strict=False):
            if value.name in known or value.name == other.name:
                value.CopyFrom(known.get(value.name, other))
    for own, other in zip(_nested(graph.node), _nested(told.node), strict=False):
        _take_over(other, own)


def _info(tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)


def _nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


class _Lender:
    """Computes what follows from constants and sizes, and writes it into a graph as constants."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = opsets
        self._left = _BUDGET
        self._news = False

    def lend(self, graph: onnx.GraphProto) -> bool:
        """Add what is known, in place; whether anything was new."""
        self._news = False
        self._walk(graph, ChainMap(), ChainMap())
        return self._news

    def _walk(self, graph: onnx.GraphProto, shapes: Shapes, numbers: Numbers) -> Numbers:
        """What is known inside a graph, from what is known around it.

        A tensor of sizes some of which are known is an array of objects.
        """
        own = [*(value.name for value in graph.input), *(name for node in graph.node for name in node.output)]
        shapes, numbers = shapes.new_child(dict.fromkeys(own)), numbers.new_child(dict.fromkeys(own))
        for value in (*graph.input, *graph.value_info, *graph.output):
            if _is_told(value.type):
                shapes[value.name] = _shape(value.type)
        for tensor in graph.initializer:
            shapes[tensor.name] = tuple(tensor.dims)
            numbers[tensor.name] = _small(tensor)
        self._news |= _say_axes(graph, shapes)
        for node in graph.node:
            for name in node.input:
                if name not in numbers.maps[0] and numbers.get(name) is not None and self._left > 0:
                    self._keep(graph, numbers, name, numbers[name])
            if node.op_type == "If" and not node.domain:
                made = self._branch(node, shapes, numbers)
            else:
                for inner in _nested([node]):
                    self._walk(inner, shapes, numbers)
                made = self.made(node, shapes, numbers)
            for name, array in zip(node.output, made, strict=False):
                if name and numbers[name] is None:
                    self._keep(graph, numbers, name, array, lent=node.op_type != "Constant")
        return numbers

    def _keep(
        self, graph: onnx.GraphProto, numbers: Numbers, name: str, array: Array | None, lent: bool = True
    ) -> None:
        if array is None or array.size > _SMALL or array.dtype.kind not in "biufO":
            return
        if array.dtype == object and all(isinstance(size, int) for size in array.flat):
            array = array.astype(np.int64)
        numbers[name] = array
        self._left -= array.size if lent else 0
        if lent and array.dtype != object:
            graph.initializer.append(onnx.numpy_helper.from_array(array, name))
            self._news = True

    def _branch(self, node: onnx.NodeProto, shapes: Shapes, numbers: Numbers) -> Sequence[Array | None]:
        """What an If makes; where its condition is known, the idle branch is made to make the same."""
        flag = numbers.get("".join(node.input[:1]))
        branches = {attribute.name: attribute.g for attribute in node.attribute}
        inside = {name: self._walk(graph, shapes, numbers) for name, graph in branches.items()}
        if flag is None or flag.size != 1 or set(branches) != {"then_branch", "else_branch"}:
            return []
        run, idle = ("then_branch", "else_branch") if flag.item() else ("else_branch", "then_branch")
        made = branches[run].output
        same = [onnx.ValueInfoProto(name=f"{_SHADOW}/{y.name}", type=y.type) for y in made]
        self._news |= same != list(branches[idle].output)
        del branches[idle].output[:]
        branches[idle].output.extend(same)
        return [inside[run].get(y.name) for y in made]

    def made(self, node: onnx.NodeProto, shapes: Shapes, numbers: Numbers) -> Sequence[Array | None]:
        """The outputs of a node that is plain, and whose inputs are known."""
        if node.domain or self._left <= 0 or all(numbers[name] is not None for name in node.output):
            return []
        try:
            if node.op_type == "Constant":
                return [_constant(node)]
            if node.op_type in ("Shape", "Size"):
                return [_sizes(node, shapes.get(node.input[0]))]
            given = {name: numbers.get(name) for name in node.input if name}
            if node.op_type not in _PLAIN or any(array is None for array in given.values()):
                return []
            inputs = [given[name] if name else None for name in node.input]
            partial = any(array is not None and array.dtype == object for array in inputs)
            if (partial and node.op_type not in _MOVING) or not _is_small(node, inputs):
                return []
            self._left -= _COST
            return self._computed(node, given)
        except Exception:  # odd graphs fail in many ways; their shapes are unknown then
            return []

    def _computed(self, node: onnx.NodeProto, given: Mapping[str, Array | None]) -> Sequence[Array]:
        from onnx.reference import ReferenceEvaluator  # slow to import, and seldom needed

        inputs, outputs = (
            [onnx.ValueInfoProto(name=n) for n in names if n] for names in (given, node.output)
        )
        graph = onnx.helper.make_graph([node], "node", inputs, outputs)
        with np.errstate(all="raise"):
            made = ReferenceEvaluator(graph, opsets=dict(self._opsets)).run(None, dict(given))
        arrays = iter(map(np.asarray, made))
        return [next(arrays) if name else np.array("") for name in node.output]


def _shape(kind: onnx.TypeProto) -> Shape | None:
    if not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims)


def _small(tensor: onnx.TensorProto) -> Array | None:
    if math.prod(tensor.dims) > _SMALL or uses_external_data(tensor):
        return None
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except Exception:  # an untrusted file; its reader says so where it matters
        return None
    return array if array.dtype.kind in "biuf" else None


def _constant(node: onnx.NodeProto) -> Array | None:
    (said,) = node.attribute
    if said.name == "value":
        return _small(said.t)
    if said.name.startswith("value_int"):
        return np.array(onnx.helper.get_attribute_value(said), np.int64)
    if said.name.startswith("value_float"):
        return np.array(onnx.helper.get_attribute_value(said), np.float32)
    return None


def _sizes(node: onnx.NodeProto, shape: Shape | None) -> Array | None:
    """What a Shape or Size makes of a tensor."""
    if shape is None or len(shape) > _SMALL:
        return None
    if node.op_type == "Shape":
        said = {attribute.name: attribute.i for attribute in node.attribute}
        return np.array(shape[said.get("start") : said.get("end")], object)
    sizes = [size for size in shape if isinstance(size, int)]
    count = math.prod(sizes)
    return np.array(count) if len(sizes) == len(shape) and count < 2**63 else None


def _is_small(node: onnx.NodeProto, inputs: Iterable[Array | None]) -> bool:
    """Whether an operator makes few elements of those inputs: told before it runs."""
    arrays = [array for array in inputs if array is not None]
    if node.op_type == "Range":
        start, limit, delta = (array.item() for array in arrays)
        count = math.ceil((limit - start) / delta)
    elif node.op_type == "ConstantOfShape":
        count = math.prod(arrays[0].tolist())
    elif node.op_type == "Expand":
        count = math.prod(np.broadcast_shapes(arrays[0].shape, arrays[1].tolist()))
    elif node.op_type in _ELEMENTWISE:
        count = math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    else:
        parts = max((a.i for a in node.attribute if a.name == "num_outputs"), default=0)
        count = parts + sum(array.size for array in arrays)
    return bool(count <= _SMALL)


def _say_axes(graph: onnx.GraphProto, shapes: Shapes) -> bool:
    """Write, in place, the axes of each Squeeze that has none where they can be told; whether there was one.

    A size that is not known may be 1 and be dropped too; not so where a reader needs the axis.
    """
    needed, found = dict[str, int](), False
    for node in graph.node:
        if node.op_type in ("Split", "Concat") and not node.domain:
            axis = max((a.i for a in node.attribute if a.name == "axis"), default=0)
            for name in node.input[: 1 if node.op_type == "Split" else None]:
                needed[name] = max(needed.get(name, 0), axis + 1)
    for node in graph.node:
        if node.op_type != "Squeeze" or node.domain or len(node.input) != 1 or node.attribute:
            continue
        shape = shapes.get(node.input[0])
        if shape is None:
            continue
        ones = [axis for axis, size in enumerate(shape) if size == 1]
        if len(shape) - len(ones) == needed.get(node.output[0]):
            name = f"{_SHADOW}/{node.output[0]}"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(ones, np.int64), name))
            node.input.append(name)
            found = True
    return found
