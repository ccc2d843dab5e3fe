"""Shapes that depend on numbers which the graph computes."""

import numpy as np
import onnx
import onnx.parser
import pytest
from graph.nets import net, noise, run

from onnxviz.graph import shapes
from onnxviz.graph.flow import nested_graphs
from onnxviz.graph.model import load, shape_of


def shapes_of(model):
    """The shape of every tensor that a node makes, in nested graphs too."""

    def told(graph):
        for node in graph:
            yield from ((value.name, shape_of(value)) for value in node.outputs)
            for inner in nested_graphs(node):
                yield from told(inner)

    return dict(told(load(model).ir_model.graph))


def values(**arrays):
    return {name: np.array(array) for name, array in arrays.items()}


RANGE = """(float[2,3,4] x) => (float[] y) {
    start = Identity(one)
    sizes = Shape(x)
    rank = Size(sizes)
    axes = Range(start, rank, one)
    y = ReduceMean(x, axes)
    z = Sqrt(y)
}"""


def test_axes_from_a_range() -> None:
    told = shapes_of(net(RANGE, **values(one=1)))
    assert told["y"] == told["z"] == (2, 1, 1)
    assert told["axes"] == (2,)


def test_what_is_told_is_what_the_runtime_makes() -> None:
    model = net(RANGE, **values(one=1))
    assert run(model, {"x": noise(2, 3, 4)})["y"].shape == shapes_of(model)["y"]


def test_the_shape_of_a_scalar() -> None:
    told = shapes_of(
        net(
            """(float[2,3] x, float s) => (float[] y) {
                none = Shape(s)
                rank = Size(none)
                axes = Range(rank, one, one)
                y = ReduceSum(x, axes)
            }""",
            **values(one=1),
        )
    )
    assert told["y"] == (1, 3)


def test_computed_lengths_of_a_split() -> None:
    model = net(
        """(float[N,6] x) => (float[] p) {
            whole = Shape<start = 1, end = 2>(x)
            rest = Sub(whole, two)
            lengths = Concat<axis = 0>(two, rest)
            p, q = Split<axis = -1>(x, lengths)
            r = Concat<axis = 1>(q, p)
        }""",
        **values(two=[2]),
    )
    told = shapes_of(model)
    assert (told["p"], told["q"], told["r"]) == (("N", 2), ("N", 4), ("N", 6))


def test_the_known_sizes_of_a_partly_known_shape() -> None:
    model = net(
        """(float[N,3] x) => (float[] y) {
            sizes = Shape(x)
            wide = Concat<axis = 0>(sizes, one)
            column = Unsqueeze(wide, one)
            back = Squeeze(column, one)
            size = Gather(back, place)
            numbers = Range(zero, size, step)
            many = Sub(numbers, numbers)
            few = Slice(many, none, one)
            y = Unsqueeze(x, few)
            batch = Gather(back, zero)
            open = Range(zero, batch, step)
            z = ReduceSum(x, open)
        }""",
        **values(one=[1], zero=0, none=[0], place=1, step=1),
    )
    told = shapes_of(model)
    assert told["numbers"] == (3,)
    assert told["y"] == (1, "N", 3)
    assert told["z"] is None


CAPTURED = {
    "Constant": "axes = Constant<value_ints = [1]>()",
    "computed": "one = Constant<value_int = 1>() two = Constant<value_int = 2>() axes = Range(one, two, one)",
}
SCAN = """(float[5,2,3] xs, float[2,1,3] s) => (float[] last, float[] ys) {
    AXES
    last, ys = Scan<num_scan_inputs = 1, body = turn (float[2,1,3] before, float[2,3] x)
        => (float[] after, float[] y) {
        tall = Unsqueeze(x, axes)
        after = Add(before, tall)
        low = Squeeze(after, axes)
        y = Neg(low)
    }>(s, xs)
    end = Identity(ys)
}"""


@pytest.mark.parametrize("axes", CAPTURED.values(), ids=CAPTURED)
def test_axes_that_a_scan_captures(axes: str) -> None:
    model = net(SCAN.replace("AXES", axes))
    told = shapes_of(model)
    assert (told["tall"], told["after"], told["low"]) == ((2, 1, 3), (2, 1, 3), (2, 3))
    assert (told["last"], told["ys"], told["end"]) == ((2, 1, 3), (5, 2, 3), (5, 2, 3))


def test_axes_that_a_loop_captures() -> None:
    model = net(
        """(float[2,3] x) => (float[] ys) {
            axis = Add(one, one)
            ys = Loop(turns, yes) <body = turn (int64 i, bool on) => (bool going, float[] y) {
                y = Unsqueeze(x, axis)
                going = Identity(on)
            }>
            end = Neg(ys)
        }""",
        **values(one=[1], turns=4, yes=True),
    )
    told = shapes_of(model)
    assert told["y"] == (2, 3, 1)
    assert told["end"][1:] == (2, 3, 1)


IF = """(float[2,1,3] x) => (float[] y) {
    rank = Size(sizes)
    flag = Equal(rank, %s)
    y = If(flag) <then_branch = low () => (float[] p) { p = Squeeze(x, one) },
                  else_branch = high () => (float[] q) { q = Unsqueeze(x, one) }>
    z = Neg(y)
}"""


@pytest.mark.parametrize(("number", "shape"), [("two", (2, 3)), ("three", (2, 1, 1, 3))])
def test_an_if_takes_the_shape_of_the_branch_that_runs(number: str, shape: tuple[int, ...]) -> None:
    model = net(IF % number, **values(sizes=[7, 7], one=[1], two=2, three=3))
    told = shapes_of(model)
    assert told["y"] == told["z"] == shape
    # the idle branch is told as well
    assert (told["p"], told["q"]) == ((2, 3), (2, 1, 1, 3))


