"""The reverse walk: what adds up, what is named how, and what is refused."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from onnxviz._reference.evaluator import run
from onnxviz.autodiff.pullback import gradient
from onnxviz.autodiff.ruleset import GRADIENT, ZERO, Answer, RuleSet
from onnxviz.errors import DisconnectedError, SelectorError, ShapeError, UnsupportedOperator
from onnxviz.graph.model import Model, load
from onnxviz.graph.ops import Ops
from onnxviz.testing import check_gradient


def net(inputs: str, body: str, outputs: str = "double[] y", **weights: Sequence[float]) -> Model:
    head = '<ir_version: 10, opset_import: ["": 21, "my.domain": 1]>'
    proto = onnx.parser.parse_model(f"{head} m ({inputs}) => ({outputs}) {{ {body} }}")
    for node in proto.graph.node:
        node.name = f"make {node.output[0]}"
    for name, numbers in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(numbers, np.float64), name))
    return load(proto)


def outputs_of(model: Model) -> list[str]:
    return [value.name for value in model.outputs]


def inputs_of(model: Model) -> list[str]:
    return [value.name for value in model.inputs]


# What the walk computes


@pytest.mark.parametrize(
    "body",
    [
        "b = Exp(x) c = Tanh(x) y = Mul(b, c)",
        "b = Exp(x) y = Mul(b, x)",
        "b = Exp(x) c = Tanh(b) d = Neg(b) e = Mul(c, d) y = Add(e, b)",
        "b = Mul(x, x) c = Mul(b, b) d = Add(c, b) y = Mul(d, x)",
        "y = Sum(x, x, x, x)",
        "b, c, d = Split<num_outputs=3>(x) e = Mul(b, d) f = Exp(c) g = Mul(e, f) y = Mul(g, b)",
    ],
)
def test_paths_add_up(body: str) -> None:
    assert check_gradient(net("double[3] x", body), "y", "x") < 1e-8


def test_two_paths_are_summed_and_not_overwritten() -> None:
    model = gradient(net("double[2] x", "b = Neg(x) c = Add(b, x) y = Add(c, x)"), "y", "x")
    (found,) = run(model, {"x": np.zeros(2), "y_grad": np.array([1.0, 10.0])}).values()
    np.testing.assert_array_equal(found, [1, 10])


def test_every_tensor_can_be_asked_for_at_once() -> None:
    model = net(
        "double[2] x, double[2] z", "h = Mul(x, w) r = Tanh(h) q = Mul(r, z) y = Mul(q, h)", w=[0.5, -3]
    )
    assert check_gradient(model, "y", ["z", "h", "x", "w", "q", "r"]) < 1e-8
    assert outputs_of(gradient(model, "y", ["z", "h", "w"])) == ["z_grad", "h_grad", "w_grad"]


def test_asking_twice_answers_once() -> None:
    model = gradient(net("double[2] x", "y = Exp(x)"), "y", ["x", "x"], keep=["y", "y"])
    assert outputs_of(model) == ["x_grad", "y"]


def test_inner_tensor_is_differentiated_and_what_follows_it_is_gone() -> None:
    model = net("double[2] x", "h = Exp(x) k = Sin(h) y = Neg(k)")
    derived = gradient(model, of="h", wrt="x")
    assert check_gradient(model, "h", "x") < 1e-8
    assert {node.op_type for node in derived.ir_model.graph} & {"Sin", "Neg"} == set()
    assert inputs_of(derived) == ["x", "h_grad"]


def test_tensor_by_itself_is_the_cotangent() -> None:
    derived = gradient(net("double[2] x", "h = Exp(x) y = Neg(h)"), of="h", wrt="h")
    assert derived.cotangent == "h_grad"
    assert derived.gradients == {"h": "h_grad_2"}
    found = run(derived, {"x": np.zeros(2), "h_grad": np.array([3.0, 4.0])})
    np.testing.assert_array_equal(found["h_grad_2"], [3, 4])


def test_what_leads_elsewhere_needs_no_rule() -> None:
    """No path from x to y passes a Sin."""
    model = net("double[2] x, double[2] z", "s = Sin(z) t = Sin(x) y = Mul(x, s)", "double[] y, double[] t")
    without = RuleSet("mine", {name: rule for name, rule in GRADIENT.by_type.items() if name != "Sin"})
    derived = gradient(model, "y", "x", rules=without)
    (found,) = run(derived, {"x": np.zeros(2), "z": np.array([1.0, 2.0]), "y_grad": np.ones(2)}).values()
    np.testing.assert_allclose(found, np.sin([1, 2]))


def test_scalar_takes_no_cotangent() -> None:
    model = net("double[3] x", "e = Mul(x, x) y = ReduceSum<keepdims=0>(e)", "double y")
    derived = gradient(model, "y", "x")
    assert derived.cotangent is None
    assert inputs_of(derived) == ["x"]
    np.testing.assert_allclose(run(derived, {"x": np.array([1.0, 2.0, 3.0])})["x_grad"], [2, 4, 6])


def test_single_number_of_rank_one_takes_a_cotangent() -> None:
    model = net("double[3] x", "e = Mul(x, x) y = ReduceSum(e)")
    derived = gradient(model, "y", "x")
    assert derived.cotangent == "y_grad"
    found = run(derived, {"x": np.array([1.0, 2.0, 3.0]), "y_grad": np.array([10.0])})
    np.testing.assert_allclose(found["x_grad"], [20, 40, 60])


def test_gradient_of_a_gradient() -> None:
    """A smooth net: the Hessian's products against differences of the gradient."""
    model = net(
        "double[2,2,5,5] x",
        "c = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w, b) s = Sigmoid(c) "
        "p = AveragePool<kernel_shape=[2,2]>(s) f = Flatten(p) d = Gemm<transB=1>(f, v) "
        "t = Tanh(d) l = LogSoftmax(t) y = ReduceMean<keepdims=0>(l)",
        "double y",
        w=np.random.default_rng(0).standard_normal((3, 2, 3, 3)),
        b=np.random.default_rng(1).standard_normal(3),
        v=np.random.default_rng(2).standard_normal((4, 12)) / 3,
    )
    first = gradient(model, "y", ["x", "w", "v"])
    assert check_gradient(first, first.gradients["x"], ["x", "w", "b", "v"]) < 1e-7
    assert check_gradient(first, first.gradients["w"], ["x", "w"]) < 1e-7
    second = gradient(first, "x_grad", "x")
    assert second.gradients == {"x": "x_grad_2"}
    assert second.cotangent == "x_grad_grad"
    assert {value.name for value in second.inputs} == {"x", "x_grad_grad"}


