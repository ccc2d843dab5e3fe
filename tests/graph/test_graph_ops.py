import itertools
import math

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graph.nets import net, noise, run

from onnxviz.errors import ModelError, ShapeError
from onnxviz.graph.model import Model, load
from onnxviz.graph.ops import Ops, constant_of, rank_of
from onnxviz.graph.window import (
    Window,
    same_pads,
    spatial,
    spatial_or_unknown,
    transposed_window,
    window,
)

TYPES = {
    "float": (ir.DataType.FLOAT, np.float32),
    "float16": (ir.DataType.FLOAT16, np.float16),
    "double": (ir.DataType.DOUBLE, np.float64),
    "bfloat16": (ir.DataType.BFLOAT16, ml_dtypes.bfloat16),
    "int64": (ir.DataType.INT64, np.int64),
}


def writer(
    text="(float[N,3] x, float[N,3] z, bool[N,3] c) => (float[N,3] y) { y = Relu(x) }", prefix="extra"
):
    """A graph to append to: the writer, the values by name, and the model."""
    model = ir.from_proto(net(text))
    values = ir.convenience.create_value_mapping(model.graph, include_subgraphs=False)
    return Ops(model.graph, prefix), values, model


def finish(model, *outputs):
    model.graph.outputs.clear()
    model.graph.outputs.extend(outputs)
    proto = Model(model).resized({}).proto()
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


# --- writing nodes -------------------------------------------------------------------------------------


def test_nodes_are_written_as_calls():
    op, values, model = writer()
    answer = op.Where(values["c"], op.Mul(values["x"], 2.0), op.Sub(1, values["z"]))
    feeds = {"x": noise(2, 3), "z": noise(2, 3, seed=1), "c": np.array([[1, 0, 1], [0, 0, 1]], bool)}
    found = run(finish(model, answer), feeds)[answer.name]
    np.testing.assert_array_equal(found, np.where(feeds["c"], feeds["x"] * 2, 1 - feeds["z"]))


@pytest.mark.parametrize("kind", TYPES)
def test_a_number_takes_the_type_of_the_first_typed_operand(kind):
    dtype, numpy_type = TYPES[kind]
    op, values, _ = writer(f"({kind}[N,3] x) => ({kind}[N,3] y) {{ y = Identity(x) }}")
    for answer in (op.Add(values["x"], 2), op.Add(2, values["x"])):
        assert answer.dtype == dtype
        (constant,) = [value for value in answer.producer().inputs if value is not values["x"]]
        assert constant.dtype == dtype
        assert constant.const_value.numpy().dtype == numpy_type
        assert constant.const_value.numpy() == 2
        assert constant.const_value.shape == ()


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_numbers_of_a_type_run(kind):
    op, values, model = writer(f"({kind}[N,3] x) => ({kind}[N,3] y) {{ y = Identity(x) }}")
    answer = op.Div(op.Add(values["x"], 1.5), 4)
    x = noise(2, 3).astype(TYPES[kind][1])
    found = run(finish(model, answer), {"x": x})[answer.name]
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, (x + x.dtype.type(1.5)) / x.dtype.type(4))


def test_a_condition_says_nothing_of_the_numbers_behind_it():
    op, values, _ = writer()
    assert op.Where(values["c"], 1.5, 2).dtype == ir.DataType.BOOL  # there is nothing else to go by
    op, values, model = writer()
    answer = op.Where(values["c"], 1.5, values["x"])
    assert answer.dtype == ir.DataType.FLOAT
    c = np.array([[True, False, True]])
    found = run(finish(model, answer), {"x": np.zeros((1, 3), np.float32), "z": noise(1, 3), "c": c})
    np.testing.assert_array_equal(found[answer.name], [[1.5, 0, 1.5]])


def test_numbers_alone_are_floats():
    op, _, _ = writer()
    assert op.Add(1, 2).dtype == ir.DataType.FLOAT