def test_numbers_come_out_of_the_branch_that_runs() -> None:
    model = net(
        """(float[2,3,4] x) => (float[] y) {
            axes = If(flag) <then_branch = g () => (int64[] p) { p = Add(one, one) },
                             else_branch = h () => (int64[] q) { q = Concat<axis = 0>(one, zero) }>
            y = ReduceSum<keepdims = 0>(x, axes)
            z = Neg(y)
        }""",
        **values(flag=True, one=[1], zero=[0]),
    )
    assert shapes_of(model)["z"] == (2, 3)


def test_a_squeeze_whose_reader_needs_an_axis() -> None:
    model = net(
        """(float[N,1,4] x) => (float[] p) {
            y = Squeeze(x)
            p, q = Split<axis = 1, num_outputs = 2>(y)
            free = Squeeze(x)
            z = Neg(free)
        }"""
    )
    told = shapes_of(model)
    assert told["y"] == ("N", 4)
    assert told["q"] == ("N", 2)
    assert told["z"] is None


@pytest.mark.parametrize("kind", ["float", "double", "float16"])
@pytest.mark.parametrize("opset", [18, 21, 26])
def test_normalisations_are_shaped_like_their_input(opset: int, kind: str) -> None:
    scale = f"{kind}[{2 if opset < 21 else 4}]"
    model = net(
        f"""({kind}[N,4,5] x, {scale} s, {scale} b) => ({kind}[] y) {{
            y = GroupNormalization<num_groups = 2>(x, s, b)
            v = Neg(y)
            m = MeanVarianceNormalization<axes = [0, 2]>(v)
            w = Neg(m)
        }}""",
        opset=opset,
    )
    told = shapes_of(model)
    assert told["v"] == told["m"] == told["w"] == ("N", 4, 5)
    assert [node.op_type for node in load(model).ir_model.graph][::2] == [
        "GroupNormalization",
        "MeanVarianceNormalization",
    ]


def test_only_shapes_are_added() -> None:
    for model in (net(IF % "two", **values(sizes=[7, 7], one=[1], two=2)), net(RANGE, **values(one=1))):
        told = shapes.infer_shapes(model)
        assert list(told.graph.initializer) == list(model.graph.initializer)
        assert [node.op_type for node in told.graph.node] == [node.op_type for node in model.graph.node]
        for inner in (attribute.g for node in told.graph.node for attribute in node.attribute):
            assert not inner.initializer
            assert [value.name for value in inner.output] in (["p"], ["q"])
        onnx.checker.check_model(told, full_check=True)


def test_a_graph_of_known_ranks_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """(float[N,3] x) => (float[] y) {
        sizes = Shape(x) half = Range(zero, three, three) y = Reshape(x, sizes) z = Add(y, y)
    }"""

    def refuse(*_: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(shapes._Lender, "lend", refuse)
    assert shapes_of(net(text, **values(zero=0, three=3)))["z"] == ("N", 3)
    with pytest.raises(AssertionError, match="computed"):
        shapes.infer_shapes(net(RANGE, **values(one=1)))


HUGE = [
    "axes = Range(zero, huge, step)",
    "axes = Range(zero, huge, none)",
    "axes = ConstantOfShape(long)",
    "axes = Expand(zero, long)",
    "axes = ConstantOfShape(minus)",
    "a = Reshape(many, tall) b = Reshape(many, wide) axes = Max(a, b, zero)",
    "axes, rest = Split<num_outputs = 100000>(many)",
    "axes = Div(step, none)",
    "axes = Gather(many, huge)",
]


@pytest.mark.parametrize("line", HUGE)
def test_what_is_large_or_odd_is_left_alone(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    computed = shapes._Lender._computed

    def spy(self, node, given):
        answers = computed(self, node, given)
        made.extend(array.size for array in answers)
        return answers

    monkeypatch.setattr(shapes._Lender, "_computed", spy)
    model = net(
        f"(float[2,3] x) => (float[] y) {{ {line} y = ReduceMean(x, axes) z = Neg(y) }}",
        **values(
            zero=0, step=1, none=0, huge=10**12, long=[10**6, 10**6], minus=[-3], many=np.zeros(1000, int)
        ),
        **values(tall=[1000, 1], wide=[1, 1000]),
    )
    told = shapes.infer_shapes(model)
    assert "z" not in {v.name for v in told.graph.value_info if v.type.tensor_type.HasField("shape")}
    assert max(made, default=0) <= 1000


def test_many_nodes_are_not_all_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_BUDGET", 1000)
    lines = " ".join(f"n{j} = ConstantOfShape(long)" for j in range(20))
    model = net(
        f"(float[2,3] x, int64[k] a) => (float[] y) {{ {lines} y = ReduceMean(x, a) }}",
        long=np.array([400]),
    )
    lender = shapes._Lender({"": 18})
    assert lender.lend(model.graph)
    assert len(model.graph.initializer) == 1 + 3


def test_branches_may_use_the_same_names() -> None:
    """A branch of which a part has a stand-in leaves the other as it is."""
    model = net(
        """(float[2,3] x, bool flag) => (float[2,3] y) {
            y = If(flag) <then_branch = g () => (float[2,3] p) { p = com.microsoft.QuickGelu(x) },
                          else_branch = h () => (float[2,3] p) { p = Relu(x) }>
        }"""
    )
    (node,) = load(model).ir_model.graph
    assert [[n.op_type for n in graph] for graph in nested_graphs(node)] == [["QuickGelu"], ["Relu"]]