def test_third_derivative() -> None:
    model = net("double[1] x", "a = Mul(x, x) b = Mul(a, a) y = ReduceSum<keepdims=0>(b)", "double y")
    for _ in range(3):
        model = gradient(model, outputs_of(model)[0], "x")
    feeds = {name: np.array([2.0 if name == "x" else 1.0]) for name in inputs_of(model)}
    (found,) = run(model, feeds).values()
    np.testing.assert_allclose(found, [48.0])


# Names


def test_taken_names_are_numbered() -> None:
    model = net(
        "double[2] x, double[2] y_grad", "x_grad = Exp(x) x_grad_2 = Neg(x_grad) y = Mul(x_grad_2, y_grad)"
    )
    derived = gradient(model, "y", "x", keep=["x_grad"])
    assert derived.gradients == {"x": "x_grad_3"}
    assert derived.cotangent == "y_grad_2"
    assert inputs_of(derived) == ["x", "y_grad", "y_grad_2"]
    assert outputs_of(derived) == ["x_grad_3", "x_grad"]
    feeds = {"x": np.zeros(2), "y_grad": np.array([5.0, 6.0]), "y_grad_2": np.array([1.0, -1.0])}
    np.testing.assert_array_equal(run(derived, feeds)["x_grad_3"], [-5, 6])