def test_an_array_keeps_its_own_type():
    op, values, _ = writer("(float16[N,3] x) => (float16[N,3] y) { y = Identity(x) }")
    answer = op.Gather(values["x"], np.array([0, 2]), axis=1)
    assert answer.producer().inputs[1].dtype == ir.DataType.INT64
    assert answer.dtype == ir.DataType.FLOAT16


@pytest.mark.parametrize(
    ("operator", "operands", "attributes", "dtype"),
    [
        ("Equal", "xz", {}, ir.DataType.BOOL),
        ("LessOrEqual", "xz", {}, ir.DataType.BOOL),
        ("Not", "c", {}, ir.DataType.BOOL),
        ("Xor", "cc", {}, ir.DataType.BOOL),
        ("IsNaN", "x", {}, ir.DataType.BOOL),
        ("IsInf", "x", {}, ir.DataType.BOOL),
        ("Shape", "x", {}, ir.DataType.INT64),
        ("ArgMax", "x", {"axis": 1}, ir.DataType.INT64),
        ("Cast", "x", {"to": ir.DataType.DOUBLE}, ir.DataType.DOUBLE),
        ("Cast", "c", {"to": 7}, ir.DataType.INT64),
        ("Exp", "x", {}, ir.DataType.FLOAT),
    ],
)
def test_new_values_carry_their_type(operator, operands, attributes, dtype):
    op, values, model = writer()
    answer = getattr(op, operator)(*(values[name] for name in operands), **attributes)
    assert answer.dtype == dtype
    (inferred,) = load(finish_proto(model, answer)).outputs
    assert inferred.dtype == dtype.numpy().name


def finish_proto(model, *outputs):
    return onnx.ModelProto.FromString(finish(model, *outputs))


def test_operands_may_be_absent_and_attributes_too():
    op, values, model = writer()
    answer = op.Clip(values["x"], None, 0.5)
    assert answer.producer().inputs[1] is None
    plain = op.ReduceSum(answer, None, keepdims=0, noop_with_empty_axes=None)
    assert set(plain.producer().attributes) == {"keepdims"}
    found = run(
        finish(model, plain), {"x": np.ones((2, 3), np.float32), "z": noise(2, 3), "c": np.ones((2, 3), bool)}
    )
    assert found[plain.name] == 3


def test_several_outputs_and_other_domains():
    op, values, model = writer()
    first, second = op.emit("Split", [values["x"], np.array([1, 2])], {"axis": 1}, outputs=2)
    gelu = op.emit("Gelu", [second], {}, domain="com.microsoft")[0]
    model.opset_imports["com.microsoft"] = 1
    assert (first.name, second.name) != (second.name, first.name)
    assert gelu.producer().domain == "com.microsoft"
    x = noise(2, 3)
    model.graph.outputs.clear()
    model.graph.outputs.extend([first, second])
    found = run(Model(model).serialize(), {"x": x, "z": x, "c": x > 0})
    np.testing.assert_array_equal(found[first.name], x[:, :1])
    np.testing.assert_array_equal(found[second.name], x[:, 1:])


def test_private_names_are_no_operators():
    op, _, _ = writer()
    with pytest.raises(AttributeError):
        _ = op._no_such_thing


# --- constants -----------------------------------------------------------------------------------------


def test_a_constant_is_written_once():
    op, values, model = writer()
    op.Add(op.Mul(values["x"], 2.0), op.Mul(values["z"], 2))
    assert len(model.graph.initializers) == 1
    assert op.ints(0, 1) is op.ints(0, 1)
    assert op.scalar(1) is op.scalar(1)
    assert op.scalar(1) is not op.ints(1)
    assert op.constant(np.zeros(2, np.float32)) is not op.constant(np.zeros(2, np.float64))
    assert op.constant(np.zeros((2, 1), np.float32)) is not op.constant(np.zeros(2, np.float32))
    assert op.constant(np.array(0.0)) is not op.constant(np.array(-0.0))
    assert op.constant(np.zeros(2, np.float16)) is not op.constant(np.zeros(2, ml_dtypes.bfloat16))
    layouts = np.arange(6.0).reshape(2, 3)
    assert op.constant(layouts.T) is op.constant(np.ascontiguousarray(layouts.T))


