import numpy as np
import onnx
import pytest
from graph.nets import net, noise, run, watched

from onnxviz import samples
from onnxviz.errors import DisconnectedError, SelectorError
from onnxviz.graph.expose import cut, expose
from onnxviz.graph.flow import ancestors, dependents, reads
from onnxviz.graph.model import load

# Two branches that meet twice, and a dead end.
SKIPS = """(float[N,3,8,8] x) => (float[N,5] y, float[N,4,8,8] other) {
    c1 = Conv<pads = [1,1,1,1]>(x, w1, b1)
    r1 = Relu(c1)
    c2 = Conv<pads = [1,1,1,1]>(r1, w2)
    s = Conv(x, w3)
    a = Add(c2, s)
    r2 = Relu(a)
    c3 = Conv<pads = [1,1,1,1]>(r2, w4)
    m = Add(c3, r1)
    g = GlobalAveragePool(m)
    f = Flatten(g)
    y = Gemm(f, w5)
    other = Sigmoid(s)
}"""
X = noise(2, 3, 8, 8, seed=50)


def skips():
    shapes = {
        "w1": (4, 3, 3, 3),
        "b1": (4,),
        "w2": (4, 4, 3, 3),
        "w3": (4, 3, 1, 1),
        "w4": (4, 4, 3, 3),
        "w5": (4, 5),
    }
    return net(SKIPS, **{name: noise(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())})


def before(tensors):
    return run(watched(skips(), tensors), {"x": X}, tensors, optimise=False)


def after(model):
    return run(model.serialize(), {"x": X}, optimise=False)


def content(model):
    """The operators and the weights that a model has."""
    graph = model.proto().graph
    return [node.op_type for node in graph.node], sorted(tensor.name for tensor in graph.initializer)


# --- expose --------------------------------------------------------------------------------------------


def test_exposed_tensors_are_those_of_the_model():
    names = ["r1", "a", "y", "s"]
    found, expected = after(expose(skips(), names)), before(names)
    assert list(found) == names
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("tensors", "operators", "weights"),
    [
        ("c1", ["Conv"], ["b1", "w1"]),
        ("r1", ["Conv", "Relu"], ["b1", "w1"]),
        (["s"], ["Conv"], ["w3"]),
        (["other", "r1"], ["Conv", "Relu", "Conv", "Sigmoid"], ["b1", "w1", "w3"]),
        ("a", ["Conv", "Relu", "Conv", "Conv", "Add"], ["b1", "w1", "w2", "w3"]),
        ("x", [], []),
        ("w5", [], ["w5"]),
    ],
)
def test_exposing_computes_nothing_else(tensors, operators, weights):
    exposed = expose(skips(), tensors)
    assert content(exposed) == (operators, weights)
    onnx.checker.check_model(exposed.proto())


def test_the_inputs_stay():
    proto = net("(float[2] x, float[2] unused) => (float[2] y) { h = Neg(x) y = Add(h, unused) }")
    assert [value.name for value in expose(proto, "h").inputs] == ["x", "unused"]


def test_order_and_duplicates():
    exposed = expose(skips(), ["y", "c1", "y", "a", "c1"])
    assert [value.name for value in exposed.outputs] == ["y", "c1", "a"]
    assert [str(value) for value in exposed.outputs][1] == "c1 float32[N,4,8,8]"


def test_inputs_and_weights_can_be_exposed():
    found = after(expose(skips(), ["x", "b1", "c1"]))
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["b1"], noise(4, seed=1))


def test_exposing_twice():
    once = expose(skips(), ["a", "r2"])
    np.testing.assert_array_equal(after(expose(once, "a"))["a"], before(["a"])["a"])
    with pytest.raises(SelectorError, match="no tensor 'y'"):
        expose(once, "y")


def test_the_model_is_not_changed_by_exposing():
    model = load(skips())
    serialised = model.serialize()
    exposed = expose(model, "c1")
    assert model.serialize() == serialised
    assert exposed.path == model.path
    assert exposed.tensor("w1").const_value is model.tensor("w1").const_value  # weights are shared