def test_gradients_have_the_types_and_shapes_of_what_they_belong_to() -> None:
    derived = gradient(net("double[N,3] x", "h = Exp(x) y = ReduceSum(h)", w=[1.0]), "y", ["x", "h"])
    assert [(v.name, v.dtype, v.shape) for v in derived.outputs] == [
        ("x_grad", "float64", ("N", 3)),
        ("h_grad", "float64", ("N", 3)),
    ]
    assert [(v.name, v.shape) for v in derived.inputs] == [("x", ("N", 3)), ("y_grad", (1, 1))]


def test_kept_tensors_come_after_the_gradients_and_nothing_else_does() -> None:
    model = net("double[2] x", "h = Exp(x) y = Neg(h) z = Tanh(x)", "double[] y, double[] z", w=[1.0])
    assert outputs_of(gradient(model, "y", "x")) == ["x_grad"]
    derived = gradient(model, "y", "x", keep=["h", "x"])
    assert outputs_of(derived) == ["x_grad", "h", "x"]
    found = run(derived, {"x": np.array([0.0, 1.0]), "y_grad": np.ones(2)})
    np.testing.assert_allclose(found["h"], np.exp([0, 1]))
    np.testing.assert_allclose(found["x_grad"], -np.exp([0, 1]))
    np.testing.assert_allclose(found["x"], [0, 1])


def test_names_survive_a_file(tmp_path: Path) -> None:
    model = net("double[2] x, double[2] z", "y = Mul(x, z)")
    assert (model.gradients, model.cotangent) == ({}, None)
    gradient(model, "y", ["x", "z"]).save(tmp_path / "g.onnx")
    again = load(tmp_path / "g.onnx")
    assert again.gradients == {"x": "x_grad", "z": "z_grad"}
    assert again.cotangent == "y_grad"


def test_model_is_left_as_it_was() -> None:
    model = net("double[2] x", "h = Exp(x) y = Mul(h, w)", w=[1.0, 2.0])
    before = model.serialize()
    gradient(model, "y", ["x", "w"])
    assert model.serialize() == before


def test_input_that_nothing_reads_stays_an_input() -> None:
    model = net("double[2] x, double[2] unused", "y = Exp(x)")
    assert inputs_of(gradient(model, "y", "x")) == ["x", "unused", "y_grad"]


# What is refused, and in which words


@pytest.mark.parametrize("wrt", ["unused", ["x", "unused"]])
def test_input_without_a_path_is_disconnected(wrt: str | list[str]) -> None:
    model = net("double[2] x, double[2] unused", "y = Exp(x)")
    with pytest.raises(DisconnectedError, match=r"^'y' does not depend on 'unused'$"):
        gradient(model, "y", wrt)


def test_backwards_is_disconnected() -> None:
    with pytest.raises(DisconnectedError, match=r"^'h' does not depend on 'y'$"):
        gradient(net("double[2] x", "h = Exp(x) y = Neg(h)"), of="h", wrt="y")


@pytest.mark.parametrize(
    ("body", "blame"),
    [
        ("r = Round(x) y = Exp(r)", r"\(Round node 'make r'\)"),
        ("h = Exp(x) i = Cast<to=7>(h) y = Cast<to=11>(i)", r"\(Cast node 'make y'\)"),
        ("r = Sign(x) s = Floor(x) y = Mul(r, s)", r"\((Floor node 'make s'|, |Sign node 'make r'){3}\)"),
        (
            "s = Shape(x) z = ConstantOfShape<value=double[1]{1}>(s) y = Exp(z)",
            r"\(ConstantOfShape node 'make z'\)",
        ),
    ],
)
def test_gradient_that_is_zero_everywhere_is_an_error(body: str, blame: str) -> None:
    message = (
        "^the gradient of 'y' with respect to 'x' is zero everywhere: "
        f"every path between them passes a step function or a shape {blame}$"
    )
    with pytest.raises(DisconnectedError, match=message):
        gradient(net("double[2] x", body), "y", "x")


def test_only_the_steps_behind_the_source_are_blamed() -> None:
    model = net("double[2] x, double[2] z", "r = Round(x) s = Ceil(z) t = Mul(r, s) y = Mul(t, z)")
    with pytest.raises(DisconnectedError, match=r"with respect to 'x' .*\(Round node 'make r'\)$"):
        gradient(model, "y", ["z", "x"])