def test_vectors_and_scalars_of_integers():
    op, _, _ = writer()
    assert constant_of(op.ints(3, -1)).tolist() == [3, -1]
    assert constant_of(op.ints()).shape == (0,)
    assert constant_of(op.scalar(5)).shape == ()
    assert op.ints(3).dtype == op.scalar(3).dtype == ir.DataType.INT64


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("(float[2] x) => (float[2] y) { y = Relu(x) }", "new/"),
        ("(float[2] newt) => (float[2] y) { y = Relu(newt) }", "new/"),
        ("(float[2] x) => (float[2] y) { y = Relu(x) }|new/a", "new2/"),
        ("(float[2] x) => (float[2] y) { y = Relu(x) }|new/a|new2/", "new3/"),
        ("(float[2] x) => (float[2] y) { y = Relu(x) }|new2/b", "new/"),
    ],
)
def test_the_prefix_is_one_that_no_name_begins_with(text, prefix):
    text, *taken = text.split("|")
    for kind in ("value", "node", "weight"):
        model = ir.from_proto(net(text))
        for name in taken:
            if kind == "value":
                model.graph.inputs.append(ir.Value(name=name))
            elif kind == "weight":
                weight = ir.Value(name=name, const_value=ir.tensor([1.0], name=name))
                model.graph.register_initializer(weight)
            else:
                source = model.graph.inputs[0]
                model.graph.append(ir.Node("", "Neg", [source], name=name))
        op = Ops(model.graph, "new")
        assert op.prefix == prefix
        assert op.Neg(model.graph.inputs[0]).name.startswith(prefix)


def test_names_inside_a_branch_are_taken_too():
    text = """(float[2] x, bool c) => (float[2] y) { y = If(c) <
        then_branch = t () => (float[2] a) { a = Neg(x) },
        else_branch = e () => (float[2] b) { b = Abs(x) } > }"""
    proto = net(text)
    branch = proto.graph.node[0].attribute[0].g
    branch.node[0].output[0] = branch.output[0].name = "new/a"
    assert Ops(ir.from_proto(proto).graph, "new").prefix == "new2/"


def test_two_writers_never_meet():
    op, values, model = writer()
    first = op.Neg(values["x"])
    again = Ops(model.graph, "extra")
    assert (op.prefix, again.prefix) == ("extra/", "extra2/")
    last = again.Neg(again.Add(first, 1))
    names = [value.name for node in model.graph for value in node.outputs]
    assert len(set(names)) == len(names)
    finish(model, last)


# --- shapes --------------------------------------------------------------------------------------------


def shaped(shape):
    return writer(f"(float{shape} x) => (float{shape} y) {{ y = Relu(x) }}")


@pytest.mark.parametrize(
    ("shape", "start", "end", "known"),
    [
        ("[2,3,4]", None, None, [2, 3, 4]),
        ("[2,3,4]", 1, None, [3, 4]),
        ("[2,3,4]", -1, None, [4]),
        ("[2,3,4]", None, -1, [2, 3]),
        ("[N,3,4]", 1, None, [3, 4]),
        ("[N,3,W]", 1, 2, [3]),
        ("[N,3,W]", 1, 1, []),
        ("", None, None, []),
        ("[N,3,4]", None, None, None),
        ("[N,3,4]", 0, 2, None),
        ("[2,3,W]", -2, None, None),
        ("[2,?,4]", None, None, None),
    ],
)
def test_a_shape_is_a_constant_where_it_is_known(shape, start, end, known):
    op, values, model = shaped(shape.replace("?", "-1").replace("-1", "unknown"))
    if "?" in shape:
        values["x"].shape = ir.Shape([2, None, 4])
    answer = op.shape(values["x"], start, end)
    if known is not None:
        assert constant_of(answer).tolist() == known
        return
    assert answer.producer().op_type == "Shape"
    given = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
    assert {name: attribute.value for name, attribute in answer.producer().attributes.items()} == given
    x = noise(2, 3, 4)
    found = run(finish(model, answer), {"x": x})[answer.name]
    assert found.tolist() == list(x.shape[start:end])