def test_only_the_outputs_asked_for_are_left_of_an_operator():
    text = """(float[1,1,4,4] x) => (float[1,1,2,2] y, int64[1,1,2,2] i)
        { y, i = MaxPool<kernel_shape = [3,3]>(x) }"""
    (node,) = expose(net(text), "y").proto().graph.node
    assert list(node.output) == ["y"]
    (node,) = expose(net(text), "i").proto().graph.node
    assert list(node.output) == ["y", "i"]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ("nope", "no tensor 'nope' in this model"),
        (["y", "othr"], "no tensor 'othr' in this model; did you mean 'other'"),
        ([], "name at least one tensor"),
    ],
)
def test_unknown_tensors(tensors, words):
    with pytest.raises(SelectorError, match=words):
        expose(skips(), tensors)


def test_tensors_inside_a_branch_are_unknown():
    with pytest.raises(SelectorError, match="no tensor 'inside'"):
        expose(nested(), "inside")


def test_metadata_is_kept():
    proto = skips()
    proto.metadata_props.add(key="onnxviz.labels", value="[]")
    assert expose(proto, "y").metadata == {"onnxviz.labels": "[]"}


# --- cut -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "of", "crossing"),
    [
        ("x", "y", []),
        ("c1", "y", ["s"]),
        ("r1", "y", ["s"]),
        ("c2", "y", ["s", "r1"]),
        ("s", "y", ["c2", "r1"]),
        ("a", "y", ["r1"]),
        ("r2", "m", ["r1"]),
        ("m", "y", []),
        ("g", "f", []),
        ("s", "other", []),
        ("s", "a", ["c2"]),
        ("w4", "y", ["r2", "r1"]),
        ("b1", "c2", ["x"]),
    ],
)
def test_the_tail_of_the_head_is_the_model(at, of, crossing):
    halves = cut(skips(), at, of)
    assert (halves.at, list(halves.crossing)) == (at, crossing)
    assert [value.name for value in halves.head.outputs] == [at, *crossing]
    assert [value.name for value in halves.tail.inputs] == [at, *crossing]
    assert [value.name for value in halves.tail.outputs] == [of]
    onnx.checker.check_model(halves.head.proto())
    onnx.checker.check_model(halves.tail.proto(), full_check=True)
    middle = after(halves.head)
    found = run(halves.tail.serialize(), middle, optimise=False)[of]
    np.testing.assert_array_equal(found, before([of])[of])


def test_each_half_has_its_own_operators_and_weights():
    halves = cut(skips(), "a", "y")
    assert content(halves.head) == (["Conv", "Relu", "Conv", "Conv", "Add"], ["b1", "w1", "w2", "w3"])
    assert content(halves.tail) == (
        ["Relu", "Conv", "Add", "GlobalAveragePool", "Flatten", "Gemm"], ["w4", "w5"]
    )  # fmt: skip
    assert halves.tail.opset == 18
    assert [str(value) for value in halves.tail.inputs] == ["a float32[N,4,8,8]", "r1 float32[N,4,8,8]"]


def test_the_tail_depends_on_what_it_is_given():
    halves = cut(skips(), "a", "y")
    middle = after(halves.head)
    middle["a"] = middle["a"] * 2 + 1
    found = run(halves.tail.serialize(), middle)["y"]
    text = SKIPS.replace("a = Add(c2, s)", "b = Add(c2, s) d = Mul(b, two) a = Add(d, one)")
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in skips().graph.initializer}
    other = net(text, **weights, two=np.array(2, np.float32), one=np.array(1, np.float32))
    np.testing.assert_allclose(found, run(other, {"x": X})["y"], rtol=1e-4, atol=1e-4)


def test_the_head_keeps_more_where_it_is_asked():
    halves = cut(skips(), "a", "y", keep=["other", "a", "c1"])
    assert [value.name for value in halves.head.outputs] == ["a", "r1", "other", "c1"]
    assert [value.name for value in halves.tail.inputs] == ["a", "r1"]


@pytest.mark.parametrize(
    ("at", "of"), [("y", "x"), ("c2", "s"), ("other", "y"), ("r2", "a"), ("a", "a"), ("x", "w1")]
)
def test_an_end_that_does_not_depend_on_the_cut(at, of):
    with pytest.raises(DisconnectedError, match=f"^'{of}' does not depend on '{at}'$"):
        cut(skips(), at, of)