@pytest.mark.parametrize(
    "body",
    [
        "s = Shape(x) y = Reshape(x, s)",
        "s = Shape(x) z = ConstantOfShape<value=double[1]{2}>(s) y = Mul(x, z)",
        "r = Round(x) y = Mul(r, x)",
        "i = Cast<to=7>(x) j = Cast<to=11>(i) y = Mul(j, x)",
    ],
)
def test_zero_beside_a_gradient_is_fine(body: str) -> None:
    assert check_gradient(net("double[2] x", body), "y", "x") < 1e-8


def test_operator_without_a_rule_is_named_with_the_ways_out() -> None:
    model = net("double[2] x", "h = my.domain.Odd(x) y = Exp(h)")
    message = (
        "no 'gradient' rule for operator my.domain::Odd (node 'make h'); use the numerical route "
        "(--gradient numeric), or register a rule with @vjp('my.domain::Odd')"
    )
    with pytest.raises(UnsupportedOperator, match=f"^{re.escape(message)}$"):
        gradient(load_with_shape(model, "h"), "y", "x")


def load_with_shape(model: Model, name: str) -> Model:
    proto = model.proto()
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [2]))
    return load(proto)


def test_answer_that_is_not_written_is_an_error_only_where_it_matters() -> None:
    def data_only(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
        return [op.Mul(g, node.inputs[1]), None]

    rules = GRADIENT.override("mine", {"Mul": data_only})
    model = net("double[2] x", "y = Mul(x, w)", w=[2.0, 3.0])
    (found,) = run(gradient(model, "y", "x", rules=rules), {"x": np.ones(2), "y_grad": np.ones(2)}).values()
    np.testing.assert_array_equal(found, [2, 3])
    message = (
        r"^the 'mine' rule for Mul \(node 'make y'\) has no gradient for its input 'w', "
        r"which leads to what is asked for$"
    )
    with pytest.raises(UnsupportedOperator, match=message):
        gradient(model, "y", ["x", "w"], rules=rules)
    with pytest.raises(UnsupportedOperator, match="has no gradient for its input 'x'"):
        gradient(net("double[2] x", "y = Mul(x, x)"), "y", "x", rules=rules)


def test_rule_of_the_wrong_arity_fails() -> None:
    rules = GRADIENT.override("mine", {"Mul": lambda _op, _node, g: [g]})
    with pytest.raises(ValueError, match="zip"):
        gradient(net("double[2] x, double[2] z", "y = Mul(x, z)"), "y", "x", rules=rules)


def test_zero_for_a_whole_input_counts_as_stopped() -> None:
    rules = GRADIENT.override("mine", {"Exp": lambda _op, _node, _g: [ZERO]})
    with pytest.raises(DisconnectedError, match=r"\(Exp node 'make y'\)"):
        gradient(net("double[2] x", "y = Exp(x)"), "y", "x", rules=rules)


CAPTURED = (
    "b = If(c) <then_branch = t () => (double[2] u) { u = Exp(x) }, "
    "else_branch = e () => (double[2] v) { v = Neg(x) }> "
)


def test_branch_beside_the_path_is_carried_along() -> None:
    model = net("double[2] x, double[2] z, bool c", CAPTURED.replace("(x)", "(z)") + "y = Mul(b, x)")
    assert check_gradient(model, "y", "x", inputs={"c": False}) < 1e-8


@pytest.mark.parametrize(("of", "name"), [("i", "i"), ("b", "b")])
def test_target_without_floats_is_refused(of: str, name: str) -> None:
    model = net("double[2] x, int64[1] n", "i = Cast<to=7>(x) b = Greater(x, x) y = Expand(x, n)")
    with pytest.raises(ShapeError, match=f"^tensor '{name}' does not hold floats, so it has no gradient$"):
        gradient(model, of, "x")


def test_shape_has_no_gradient() -> None:
    model = net("double[2] x, int64[1] n", "y = Expand(x, n)")
    with pytest.raises(DisconnectedError, match=r"a step function or a shape \(Expand node .make y.\)"):
        gradient(model, "y", ["x", "n"])


def test_function_body_reads_weights() -> None:
    model = net("double[2,3] x", "y = LayerNormalization(x, w)", w=[1.5, -0.5, 2])
    assert check_gradient(model, "y", "x") < 1e-7


@pytest.mark.parametrize(
    ("inputs", "body", "taken_at"),
    [
        ("int64[2] i", "r = Neg(i) f = Cast<to=11>(r) y = Exp(f)", "f"),
        ("int64[2] i, double[5,3] t", "j = Add(i, i) b = Equal(i, j) f = Gather(t, j) y = Exp(f)", "f"),
        ("uint8[2] i", "s = Constant<value=double{0.5}>() f = DequantizeLinear(i, s) y = Exp(f)", "f"),
    ],
)
def test_gradient_of_integers_is_taken_at_the_first_floats(inputs: str, body: str, taken_at: str) -> None:
    model = net(inputs, body)
    derived = gradient(model, "y", "i")
    assert (derived.gradients, derived.taken_at) == ({"i": "i_grad"}, {"i": taken_at})
    same = gradient(model, "y", taken_at)
    feeds = {"i": np.array([1, 2], np.int64 if "int64" in inputs else np.uint8)}
    if "t" in [value.name for value in model.inputs]:
        feeds["t"] = np.linspace(-1, 1, 15).reshape(5, 3)
    shape = (2, 3) if "t" in feeds else (2,)
    feeds["y_grad"] = np.ones(shape)
    want = run(gradient(model, "y", taken_at), feeds)[same.gradients[taken_at]]
    np.testing.assert_array_equal(run(derived, feeds)["i_grad"], want)
    np.testing.assert_allclose(want, run(load(model), {k: v for k, v in feeds.items() if k != "y_grad"})["y"])


def test_several_floats_behind_integers_are_named() -> None:
    model = net("int64[2] i", "f = Cast<to=11>(i) g = Cast<to=1>(i) h = Cast<to=11>(g) y = Add(f, h)")
    with pytest.raises(SelectorError, match=r"ask for one of them: 'f', 'g'"):
        gradient(model, "y", "i")


@pytest.mark.parametrize(
    ("of", "wrt", "keep", "message"),
    [
        ("why", "x", [], "no tensor 'why'"),
        ("y", "hidde", [], r"no tensor 'hidde' in this model; did you mean 'hidden'\?"),
        ("y", ["x", "hidde"], [], r"did you mean 'hidden'\?"),
        ("y", "x", ["hidde"], r"did you mean 'hidden'\?"),
    ],
)
def test_unknown_tensor_suggests(of: str, wrt: str | list[str], keep: list[str], message: str) -> None:
    with pytest.raises(SelectorError, match=message):
        gradient(net("double[2] x", "hidden = Exp(x) y = Neg(hidden)"), of, wrt, keep=keep)


def test_unknown_rule_set_suggests() -> None:
    message = (
        r"^no rule set 'guided-backprob'; did you mean 'guided-backprop'.*\?; there are auto, gradient, "
    )
    with pytest.raises(SelectorError, match=message):
        gradient(net("double[2] x", "y = Exp(x)"), "y", "x", rules="guided-backprob")


def test_unknown_rank_says_what_to_give() -> None:
    model = net("double[] x, double[2] z", "t = Transpose(x) y = Mul(t, z)")
    with pytest.raises(
        ShapeError, match=r"the rank of tensor '[xy]' is unknown; give the model's input a shape"
    ):
        gradient(model, "y", "x")


def test_broadcasting_of_unknown_ranks_is_undone_when_it_runs() -> None:
    model = net("double[] x, double[2,3] z", "y = Mul(x, z)")
    for array in (
        np.array([[2.0], [3.0]]),
        np.arange(3.0),
        np.array(2.0),
        np.ones((4, 1, 1)),
        np.ones((2, 3)),
    ):
        assert check_gradient(model, "y", ["x", "z"], inputs={"x": array}) < 1e-8