def test_the_shape_of_an_unknown_rank_is_computed():
    op, values, _ = writer("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    values["x"].shape = None
    assert op.shape(values["x"]).producer().op_type == "Shape"


@pytest.mark.parametrize("shape", ["[2,3]", "[N,3]"])
def test_tensors_like_others(shape):
    op, values, model = writer(f"(float16{shape} x, float16[6] flat) => (float16[a] y) {{ y = Flatten(x) }}")
    folded, zeros = op.reshape_like(values["flat"], values["x"]), op.zeros_like(values["x"])
    full = op.full(op.shape(values["x"]), 2.5, ir.DataType.DOUBLE)
    assert (folded.dtype, zeros.dtype, full.dtype) == (
        ir.DataType.FLOAT16, ir.DataType.FLOAT16, ir.DataType.DOUBLE
    )  # fmt: skip
    flat = np.arange(6).astype(np.float16)
    found = run(finish(model, folded, zeros, full), {"x": flat.reshape(2, 3) + 1, "flat": flat})
    np.testing.assert_array_equal(found[folded.name], flat.reshape(2, 3))
    np.testing.assert_array_equal(found[zeros.name], np.zeros((2, 3), np.float16), strict=True)
    np.testing.assert_array_equal(found[full.name], np.full((2, 3), 2.5), strict=True)


def test_ranks():
    _, values, _ = writer()
    assert rank_of(values["x"]) == 2
    values["x"].shape = None
    with pytest.raises(ShapeError, match="the rank of tensor 'x' is unknown"):
        rank_of(values["x"])


# --- constants that are there --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("k = Constant<value: tensor = float[2] {1, 2}>()", [1, 2]),
        ("k = Constant<value_float = 2.5>()", 2.5),
        ("k = Constant<value_floats = [1.0, 2.5]>()", [1, 2.5]),
        ("k = Constant<value_int = 3>()", 3),
        ("k = Constant<value_ints = [3, 4]>()", [3, 4]),
    ],
)
def test_the_array_behind_a_constant(body, expected):
    model = load(net(f"(float[2] x) => (float[2] y) {{ {body} c = Cast<to = 1>(k) y = Mul(x, c) }}"))
    np.testing.assert_array_equal(constant_of(model.tensor("k")), expected)
    assert constant_of(model.tensor("c")) is None


def test_the_array_behind_a_weight():
    w = noise(40, 40)
    model = load(net("(float[N,40] x) => (float[N,40] y) { y = MatMul(x, w) }", w=w))
    np.testing.assert_array_equal(constant_of(model.tensor("w")), w)
    assert constant_of(model.tensor("x")) is None
    assert constant_of(model.tensor("y")) is None
    assert constant_of(None) is None


def test_a_weight_that_cannot_be_read_is_a_model_error(tmp_path):
    tensor = ir.ExternalTensor(
        "gone.bin", 0, 8, ir.DataType.FLOAT, shape=ir.Shape([2]), name="w", base_dir=tmp_path
    )
    with pytest.raises(ModelError, match="the weights of 'w' cannot be read: "):
        constant_of(ir.Value(name="w", const_value=tensor))


# --- windows -------------------------------------------------------------------------------------------


def node_of(op, attributes="", weight=None, head="(float[N,3,13,11] x) => (float[N,c,h,v] y)"):
    weights = {} if weight is None else {"w": np.zeros(weight, np.float32)}
    model = load(net(f"{head} {{ y = {op}{attributes}(x{', w' if weight else ''}) }}", **weights))
    node = model.tensor("y").producer()
    return node, node.inputs[1] if weight else None