@pytest.mark.parametrize(("at", "of"), [("nope", "y"), ("x", "nope")])
def test_a_cut_at_an_unknown_tensor(at, of):
    with pytest.raises(SelectorError, match="no tensor 'nope'"):
        cut(skips(), at, of)
    with pytest.raises(SelectorError, match="no tensor 'nope'"):
        cut(skips(), "x", "y", keep=["nope"])


def test_shapes_that_cross_the_cut():
    """The batch that a Reshape restores is read off the picture: that number crosses too."""
    text = """(float[N,3,4,4] x) => (float[N,2,24] y) {
        shape = Shape<start = 0, end = 1>(x)
        rest = Constant<value_ints = [2, -1]>()
        target = Concat<axis = 0>(shape, rest)
        h = Relu(x)
        y = Reshape(h, target)
    }"""
    proto = net(text)
    halves = cut(proto, "h", "y")
    assert halves.crossing == ("target",)
    assert [str(value) for value in halves.tail.inputs][1] == "target int64[3]"
    x = noise(5, 3, 4, 4)
    middle = run(halves.head.serialize(), {"x": x})
    assert middle["target"].tolist() == [5, 2, -1]
    np.testing.assert_array_equal(run(halves.tail.serialize(), middle)["y"], run(proto, {"x": x})["y"])


def test_a_shape_of_the_cut_itself_is_computed_behind_it():
    text = """(float[N,3,4,4] x) => (float[N,48] y) {
        h = Relu(x)
        shape = Shape<start = 0, end = 1>(h)
        rest = Constant<value_ints = [-1]>()
        target = Concat<axis = 0>(shape, rest)
        y = Reshape(h, target)
    }"""
    halves = cut(net(text), "h", "y")
    assert halves.crossing == ()
    x = noise(5, 3, 4, 4)
    np.testing.assert_array_equal(run(halves.tail.serialize(), {"h": x})["y"], x.reshape(5, 48))


def test_constants_do_not_cross():
    text = """(float[2,4] x) => (float[2,4] y) {
        k = Constant<value: tensor = float[4] {1, 2, 3, 4}>()
        n = Neg(k)
        h = Mul(x, n)
        r = Relu(h)
        y = Add(r, n)
    }"""
    halves = cut(net(text), "r", "y")
    assert halves.crossing == ()
    assert content(halves.tail)[0] == ["Constant", "Neg", "Add"]
    np.testing.assert_array_equal(
        run(halves.tail.serialize(), {"r": np.zeros((2, 4), np.float32)})["y"], [[-1, -2, -3, -4]] * 2
    )


def test_one_output_of_an_operator_that_has_two():
    text = """(float[2,4] x) => (float[2,2] y) {
        a, b = Split<axis = 1, num_outputs = 2>(x)
        n = Neg(a)
        y = Add(n, b)
    }"""
    halves = cut(net(text), "a", "y")
    assert halves.crossing == ("b",)
    x = noise(2, 4)
    found = run(halves.tail.serialize(), run(halves.head.serialize(), {"x": x}))["y"]
    np.testing.assert_array_equal(found, x[:, 2:] - x[:, :2])


def test_a_custom_domain_survives_the_cut():
    proto = net("(float[2,3] x) => (float[2,3] y) { h = Neg(x) y = com.microsoft.Gelu(h) }")
    halves = cut(proto, "h", "y")
    x = noise(2, 3)
    np.testing.assert_array_equal(run(halves.tail.serialize(), {"h": -x})["y"], run(proto, {"x": x})["y"])


def test_the_sample_in_two():
    model = load(samples.sample_model())
    halves = cut(model, "fire6_squeeze1x1_relu", "logits")
    x = noise(1, 3, 227, 227) * 50
    middle = run(halves.head.serialize(), {"input": x}, optimise=False)
    found = run(halves.tail.serialize(), middle, optimise=False)["logits"]
    np.testing.assert_array_equal(
        found, run(model.serialize(), {"input": x}, ["logits"], optimise=False)["logits"]
    )
    assert [layer.name for half in (halves.head, halves.tail) for layer in half.layers] == [
        layer.name for layer in model.layers
    ]