def test_a_window_of_a_convolution():
    found = window(*node_of("Conv", "<strides = [2,3], dilations = [2,1], pads = [1,2,3,4]>", (2, 3, 3, 5)))
    assert found == Window((3, 5), (2, 3), (2, 1), (1, 2), (3, 4))
    assert (found.rank, found.extent, found.axes) == (2, (5, 5), (2, 3))


def test_defaults_of_a_window():
    found = window(*node_of("Conv", "", (2, 3, 4, 1)))
    assert found == Window((4, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    found = window(*node_of("MaxPool", '<kernel_shape = [2,3], auto_pad = "VALID", strides = [2,2]>'))
    assert found == Window((2, 3), (2, 2), (1, 1), (0, 0), (0, 0))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_window_of_any_rank(rank):
    sizes = ",".join(["9"] * rank)
    node, weight = node_of(
        "Conv", "", (2, 3, *[3] * rank), f"(float[N,3,{sizes}] x) => (float[{'a,' * (rank + 1)}b] y)"
    )
    found = window(node, weight)
    assert (found.kernel, found.rank, found.axes) == ((3,) * rank, rank, tuple(range(2, 2 + rank)))
    assert (found.begin, found.end) == ((0,) * rank, (0,) * rank)


@pytest.mark.parametrize("lower", [True, False])
def test_same_padding_on_sizes_known_and_unknown(lower):
    mode = "SAME_LOWER" if lower else "SAME_UPPER"
    text = f'<kernel_shape = [4,3], strides = [2,1], auto_pad = "{mode}">'
    found = window(*node_of("MaxPool", text))
    assert (found.begin, found.end) == (((2, 1), (1, 1)) if lower else ((1, 1), (2, 1)))
    assert found.same_lower == lower
    dynamic = "(float[N,3,H,W] x) => (float[N,c,h,v] y)"
    found = window(*node_of("MaxPool", text, head=dynamic))
    assert (found.begin, found.end) == (None, None)
    text = f'<kernel_shape = [4,3], auto_pad = "{mode}">'
    found = window(*node_of("MaxPool", text, head=dynamic))  # what stride 1 needs, no size changes
    assert (found.begin, found.end) == (((2, 1), (1, 1)) if lower else ((1, 1), (2, 1)))


def test_a_kernel_of_unknown_size():
    model = load(net("(float[N,3,9,9] x, float[a,b,c,d] w) => (float[N,e,f,g] y) { y = Conv(x, w) }"))
    node = model.tensor("y").producer()
    for weight in (node.inputs[1], None):
        with pytest.raises(ShapeError, match="the kernel size of Conv node '' is unknown"):
            window(node, weight)


@pytest.mark.parametrize("lower", [True, False])
def test_same_pads_by_brute_force(lower):
    """ceil(size / stride) windows fit, with as little padding as that takes, the odd one where it belongs."""
    for size, span, stride in itertools.product(range(1, 12), range(1, 6), range(1, 5)):
        (begin,), (end,) = same_pads([size], [span], [stride], lower)
        outputs = math.ceil(size / stride)
        total = begin + end
        assert (size + total - span) // stride + 1 == outputs or (total == 0 and size >= span)
        assert (outputs - 1) * stride + span <= size + total
        assert total == 0 or (outputs - 1) * stride + span == size + total
        assert begin - end == (total % 2 if lower else -(total % 2))


def test_same_pads_where_a_size_is_unknown():
    assert same_pads([None, 8], [3, 3], [1, 2], lower=False) == ((1, 0), (1, 1))
    assert same_pads([None, 8], [3, 3], [2, 2], lower=False) == (None, None)


def outputs_of(win, sizes):
    """How many windows fit, from the pads."""
    return tuple(
        (size + begin + end - span) // stride + 1
        for size, begin, end, span, stride in zip(
            sizes, win.begin, win.end, win.extent, win.strides, strict=True
        )
    )


@pytest.mark.parametrize("seed", range(12))
def test_windows_by_brute_force(seed):
    """A one at input p reaches exactly the outputs whose window covers p."""
    rng = np.random.default_rng(seed)
    kernel, strides, dilations = (rng.integers(1, high, 2).tolist() for high in (4, 4, 3))
    mode = ["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"][seed % 5]
    dilations = [1, 1] if mode.startswith("SAME") else dilations
    pads = rng.integers(0, 3, 4).tolist()
    places = f"pads = {pads}" if mode == "NOTSET" else f'auto_pad = "{mode}"'
    text = f"<strides = {strides}, dilations = {dilations}, {places}>"
    sizes = (9, 8)
    proto = net(
        f"(float[N,1,9,8] x) => (float[N,1,h,v] y) {{ y = Conv{text}(x, w) }}",
        w=np.ones((1, 1, *kernel), np.float32),
    )
    node = load(proto).tensor("y").producer()
    found = window(node, node.inputs[1])
    ones = np.eye(72, dtype=np.float32).reshape(72, 1, *sizes)
    reached = run(proto, {"x": ones})["y"][:, 0]
    assert reached.shape[1:] == outputs_of(found, sizes)
    expected = np.zeros_like(reached)
    for output in np.ndindex(*reached.shape[1:]):
        for tap in np.ndindex(*kernel):
            place = [
                o * s - b + t * d
                for o, s, b, t, d in zip(
                    output, found.strides, found.begin, tap, found.dilations, strict=True
                )
            ]
            if all(0 <= p < size for p, size in zip(place, sizes, strict=True)):
                expected[(place[0] * sizes[1] + place[1], *output)] += 1
    np.testing.assert_array_equal(reached, expected)


@pytest.mark.parametrize(
    "attributes",
    [
        "group = 1",
        "strides = [2,3], pads = [1,0,2,1], output_padding = [1,2]",
        'strides = [2,3], auto_pad = "SAME_UPPER"',
        'strides = [3,2], auto_pad = "SAME_LOWER", output_padding = [1,0]',
        "strides = [2,2], dilations = [2,1], output_shape = [13,8]",
        'strides = [2,2], output_shape = [12,9], auto_pad = "SAME_UPPER"',
    ],
)
def test_transposed_windows_by_brute_force(attributes):
    """A one at input i reaches exactly the outputs i * stride - begin + k * dilation."""
    sizes, kernel = (5, 4), (4, 3)
    proto = net(
        f"(float[N,1,5,4] x) => (float[N,1,h,v] y) {{ y = ConvTranspose<{attributes}>(x, w) }}",
        w=np.ones((1, 1, *kernel), np.float32),
    )
    node = load(proto).tensor("y").producer()
    found = transposed_window(node, node.inputs[1])
    reached = run(proto, {"x": np.eye(20, dtype=np.float32).reshape(20, 1, *sizes)})["y"][:, 0]
    expected = np.zeros_like(reached)
    for i, place in enumerate(np.ndindex(*sizes)):
        for tap in np.ndindex(*kernel):
            output = [
                p * s - b + t * d
                for p, s, b, t, d in zip(place, found.strides, found.begin, tap, found.dilations, strict=True)
            ]
            if all(0 <= o < size for o, size in zip(output, reached.shape[1:], strict=True)):
                expected[(i, *output)] += 1
    np.testing.assert_array_equal(reached, expected)


def test_spatial_sizes():
    _, values, _ = writer("(float[N,3,4,W] x) => (float[N,3] y) { y = Relu(x) }")
    assert spatial(values["x"]) == spatial_or_unknown(values["x"], 2) == (4, None)
    values["x"].shape = None
    assert spatial_or_unknown(values["x"], 3) == spatial_or_unknown(None, 3) == (None, None, None)
    with pytest.raises(ShapeError, match="the rank of tensor 'x' is unknown"):
        spatial(values["x"])