# --- nested graphs -------------------------------------------------------------------------------------


def nested():
    """A branch, inside a branch, reads an outer tensor that no node of the outer graph takes as an input."""
    return net("""(float[2,3] x, bool c, bool d) => (float[2,3] y) {
        h = Neg(x)
        k = Abs(x)
        out = If(c) <
            then_branch = t () => (float[2,3] a) {
                inside = Exp(k)
                a = If(d) < then_branch = tt () => (float[2,3] aa) { aa = Add(inside, h) },
                            else_branch = ee () => (float[2,3] bb) { bb = Sub(inside, w) } >
            },
            else_branch = e () => (float[2,3] b) { b = Relu(k) } >
        y = Mul(out, x)
    }""", w=noise(3, seed=4))  # fmt: skip


def names(values):
    return {value.name for value in values}


def test_a_nested_graph_reads_what_it_captures():
    model = load(nested())
    node = model.tensor("out").producer()
    assert names(reads(node)) == {"c", "d", "k", "h", "w"}
    assert names(reads(model.tensor("h").producer())) == {"x"}


def test_dependents_and_ancestors_pass_through_nested_graphs():
    model = load(nested())
    graph = model.ir_model.graph
    assert names(dependents(graph, [model.tensor("h")])) == {"h", "out", "y"}
    assert names(dependents(graph, [model.tensor("w")])) == {"w", "out", "y"}
    assert names(dependents(graph, [model.tensor("d")])) == {"d", "out", "y"}
    assert names(ancestors([model.tensor("out")])) == {"out", "c", "d", "k", "h", "w", "x"}
    assert names(ancestors([model.tensor("h"), model.tensor("w")])) == {"h", "w", "x"}
    assert ancestors([]) == set()


def test_optional_inputs_are_no_values():
    model = load(net("(float[2] x, float high) => (float[2] y) { y = Clip(x, , high) }"))
    assert [value.name for value in reads(model.tensor("y").producer())] == ["x", "high"]


@pytest.mark.parametrize("d", [True, False])
@pytest.mark.parametrize("c", [True, False])
def test_a_cut_at_a_captured_tensor(c, d):
    feeds = {"x": noise(2, 3), "c": np.array(c), "d": np.array(d)}
    expected = run(nested(), feeds)["y"]
    for at, crossing in (("h", {"c", "k", "d", "x"}), ("k", {"c", "h", "d", "x"}), ("out", {"x"})):
        halves = cut(nested(), at, "y")
        assert set(halves.crossing) == crossing
        middle = run(halves.head.serialize(), feeds)
        np.testing.assert_array_equal(run(halves.tail.serialize(), middle)["y"], expected)


def test_exposing_keeps_what_a_branch_captures():
    exposed = expose(nested(), "out")
    feeds = {"x": noise(2, 3), "c": np.array(True), "d": np.array(True)}
    x = feeds["x"]
    np.testing.assert_allclose(run(exposed.serialize(), feeds)["out"], np.exp(np.abs(x)) - x, rtol=1e-5)
    assert content(expose(nested(), "h")) == (["Neg"], [])


def test_a_loop_reads_what_its_body_captures():
    model = load(
        net("""(float[2] x, float[2] z, int64 n, bool go) => (float[2] y) {
        k = Neg(z)
        y = Loop(n, go, x) < body = b (int64 i, bool cond, float[2] s) => (bool on, float[2] s2)
            { on = Identity(cond) s2 = Add(s, k) } >
    }""")
    )
    assert names(dependents(model.ir_model.graph, [model.tensor("z")])) == {"z", "k", "y"}
    halves = cut(model, "k", "y")
    assert set(halves.crossing) == {"n", "go", "x"}
    feeds = {"x": noise(2), "z": noise(2, seed=1), "n": np.array(3), "go": np.array(True)}
    found = run(halves.tail.serialize(), run(halves.head.serialize(), feeds))["y"]
    np.testing.assert_allclose(found, feeds["x"] - 3 * feeds["z"], rtol=1e-5)
